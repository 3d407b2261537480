"""Stage by stage: the first step on the way from reference to candidate that adds error beyond its due."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.compare import compare
from assay.core.errors import AssayError, BadInput
from assay.core.tensors import Array, Feed

Outputs = Mapping[str, Array]
Run = Callable[[Feed], Outputs]

GOOD, GUILTY, FAILED = "within its due", "beyond its due", "failed"


@dataclass(frozen=True)
class Stage:
    """``parent`` is the place of the stage it was made from (None: it is the reference).

    ``due`` is the relative rms error it may add to its parent's outputs.
    """

    name: str
    run: Run
    parent: int | None
    due: float


@dataclass(frozen=True)
class StageRow:
    """``added`` is the error against the parent, ``total`` that against the reference (relative rms of the worst
    output); ``output`` is where the added error is largest."""

    name: str
    state: str
    added: float | None
    due: float
    total: float | None
    output: str | None = None
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def walk(stages: Sequence[Stage], feeds: Sequence[Feed]) -> tuple[StageRow, ...]:
    """Run every stage on every feed; the first stage is the reference.

    A stage that fails is a row that says so; stages made from it are then held against its nearest
    ancestor that ran.  Raises BadInput for no feeds: every stage would agree.
    """
    if not feeds:
        raise BadInput("there is nothing to feed: stages are compared by what they give")
    rows: list[StageRow] = []
    outputs: list[list[Outputs] | None] = []
    for stage in stages:
        try:
            found: list[Outputs] | None = [stage.run(feed) for feed in feeds]
            text = ""
        except AssayError as error:
            found, text = None, error.message
        outputs.append(found)
        rows.append(_row(stage, found, text, (stages, outputs)))
    return tuple(rows)


def guilty(rows: Sequence[StageRow]) -> int | None:
    """The place of the first stage that failed or went beyond its due."""
    return next((i for i, row in enumerate(rows) if row.state != GOOD), None)


def _row(
    stage: Stage,
    found: list[Outputs] | None,
    text: str,
    before: tuple[Sequence[Stage], Sequence[list[Outputs] | None]],
) -> StageRow:
    stages, outputs = before
    if found is None:
        return StageRow(stage.name, FAILED, None, stage.due, None, None, text)
    if stage.parent is None:
        return StageRow(stage.name, GOOD, 0.0, stage.due, 0.0)
    parent: int | None = stage.parent
    while parent is not None and outputs[parent] is None:
        parent = stages[parent].parent
    base = outputs[parent] if parent is not None else None
    if base is None or outputs[0] is None:
        return StageRow(stage.name, FAILED, None, stage.due, None, None, "there is nothing to compare it with")
    added, where = worst(base, found)
    total, _ = worst(outputs[0], found)
    state = GOOD if added <= stage.due else GUILTY
    return StageRow(stage.name, state, added, stage.due, total, where, _said(added))


def _said(added: float) -> str:
    return "NaN or infinity, outputs of other names or shapes, or none at all" if math.isinf(added) else ""


def worst(expected: Sequence[Outputs], found: Sequence[Outputs]) -> tuple[float, str | None]:
    """The largest relative rms error over outputs and feeds, and its output; infinite for what cannot be compared,
    and where there is nothing to compare."""
    largest, where = 0.0, None
    for a, b in zip(expected, found, strict=True):
        for name, array in a.items():
            error = relative_error(array, b.get(name))
            if error > largest or where is None:
                largest, where = error, name
    return (math.inf, None) if where is None else (largest, where)


def relative_error(expected: Array, found: Array | None) -> float:
    """Relative rms; the share of elements that differ for integers and booleans; infinite where not comparable."""
    if found is None or expected.shape != found.shape:
        return math.inf
    if not expected.size:
        return 0.0
    if expected.dtype == object or expected.dtype.kind in "iub":
        return float((expected != found).mean())
    m = compare({"y": expected}, {"y": found})["y"]
    if m.nan_candidate != m.nan_reference or m.bad_candidate != m.bad_reference:
        return math.inf
    return m.relative_rms if m.n else 0.0
