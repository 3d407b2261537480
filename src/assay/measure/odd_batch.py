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

    A dip that is gone was the machine; one that stays belongs to the model and the engine.  A size that could not
    be measured again keeps its first measurement.
    """
    second = {_batch(r): r for r in again}
    fresh = {batch: r for batch, r in second.items() if r.value(_NAME) is not None}
    merged = [fresh.get(_batch(r), r) for r in records]
    dips = dict(_dips(merged))
    found = []
    for first, record in zip(records, merged, strict=True):
        batch = _batch(record)
        if batch in second:
            text = f"odd batch: {_said(first, second[batch], dips.get(batch))}"
            record = replace(record, warnings=(*record.warnings, text))
        found.append(record)
    return found


def _said(first: Record, second: Record, best: int | None) -> str:
    """``best`` is the faster smaller size that is left; None where the dip is gone."""
    batch, rate = _batch(first), first.value(_NAME)
    was = f"{format_rate(rate)}/s" if rate is not None else "nothing"
    if second.value(_NAME) is None:
        return f"{batch} gave {was} and could not be measured again ({second.reason or 'no rate'})"
    if best is None:
        return f"{batch} gave {was} at first, but not when measured again: a disturbance of the machine"
    return (
        f"{batch} is slower than {best} in two measurements (the first gave {was}); likely the working set of {batch} "
        "rows no longer fits a cache, or the engine chose another kernel or padding for it: use batch "
        f"{best}, or look at the engine's own profile"
    )


def _batch(record: Record) -> int:
    return int(record.conditions["batch"])


def _dips(records: Sequence[Record]) -> list[tuple[int, int]]:
    """(odd size, the best smaller size)."""
    best: Record | None = None
    found = []
    for record in sorted(records, key=_batch):
        rate = record.value(_NAME)
        if rate is None:
            continue
        if best is not None and _below(record, best):
            found.append((_batch(record), _batch(best)))
        if best is None or rate > (best.value(_NAME) or 0.0):
            best = record
    return found


def _below(record: Record, best: Record) -> bool:
    figure, top = record.figures[_NAME], best.figures[_NAME]
    assert figure.value is not None and top.value is not None
    apart = figure.high is None or top.low is None or figure.high < top.low
    return figure.value < (1 - DIP) * top.value and apart
