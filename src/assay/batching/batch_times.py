"""t(b): how long a batch of b rows takes, from what was measured, refined while serving.

Two monotone piecewise-linear curves through the latest durations at every size seen: a high
quantile to plan deadlines with (not the mean: a plan that holds half of the time is no plan),
and the median to compare sizes by, since noise moves it least.  Monotone by the
pool-adjacent-violators algorithm (Barlow et al. 1972), weighted by the number of observations.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from assay.core import clock
from assay.core.errors import BadInput
from assay.core.units import Seconds

WINDOW = 64
"""Observations kept per size."""
MOST_SIZES = 1024
"""Sizes that are followed.  A model that is never merged is run at whatever size a caller sends."""
REFRESH = 16
"""A size's quantile is recomputed after this many new observations, and at 1, 2, 4 and 8."""


@dataclass(frozen=True)
class SizeTimes:
    """Predicted against actual at one size; ``predicted_s`` is the mean of the predictions made."""

    size: int
    count: int
    predicted_s: Seconds | None
    actual_s: Seconds
    latest_quantile_s: Seconds


class _Size:
    __slots__ = ("actual_s", "count", "latest", "median_s", "predicted", "predicted_s", "quantile_s")

    def __init__(self) -> None:
        self.latest: deque[Seconds] = deque(maxlen=WINDOW)
        self.count = 0
        self.actual_s = 0.0
        self.predicted = 0
        self.predicted_s = 0.0
        self.quantile_s = math.nan
        self.median_s = math.nan

    def summarise(self, quantile: float) -> None:
        """Below five observations the quantile is the median too: the worst of a few first calls would be
        believed for long."""
        ordered = sorted(self.latest)
        self.median_s = _order_statistic(ordered, 0.5)
        self.quantile_s = _order_statistic(ordered, quantile) if len(ordered) >= 5 else self.median_s


class BatchTimes:
    """Not thread-safe: the scheduler's owner holds its lock.  ``version`` grows when the curve changes."""

    def __init__(self, most: int, quantile: float = 0.9, points: Mapping[int, Iterable[Seconds]] | None = None) -> None:
        """``points`` maps sizes to durations measured before, for instance by ``profile``.

        Raises BadInput for a size or a duration that cannot be.
        """
        if not 0 < quantile < 1:
            raise BadInput(f"a quantile lies between 0 and 1, not {quantile}")
        self.most = most
        self.quantile = quantile
        self.version = 0
        self._sizes: dict[int, _Size] = {}
        self._curve: list[Seconds] = []
        self._typical: list[Seconds] = []
        for size, durations in (points or {}).items():
            values = [float(d) for d in durations]
            if size < 1 or not values or not all(v >= 0 and math.isfinite(v) for v in values):
                raise BadInput(f"t({size}) cannot be {values}")
            entry = self._sizes[size] = _Size()
            entry.latest.extend(values)
            entry.summarise(quantile)
        self._rebuild()

    @property
    def known(self) -> bool:
        return bool(self._curve)

    def predict(self, size: int) -> Seconds:
        """Seconds a batch of ``size`` rows is planned with; 0 while nothing was ever measured."""
        return _beyond(self._curve, size)

    def typical(self, size: int) -> Seconds:
        """Its usual duration, to compare sizes by; 0 while nothing was ever measured."""
        return _beyond(self._typical, size)

    def observe(self, size: int, duration_s: Seconds, predicted_s: Seconds = 0.0) -> None:
        """One batch really took ``duration_s``; ``predicted_s`` is what was planned, 0 for nothing."""
        entry = self._sizes.get(size)
        if entry is None:
            if len(self._sizes) >= MOST_SIZES:
                return
            entry = self._sizes[size] = _Size()
        entry.latest.append(duration_s)
        count = entry.count = entry.count + 1
        entry.actual_s += duration_s
        if predicted_s > 0:
            entry.predicted += 1
            entry.predicted_s += predicted_s
        if count % REFRESH == 0 or count in (1, 2, 4, 8):
            entry.summarise(self.quantile)
            self._rebuild()

    def curve(self) -> tuple[Seconds, ...]:
        """``typical`` for 0 to ``most`` rows as it is now; later observations do not change it."""
        return tuple(self.typical(size) for size in range(self.most + 1))

    def spread(self) -> tuple[float, ...]:
        """How the latest durations scatter: each as a multiple of its size's median."""
        return tuple(d / e.median_s for e in self._sizes.values() if e.median_s > 0 for d in e.latest)

    def report(self) -> tuple[SizeTimes, ...]:
        """Every size observed while serving."""
        return tuple(
            SizeTimes(
                size=size,
                count=e.count,
                predicted_s=e.predicted_s / e.predicted if e.predicted else None,
                actual_s=e.actual_s / e.count,
                latest_quantile_s=e.quantile_s,
            )
            for size, e in sorted(self._sizes.items())
            if e.count
        )

    def _rebuild(self) -> None:
        entries = sorted(self._sizes.items())
        if entries:
            self._curve = self._through([(s, e.quantile_s, len(e.latest)) for s, e in entries])
            self._typical = self._through([(s, e.median_s, len(e.latest)) for s, e in entries])
        self.version += 1

    def _through(self, points: list[tuple[int, Seconds, int]]) -> list[Seconds]:
        knots = _monotone(points)
        return [0.0, *(_interpolate(knots, size) for size in range(1, self.most + 1))]


