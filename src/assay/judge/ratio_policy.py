"""Rules between devices as data: ``[[speed_ratio]]`` in a policy file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from assay.core.errors import BadInput
from assay.judge.cases import CATEGORIES
from assay.judge.toml_table import JUDGE_BY, Table


@dataclass(frozen=True)
class SpeedRatio:
    """``device`` is to be at least ``at_least`` times as fast as ``over``.

    ``batch``: ``best`` compares each device's best batch size, ``every`` wants the ratio at each batch size
    both were measured at, a number at that one.  ``allow`` are conditions that may differ; they are named
    in the verdict.
    """

    name: str
    device: str
    over: str
    at_least: float
    batch: str | int = "best"
    judge_by: str = "point"
    allow: tuple[str, ...] = ()


def speed_ratios(source: str, tables: Any) -> tuple[SpeedRatio, ...]:
    """Read every ``[[speed_ratio]]``.  Raises BadInput with the file, the key and what it must be."""
    if not isinstance(tables, list):
        raise BadInput(f"{source}: speed_ratio is a list of tables", remedy="write each one as [[speed_ratio]]")
    return tuple(_ratio(Table(source, "speed_ratio", table)) for table in tables)


def _ratio(table: Table) -> SpeedRatio:
    table.known(*(f.name for f in fields(SpeedRatio)))
    device, over = _named(table, "device"), _named(table, "over")
    if device == over:
        raise table.wrong("over", "another device than the rule's own")
    at_least = table.number("at_least")
    if not at_least:
        raise BadInput(f"{table.source}: [[speed_ratio]] needs at_least", remedy="at_least = 1.2")
    name = table.text("name", "a text") or f"{device} \u2265 {at_least:g} \u00d7 {over}"
    return SpeedRatio(
        name, device, over, at_least, _batch(table), table.choice("judge_by", JUDGE_BY, "point"), _allow(table)
    )


def _named(table: Table, key: str) -> str:
    found = table.text(key, "a device's name")
    if found is None:
        raise BadInput(f"{table.source}: [[speed_ratio]] needs {key}", remedy=f'{key} = "310P"')
    return found


def _batch(table: Table) -> str | int:
    if table.values.get("batch") == "every":
        return "every"
    return table.batch("batch", None, "best") or "best"


def _allow(table: Table) -> tuple[str, ...]:
    values: Mapping[str, Any] = table.values
    found = values.get("allow", [])
    if not isinstance(found, list) or not all(name in CATEGORIES for name in found):
        raise table.wrong("allow", f"a list of conditions out of {', '.join(CATEGORIES)}")
    return tuple(found)
