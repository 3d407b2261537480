"""Is it the same model?  Four answers, each with its figures.

* ``equal``: every value is the same.
* ``within format cost``: the error is what the number format must cost on this network.
* ``suspicious``: more than that, up to ``WRONG_FACTOR`` times as much.
* ``wrong``: beyond; or half of the signal is gone; or something cannot be compared at all.

The limit of an output is ``SAFETY[precision]`` times the largest of the reference's own error
(the noise floor), what the format costs when its rounding is put into the reference, and half a unit of
fp32; and no row may be off by more than ``ROW_FACTOR`` limits of its own.  Without a measured
cost the bound from format and depth stands in (judge/tolerance.py), which is looser.

A quantised file whose scales can be read has two limits (measure/quantised.py): ``ENGINE_SAFETY`` times what roundings
that fall the other way cost, for the engine against the exactly evaluated file; and for the file against the
truth ``ROUNDING_SAFETY`` times what its random rounding costs plus ``CUT_SAFETY`` times what its ranges cut off.

The safety factors are as small as healthy engines allow: over the runs of ``benchmarks/false_alarms.py``
the largest error found is printed as a share of its limit.  fp32 needs the largest one because
Winograd and fused kernels do other arithmetic than the sums in another order that its cost is
measured by; int8 because engines take their ranges from other samples than the batch itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from assay.core.compare import Measures
from assay.core.verdict import Reason
from assay.judge.tolerance import CEILING, LIMIT, Compared, Tolerance, judge_numeric

EQUAL, WITHIN_COST, SUSPICIOUS, WRONG = "equal", "within format cost", "suspicious", "wrong"
ACCEPTED = (EQUAL, WITHIN_COST, "within tolerance")
"""``within tolerance`` is what records of the first version say."""

SAFETY = {"fp64": 8.0, "fp32": 8.0, "tf32": 2.5, "bf16": 2.5, "fp16": 2.5, "int8": 3.0}
ROW_FACTOR = 2.0
WRONG_FACTOR = 2.0
_LEAST = 2.0**-24

WHOLE, FILE, ENGINE = "whole", "file", "engine"
ENGINE_SAFETY = 4.0
"""Over how an int8 engine may differ from the exactly evaluated file: its roundings fall the other way near ties."""
ROUNDING_SAFETY, CUT_SAFETY = 2.5, 1.5
"""Over what a quantised file must cost: its rounding is estimated from two draws, its cutting is measured as it is."""


class OutputCost(Protocol):
    """See measure.truth.Cost."""

    @property
    def floor(self) -> float: ...

    @property
    def floor_row(self) -> float: ...

    @property
    def format(self) -> float: ...

    @property
    def format_row(self) -> float: ...


class SplitEvidence(Protocol):
    """See measure.truth.Split."""

    @property
    def precision(self) -> str: ...

    @property
    def candidate(self) -> Mapping[int, Mapping[str, Measures]]: ...

    @property
    def costs(self) -> Mapping[str, Any]: ...

    @property
    def missing(self) -> str | None: ...

    @property
    def quantised(self) -> Any:
        """See measure.quantised.Quantised; None for what is not quantised."""


@dataclass(frozen=True)
class Share:
    """One output at one batch size: its error, what of it is due, and the rest (relative rms, in quadrature).

    ``share`` is the error over the limit, the larger of whole output and worst row.  ``part`` says whether it is the
    error of the whole candidate, of a quantised file against the truth, or of the engine against the file.
    """

    batch: int
    output: str
    error: float
    due: float
    rest: float
    share: float
    worst_row: float
    row_limit: float | None
    row: int | None
    floor: float | None = None
    cost: float | None = None
    part: str = WHOLE

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


@dataclass(frozen=True)
class Judged:
    """``detectable`` is the smallest relative error that would have been called suspicious."""

    name: str
    reason: Reason
    shares: tuple[Share, ...] = ()
    detectable: float | None = None

    @property
    def accepted(self) -> bool:
        return self.name in ACCEPTED

    def to_json(self) -> dict[str, Any]:
        return {
            "class": self.name,
            "judged": self.reason.to_json(),
            "shares": [s.to_json() for s in self.shares],
            "detectable": self.detectable,
        }


def classify(result: Compared, allowed: Tolerance, split: SplitEvidence | None = None) -> Judged:
    """Hold every output at every batch size to its limit; the worst one decides.

    ``allowed`` is the bound from format and depth, or the user's own atol and rtol, which then
    decide alone.  Pure; never passes what failed to be compared.
    """
    plain = judge_numeric(result, allowed)
    rows = [m for outputs in result.outputs.values() for m in outputs.values()]
    broken = result.failures or not rows or any(m.bad_reference or m.bad_candidate or not m.n for m in rows)
    if broken:
        return Judged(WRONG, _with_rows(plain, result))
    if all(m.max_abs == 0 for m in rows):
        return Judged(EQUAL, plain)
    if allowed.max_relative_rms is None:
        return Judged(WITHIN_COST if plain.state == "passed" else WRONG, plain)
    shares = tuple(_shares(result, allowed, split))
    worst = max(shares, key=lambda s: s.share)
    name = _class(worst)
    state = "passed" if name == WITHIN_COST else "failed"
    return Judged(name, Reason(LIMIT, state, _text(worst, split)), shares, _detectable(shares))


def _detectable(shares: tuple[Share, ...]) -> float:
    """The smallest limit of the part with the largest: so small an error would have been seen wherever it is."""
    return max(min(s.due for s in shares if s.part == part) for part in {s.part for s in shares})


def _with_rows(plain: Reason, result: Compared) -> Reason:
    """Name the samples that hold NaN or infinity in the output that is spoken of."""
    for outputs in result.outputs.values():
        for name, m in outputs.items():
            if m.bad_rows and f"output {name!r}" in plain.text:
                shown = ", ".join(str(r) for r in m.bad_rows[:5]) + (", …" if len(m.bad_rows) > 5 else "")
                return Reason(plain.limit, plain.state, f"{plain.text}; in row {shown}")
    return plain


def _shares(result: Compared, allowed: Tolerance, split: SplitEvidence | None) -> Iterator[Share]:
    for batch, outputs in result.outputs.items():
        for name, against_reference in outputs.items():
            cost = split.costs.get(name) if split is not None else None
            exact = split.candidate.get(batch, {}).get(name) if split is not None else None
            if split is not None and split.quantised is not None:
                parts = list(_quantised(batch, name, split.quantised))
                yield from parts
                if all(part.part != FILE for part in parts):
                    yield _bounded(batch, name, against_reference, allowed)
                continue
            if split is None or cost is None or exact is None:
                yield _bounded(batch, name, against_reference, allowed)
            else:
                yield _measured(batch, name, exact, cost, split.precision)


def _bounded(batch: int, name: str, m: Measures, allowed: Tolerance) -> Share:
    due = allowed.max_relative_rms or 0.0
    error = m.relative_rms
    return Share(batch, name, error, due, _rest(error, due), error / due, m.worst_row, None, m.worst_row_index)


def _measured(batch: int, name: str, m: Measures, cost: OutputCost, precision: str) -> Share:
    safety = SAFETY[precision]
    due = min(CEILING, safety * max(cost.floor, cost.format, _LEAST))
    row_due = min(1.0, safety * ROW_FACTOR * max(cost.floor_row, cost.format_row, _LEAST))
    error = m.relative_rms
    share = max(error / due, m.worst_row / row_due)
    rest = _rest(error, due)
    return Share(batch, name, error, due, rest, share, m.worst_row, row_due, m.worst_row_index, cost.floor, cost.format)


def _quantised(batch: int, name: str, found: Any) -> Iterator[Share]:
    """The engine against the file, and the file against the truth."""
    engine, own = found.engine.get(batch, {}).get(name), found.engine_costs.get(name)
    if engine is not None and own is not None:
        due = min(CEILING, ENGINE_SAFETY * max(own.rounding, _LEAST))
        row_due = min(1.0, ENGINE_SAFETY * ROW_FACTOR * max(own.rounding_row, _LEAST))
        yield _part(ENGINE, (batch, name), engine, (due, row_due, own.rounding))
    file, cost = found.file.get(name), found.file_costs.get(name)
    if file is not None and cost is not None:
        due = file_due(cost)
        row_due = ROW_FACTOR * (ROUNDING_SAFETY * max(cost.rounding_row, _LEAST) + CUT_SAFETY * cost.cutting_row)
        yield _part(FILE, (batch, name), file, (due, min(1.0, row_due), math.hypot(cost.rounding, cost.cutting)))


def file_due(cost: Any) -> float:
    """The limit of a quantised file against the truth (relative rms); ``cost`` is a measure.quantised.PartCost."""
    due: float = ROUNDING_SAFETY * max(cost.rounding, _LEAST) + CUT_SAFETY * cost.cutting
    return min(CEILING, due)


def _part(part: str, place: tuple[int, str], m: Measures, limits: tuple[float, float, float]) -> Share:
    due, row_due, cost = limits
    share = max(m.relative_rms / due, m.worst_row / row_due)
    rest = _rest(m.relative_rms, due)
    batch, name = place
    row = m.worst_row_index
    return Share(batch, name, m.relative_rms, due, rest, share, m.worst_row, row_due, row, None, cost, part)


def _rest(error: float, due: float) -> float:
    return math.sqrt(max(0.0, error * error - due * due)) if math.isfinite(error) else math.inf


def _class(worst: Share) -> str:
    if worst.share <= 1:
        return WITHIN_COST
    return WRONG if worst.share > WRONG_FACTOR or worst.error >= CEILING else SUSPICIOUS


def _text(worst: Share, split: SplitEvidence | None) -> str:
    where = f"output {worst.output!r} at batch {worst.batch}"
    if split is not None and worst.part != WHOLE:
        return f"{where}: {_part_text(worst, split.quantised)}{_row_text(worst)}"
    if worst.cost is None or split is None:
        why = f" ({split.missing})" if split is not None and split.missing else ""
        return (
            f"{where}: relative rms error {worst.error:.2g} against the reference, "
            f"limit {worst.due:.2g} from format and depth{why}"
        )
    text = (
        f"{where}: relative rms error {worst.error:.2g} against the float64 truth; the reference's own is "
        f"{worst.floor:.2g}, {split.precision} must cost {worst.cost:.2g}, limit {worst.due:.2g}"
    )
    return text + _row_text(worst)


def _row_text(worst: Share) -> str:
    if worst.row_limit is None or worst.worst_row / worst.row_limit <= worst.error / worst.due:
        return ""
    return f"; worst row {worst.row}: {worst.worst_row:.2g}, limit {worst.row_limit:.2g}"


def _part_text(worst: Share, found: Any) -> str:
    if worst.part == ENGINE:
        return (
            f"the engine's result lies {worst.error:.2g} (relative rms) from what the quantised file says, evaluated "
            f"exactly; rounding the other way costs {worst.cost:.2g}, limit {worst.due:.2g}"
        )
    cost = found.file_costs[worst.output]
    text = (
        f"the quantised file lies {worst.error:.2g} (relative rms) from the float64 truth; by its scales rounding "
        f"costs {cost.rounding:.2g} and cutting off {cost.cutting:.2g}, limit {worst.due:.2g}"
    )
    if found.narrow and worst.share > 1:
        text += f"; {found.narrow[0]} (calibrated on other data?)"
    return text
