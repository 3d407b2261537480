"""Measurement: what pressing a session gave, and how its figures follow from the timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from assay.core.errors import BadInput
from assay.core.record import Figure, withheld
from assay.core.stats import (
    Interval,
    Vector,
    mean_interval,
    needed_for_percentile,
    percentile_effective_size,
    percentile_interval,
)
from assay.core.tensors import Array, Feed, Signature
from assay.core.units import Seconds, format_seconds
from assay.core.workload import StopRule, Workload
from assay.measure.series import label, warmup_end

PERCENTILES = {"latency.p50": 0.5, "latency.p90": 0.9, "latency.p99": 0.99}
SHORT_S = 0.2


@dataclass(frozen=True, eq=False)
class Measurement:
    """Figures with their intervals, and the series they came from.

    ``values`` are seconds per call in the order the calls ended, warm-up first; ``warmup`` marks the
    calls that count for nothing.  ``columns`` has more about every call of ``values``, in seconds from
    the start of its phase.  ``label`` is one of series.LABELS.
    """

    figures: Mapping[str, Figure]
    values: Vector
    warmup: Array
    label: str
    label_reason: str
    warnings: tuple[str, ...]
    conditions: Mapping[str, Any]
    columns: Mapping[str, Vector] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def warmup_calls(self) -> int:
        return int(self.warmup.sum())

    @property
    def counted(self) -> Vector:
        """The seconds per call that the figures are made of."""
        return self.values[~self.warmup]


@dataclass(frozen=True, eq=False)
class Analysis:
    """What a timed series says: how many leading calls are warm-up, and the figures of the others.

    ``settled`` is False when half the series was not warm-up enough: then no figure has an interval.
    """

    dropped: int
    settled: bool
    figures: Mapping[str, Figure]
    label: str
    reason: str


def analyse(seconds: Vector, stop: StopRule) -> Analysis:
    """Cut the warm-up, then take percentiles, mean and label of what is left.  ``seconds`` is not empty."""
    cut = warmup_end(seconds)
    counted = seconds[cut.dropped :]
    figures = latency_figures(counted)
    name, reason = label(counted, stop)
    if not cut.settled:
        reason = f"after {cut.dropped} of {len(seconds)} calls the warm-up had not ended: it still gets faster"
        return Analysis(cut.dropped, False, {n: unbounded(f, reason) for n, f in figures.items()}, "drifting", reason)
    return Analysis(cut.dropped, True, figures, name, reason)


def unbounded(figure: Figure, reason: str) -> Figure:
    """The figure without its interval, and why."""
    return replace(figure, low=None, high=None, confidence=None, reason=figure.reason or f"no interval: {reason}")


def check_feeds(signature: Signature, feeds: Sequence[Feed], workload: Workload) -> None:
    """Raise BadInput for no feeds, or for feeds that do not have the rows the workload states."""
    check_rows(signature, feeds, workload.batch)


def check_rows(signature: Signature, feeds: Sequence[Feed], batch: int) -> None:
    """Raise BadInput for no feeds or one that has not ``batch`` rows, SignatureMismatch for one that does not fit."""
    if not feeds:
        raise BadInput("there is nothing to feed: a measurement needs at least one feed")
    for feed in feeds:
        signature.check_feed(feed)
        rows = signature.batch_of(feed)
        if rows != batch:
            raise BadInput(f"a feed has {rows} rows, but the workload says batch {batch}")


def latency_figures(values: Vector) -> dict[str, Figure]:
    """Percentiles and mean of seconds per call.

    p90 and p99 are withheld when the effective sample cannot bound them; p50 and the mean are given
    without an interval then.
    """
    figures = {name: percentile_figure(values, p) for name, p in PERCENTILES.items()}
    figures["latency.mean"] = _figure(mean_interval(values), "s")
    return figures


def rate_figure(per_step: Vector, rows_per_step: int) -> Figure:
    """Samples per second from the seconds of consecutive steps of equally many rows.

    The rate is rows over mean, the interval that of the mean, inverted.
    """
    mean = mean_interval(per_step)
    if mean.value <= 0:
        return withheld("samples/s", "the calls took no time that the clock could tell", len(per_step))
    low = None if mean.high is None else rows_per_step / mean.high
    high = None if mean.low is None or mean.low <= 0 else rows_per_step / mean.low
    return Figure(rows_per_step / mean.value, "samples/s", low, high, mean.confidence, mean.n)


def warmup_figure(warmup: Array) -> Figure:
    return Figure(float(warmup.sum()), "calls", n=len(warmup))


def short_warning(values: Vector, total_s: Seconds) -> list[str]:
    if total_s >= SHORT_S:
        return []
    return [
        f"too short: {len(values)} calls in {format_seconds(total_s)} show none of the slow changes of a machine; "
        "measure for longer"
    ]


def concat_flags(before: int, dropped: int, total: int) -> Array:
    """True for the ``before`` calls of the warm-up proper and the ``dropped`` ones after them."""
    return np.arange(total) < before + dropped


def percentile_figure(values: Vector, p: float) -> Figure:
    """Percentile ``p`` of seconds; withheld, or for the median without an interval, where it cannot be bounded."""
    found = percentile_interval(values, p)
    if found.low is not None:
        return _figure(found, "s")
    needed, effective = needed_for_percentile(p), percentile_effective_size(values, p)
    reason = f"needs {needed} independent calls; {len(values)} were made, worth {effective:.0f}"
    if p == 0.5:
        return Figure(found.value, "s", n=len(values), reason=f"no interval: it {reason}")
    return withheld("s", reason, len(values))


def _figure(interval: Interval, unit: str) -> Figure:
    if interval.low is None or interval.high is None:
        return Figure(interval.value, unit, n=interval.n)
    return Figure(interval.value, unit, max(0.0, interval.low), interval.high, interval.confidence, interval.n)