def _order_statistic(ordered: list[Seconds], share: float) -> Seconds:
    """The smallest value with at least ``share`` of all at or below it."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _beyond(curve: list[Seconds], size: int) -> Seconds:
    """The curve at ``size``, its last slope going on; 0 for no curve."""
    last = len(curve) - 1
    if size <= last:
        return curve[size]
    if last < 0:
        return 0.0
    slope = curve[last] - curve[last - 1] if last > 1 else 0.0
    return curve[last] + slope * (size - last)


def _monotone(points: list[tuple[int, Seconds, int]]) -> list[tuple[int, Seconds]]:
    """Pool adjacent violators: the nearest non-decreasing values in weighted least squares."""
    pools: list[tuple[float, float, list[int]]] = []
    for size, value, weight in points:
        pools.append((value, float(weight), [size]))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, wa, sa), (b, wb, sb) = pools[-2], pools[-1]
            pools[-2:] = [((a * wa + b * wb) / (wa + wb), wa + wb, sa + sb)]
    return [(size, value) for value, _, sizes in pools for size in sizes]


def _interpolate(knots: list[tuple[int, Seconds]], size: int) -> Seconds:
    """Flat below the first knot; beyond the last one the slope of the last two goes on.

    With one knot the curve is flat, which is optimistic: larger batches get tried, then measured.
    """
    if size <= knots[0][0]:
        return knots[0][1]
    for (s0, t0), (s1, t1) in pairwise(knots):
        if size <= s1:
            return t0 + (t1 - t0) * (size - s0) / (s1 - s0)
    if len(knots) == 1:
        return knots[0][1]
    (s0, t0), (s1, t1) = knots[-2:]
    return t1 + (t1 - t0) / (s1 - s0) * (size - s1)


def profile_sizes(most: int, buckets: tuple[int, ...] = ()) -> tuple[int, ...]:
    """The sizes worth measuring at load: the buckets, else the powers of two and ``most``."""
    if buckets:
        return buckets
    powers = [2**i for i in range(most.bit_length()) if 2**i <= most]
    return tuple(sorted({*powers, most}))


def profile(run: Callable[[int], object], sizes: Iterable[int], calls: int = 5) -> dict[int, list[Seconds]]:
    """Durations of ``run(size)``: ``calls`` of them per size after one that is not counted."""
    now = clock.current().now
    points: dict[int, list[Seconds]] = {}
    for size in sizes:
        run(size)
        for _ in range(calls):
            began = now()
            run(size)
            points.setdefault(size, []).append(now() - began)
    return points
