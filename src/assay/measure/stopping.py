"""When a series is long enough: it is looked at seldom, at geometrically growing sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.core.stats import Vector, percentile_effective_size
from assay.core.units import Seconds
from assay.core.workload import StopRule
from assay.measure.series import half_width, warmup_end

LOOK_AGAIN = 1.5
LEAST_WORTH = 50
"""Independent calls a series must be worth before it may stop early: below, the width itself is a guess."""
_CONSTANT = 1e-6


class Stopper:
    """Decides after each call whether a series is long enough (workload.StopRule).

    What is left after the warm-up cut is looked at after ``min_calls`` calls and again each time the
    series has grown by half: each look is a chance to stop on a lucky streak.  A series whose warm-up has not
    ended is never long enough: none of its figures would have an interval.
    """

    def __init__(self, stop: StopRule, started_s: Seconds) -> None:
        self._stop = stop
        self._started_s = started_s
        self._look_at = stop.min_calls

    @property
    def look_at(self) -> int:
        """The size at which the series is looked at next."""
        return self._look_at

    def enough(self, values: Sequence[float], now_s: Seconds) -> bool:
        stop, n = self._stop, len(values)
        elapsed = now_s - self._started_s
        if n >= stop.max_calls or elapsed >= stop.max_s:
            return True
        if not stop.within or n < self._look_at or elapsed < stop.min_s:
            return False
        self._look_at = int(n * LOOK_AGAIN) + 1
        series = np.asarray(values)
        cut = warmup_end(series)
        return cut.settled and narrow_enough(series[cut.dropped :], stop.within)


def narrow_enough(values: Vector, within: float) -> bool:
    """Whether the median of ``values`` is known to ``within``, by a sample that can say so."""
    width = half_width(values)
    if width is None or width > within:
        return False
    constant = float(np.ptp(values)) <= _CONSTANT * float(np.median(values))
    return constant or percentile_effective_size(values, 0.5) >= LEAST_WORTH
