"""The raw timings of a run, made small enough to draw: a histogram and a timeline a Record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay.core.errors import BadInput
from assay.core.record import Record
from assay.core.stats import Vector
from assay.measure.raw import load_raw
from assay.present.series import Series

BINS = 48
STRETCHES = 160
MOST_SERIES = 400
_KINDS = ("measure", "confirm")


def series_of(folder: Path, records: Sequence[Record]) -> dict[str, Series]:
    """By record id; a file that is missing or was changed since gives a Series with the reason.

    At most ``MOST_SERIES`` are drawn, the first ones, which keeps a report of many runs small.
    """
    timed = [r for r in records if r.kind in _KINDS and r.raw is not None and r.raw.unit == "s"]
    return {record.id: _series(folder, record) for record in timed[:MOST_SERIES]}


def _series(folder: Path, record: Record) -> Series:
    assert record.raw is not None
    try:
        values, warmup = load_raw(folder, record.raw)
    except BadInput as error:
        return Series(reason=error.message.replace(f"{folder}/", ""))
    return condense(values[~warmup], int(warmup.sum()))


def condense(values: Vector, warmup: int = 0) -> Series:
    """Histogram with equal steps on a logarithmic axis, and the smallest, median and largest call of each
    of at most ``STRETCHES`` stretches.  Seconds; calls of no duration cannot be drawn so and are a reason."""
    if not len(values):
        return Series(warmup=warmup, reason="no call was timed")
    if not np.isfinite(values).all() or values.min() <= 0:
        return Series(n=len(values), warmup=warmup, reason="some timings are not positive numbers")
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low, high, BINS + 1) if high > low else np.array([low * 0.99, low * 1.01])
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    counts, _ = np.histogram(values, edges)
    stretches = np.array_split(np.arange(len(values)), min(STRETCHES, len(values)))
    timeline = tuple(
        (int(at[0]), float(values[at].min()), float(np.median(values[at])), float(values[at].max())) for at in stretches
    )
    return Series(tuple(map(float, edges)), tuple(map(int, counts)), timeline, len(values), warmup)
