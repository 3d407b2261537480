"""Odd batches: sizes at which throughput falls although it was higher at smaller sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assay.core.record import Record
from assay.core.units import format_rate

DIP = 0.05
_NAME = "throughput"


def odd_batches(records: Sequence[Record]) -> tuple[int, ...]:
    """Batch sizes whose throughput lies more than 5 % below that of the best smaller size.

    Where both have intervals, these must be apart too.
    """
    return tuple(batch for batch, _ in _dips(records))


def curve_warnings(records: Sequence[Record], again: Sequence[Record]) -> list[Record]:
    """``records`` with those of ``again`` (the odd sizes, measured afresh) in their place, and a warning each.

    A dip that is gone was the machine; one that stays belongs to the model and the engine.
    """
    fresh = {int(r.conditions["batch"]): r for r in again}
    before = {int(r.conditions["batch"]): r.value(_NAME) for r in records}
    merged = [fresh.get(int(r.conditions["batch"]), r) for r in records]
    dips = dict(_dips(merged))
    found = []
    for record in merged:
        batch = int(record.conditions["batch"])
        if batch not in fresh:
            found.append(record)
            continue
        first = before[batch]
        was = f"{format_rate(first)}/s" if first is not None else "nothing"
        if batch in dips:
            best = dips[batch]
            text = (
                f"odd batch: {batch} is slower than {best} in two measurements (the first gave {was}); likely the "
                f"working set of {batch} rows no longer fits a cache, or the engine chose another kernel or padding "
                f"for it: use batch {best}, or look at the engine's own profile"
            )
        else:
            text = f"odd batch: {batch} gave {was} at first, but not when measured again: a disturbance of the machine"
        found.append(replace(record, warnings=(*record.warnings, text)))
    return found


def _dips(records: Sequence[Record]) -> list[tuple[int, int]]:
    """(odd size, the best smaller size)."""
    best: Record | None = None
    found = []
    for record in sorted(records, key=lambda r: int(r.conditions["batch"])):
        rate = record.value(_NAME)
        if rate is None:
            continue
        if best is not None and _below(record, best):
            found.append((int(record.conditions["batch"]), int(best.conditions["batch"])))
        if best is None or rate > (best.value(_NAME) or 0.0):
            best = record
    return found


def _below(record: Record, best: Record) -> bool:
    figure, top = record.figures[_NAME], best.figures[_NAME]
    assert figure.value is not None and top.value is not None
    apart = figure.high is None or top.low is None or figure.high < top.low
    return figure.value < (1 - DIP) * top.value and apart
