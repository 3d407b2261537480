"""What a series of timings says about itself: where its warm-up ends, and whether it can be trusted.

Pure functions over seconds in the order they were measured; docs/statistics.md gives the reasons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from assay.core.stats import (
    Vector,
    needed_for_percentile,
    normal_quantile,
    percentile_effective_size,
    percentile_interval,
)
from assay.core.workload import StopRule

LABELS = ("stable", "drifting", "bimodal", "stalled", "underpowered")
DRIFT = 0.05
STALL_FACTOR = 20.0
STALL_SHARE = 0.10
MODE_SHARE = 0.10
MODE_GAP = 0.05
MARGIN = 1.5
"""How much more than the visible warm-up is dropped: its tail is below the threshold, not yet over."""
_LEAST_TO_CUT = 8
_LEAST_TO_SPLIT = 20


@dataclass(frozen=True)
class Cut:
    """``dropped`` leading calls are warm-up; ``settled`` is False when half the series was not enough."""

    dropped: int
    settled: bool


def warmup_end(values: Vector) -> Cut:
    """Where the warm-up ends: the first block of calls that has come down to the settled level, at most half.

    The second half is taken as settled.  Blocks of calls from the start are dropped while their median
    lies above the settled median by more than 2 % and by more than three standard errors of a
    block's median (1.2533 σ / sqrt(block), σ from the median absolute deviation of the detrended
    second half, the block counted at its worth in independent calls).  Half as many again are
    dropped for the tail of the warm-up.
    """
    n = len(values)
    if n < _LEAST_TO_CUT:
        return Cut(0, True)
    settled = values[n // 2 :]
    centre = float(np.median(settled))
    rest = _detrended(settled)
    sigma = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    block = min(50, max(3, n // 32))
    worth = max(1.0, block * percentile_effective_size(rest, 0.5) / len(settled))
    limit = centre + max(0.02 * centre, 3 * 1.2533 * sigma / math.sqrt(worth))
    drop = 0
    while drop + block <= n // 2:
        if float(np.median(values[drop : drop + block])) <= limit:
            return Cut(min(n // 2, math.ceil(MARGIN * drop)), True)
        drop += block
    return Cut(drop, False)


def _detrended(values: Vector) -> Vector:
    """Without the straight line through them: a trend is what is looked for, not correlation."""
    at = np.arange(len(values)) - (len(values) - 1) / 2
    return np.asarray(values - at * (at @ values) / (at @ at))


def label(values: Vector, stop: StopRule) -> tuple[str, str]:
    """(label, reason) of the series left after warm-up; the first rule that holds decides."""
    for rule in (_stalled, _drifting, _bimodal):
        if reason := rule(values):
            return rule.__name__.lstrip("_"), reason
    reason = _underpowered(values, stop)
    return ("underpowered", reason) if reason else ("stable", f"{len(values)} calls, no trend, one mode")


def half_width(values: Vector) -> float | None:
    """How far the median's interval reaches to either side, as a fraction of it; None without an interval."""
    if not len(values):
        return None
    found = percentile_interval(values, 0.5)
    if found.low is None or found.high is None or found.value <= 0:
        return None
    return max(found.value - found.low, found.high - found.value) / found.value


def _stalled(values: Vector) -> str | None:
    """Calls above 20 medians that together take more than 10 % of the time."""
    median = float(np.median(values))
    slow = values[values > STALL_FACTOR * median]
    share = float(slow.sum() / values.sum()) if values.sum() > 0 else 0.0
    if not len(slow) or share <= STALL_SHARE:
        return None
    return f"{len(slow)} of {len(values)} calls took more than {STALL_FACTOR:g} medians and {share:.0%} of the time"


def _drifting(values: Vector) -> str | None:
    """The last third's median lies outside the first third's interval by more than 5 %.

    The interval is that of independent calls: a trend correlates them, and an interval widened for
    that would hide it.
    """
    third = len(values) // 3
    if third < needed_for_percentile(0.5):
        return None
    first = np.sort(values[:third])
    reach = normal_quantile(0.975) * math.sqrt(third) / 2
    low = float(first[max(0, math.floor(third / 2 - reach) - 1)])
    high = float(first[min(third - 1, math.ceil(third / 2 + reach))])
    median, last = float(np.median(first)), float(np.median(values[-third:]))
    if low - DRIFT * median <= last <= high + DRIFT * median:
        return None
    return f"the median went from {median:.3g} s in the first third to {last:.3g} s in the last"


def _bimodal(values: Vector) -> str | None:
    """Some split of the sorted values leaves at least 10 % on either side, a gap of more than 5 % between
    the sides, and that gap is wider than either side.

    Both are taken between the 10th and the 90th percentile of a side, so that strays do not decide.
    """
    n = len(values)
    if n < _LEAST_TO_SPLIT:
        return None
    ordered = np.sort(values)
    for k in np.unique(np.linspace(MODE_SHARE * n, (1 - MODE_SHARE) * n, 81).round().astype(int)):
        low, high = ordered[:k], ordered[k:]
        (low_start, low_end), (high_start, high_end) = _core(low), _core(high)
        gap = high_start - low_end
        if gap > MODE_GAP * low_end and gap > max(low_end - low_start, high_end - high_start):
            share = len(high) / n
            return f"{share:.0%} of the calls took about {np.median(high):.3g} s, the others {np.median(low):.3g} s"
    return None


def _core(ordered: Vector) -> tuple[float, float]:
    last = len(ordered) - 1
    return float(ordered[round(0.1 * last)]), float(ordered[round(0.9 * last)])


def _underpowered(values: Vector, stop: StopRule) -> str | None:
    width = half_width(values)
    if width is None:
        return f"{len(values)} calls are too few for an interval around the median"
    if stop.within and width > stop.within:
        return f"the median is known to ±{width:.1%}; ±{stop.within:.1%} was asked for"
    return None
