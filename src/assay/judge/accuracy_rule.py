"""Accuracy rules on figures of several origins as data: ``[[accuracy_drop]]`` in a policy file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from assay.core.errors import BadInput
from assay.judge.toml_table import JUDGE_BY, Table

PUBLISHED = "published"
KINDS = ("absolute", "relative")
_FRACTIONS = ("accuracy.", "error")
"""How figures begin that are read in percent."""


@dataclass(frozen=True)
class AccuracyDrop:
    """``figure`` of every evaluation (on ``device``, where one is named) may lie at most ``max_drop`` below that
    of ``over``: the published value, or another device's.

    ``kind``: ``absolute`` counts in the figure's own unit (a fraction, so that 0.01 is one point), ``relative``
    in shares of ``over``'s value.
    """

    name: str
    max_drop: float
    over: str = PUBLISHED
    device: str | None = None
    figure: str = "accuracy.top1"
    kind: str = "absolute"
    judge_by: str = "point"


def accuracy_drops(source: str, tables: Any) -> tuple[AccuracyDrop, ...]:
    """Read every ``[[accuracy_drop]]``.  Raises BadInput with the file, the key and what it must be."""
    if not isinstance(tables, list):
        raise BadInput(f"{source}: accuracy_drop is a list of tables", remedy="write each one as [[accuracy_drop]]")
    return tuple(_rule(Table(source, "accuracy_drop", table)) for table in tables)


def _rule(table: Table) -> AccuracyDrop:
    table.known(*(f.name for f in fields(AccuracyDrop)))
    limit = table.number("max_drop")
    if limit is None:
        raise BadInput(f"{table.source}: [[accuracy_drop]] needs max_drop", remedy='max_drop = "1%"')
    over, device = table.text("over", "a text") or PUBLISHED, table.text("device", "a text")
    if device == over:
        raise table.wrong("over", "another device than the rule's own")
    figure = table.text("figure", "a text") or "accuracy.top1"
    kind = table.choice("kind", KINDS, "absolute")
    in_percent = kind == "relative" or figure.startswith(_FRACTIONS)
    shown = f"{100 * limit:g} {'%' if kind == 'relative' else 'points'}" if in_percent else f"{limit:g}"
    name = table.text("name", "a text") or f"{device or 'every device'}: {figure} within {shown} of {over}"
    return AccuracyDrop(name, limit, over, device, figure, kind, table.choice("judge_by", JUDGE_BY, "point"))
