"""How non-negative numbers are spread, streamed: quantiles and a histogram on a logarithmic scale, and the
points that decide which absolute and relative limits hold.  Pure.

A float64 holds its exponent in the upper bits and the leading bits of its significand next, so the
16 highest bits are a bin number: 16 bins to an octave, hence quantiles at most 6.25 % too high (below
2^−1022, where float64 has no octaves, at most 2^−1026).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from assay.core.tensors import Array

_SHIFT = 48
_BINS = 0x7FF1  # infinity's bin is the last


class Spread:
    """Counts values ≥ 0 by bin; infinity counts, NaN must not be given."""

    def __init__(self) -> None:
        self._counts: Array = np.zeros(0, np.int64)
        self._largest = 0.0
        self.zeros = 0

    def add(self, values: Array) -> None:
        """float64, any shape."""
        flat = np.ascontiguousarray(values.ravel(), np.float64)
        if not flat.size:
            return
        self.zeros += int(flat.size - np.count_nonzero(flat))
        self._largest = max(self._largest, float(flat.max()))
        found = np.bincount(flat.view(np.int64) >> _SHIFT, minlength=_BINS)
        self._counts = found if not self._counts.size else self._counts + found

    def quantile(self, p: float) -> float:
        """The upper edge of the bin that holds quantile ``p``, never above the largest value; NaN without values."""
        total = int(self._counts.sum())
        if not total:
            return math.nan
        rank = max(1, math.ceil(p * total - 1e-9))
        if rank <= self.zeros:
            return 0.0
        index = int(np.searchsorted(np.cumsum(self._counts), rank))
        upper = float(np.array([(index + 1) << _SHIFT], np.int64).view(np.float64)[0])
        return min(self._largest, upper) if math.isfinite(upper) else self._largest

    def histogram(self) -> tuple[tuple[int, int], ...]:
        """(e, count): ``count`` values in [2^e, 2^(e+1)); zeros aside, infinity under e = 1024."""
        if not self._counts.size:
            return ()
        counts = self._counts.copy()
        counts[0] -= self.zeros
        octaves = np.add.reduceat(counts, np.arange(0, _BINS, 16))
        return tuple((int(i) - 1023, int(octaves[i])) for i in np.flatnonzero(octaves))


class Hull:
    """The corners of the upper left convex hull of the points (|r|, |c − r|).

    The largest of e − rtol·|r| over all points lies at one of them for every rtol ≥ 0, so they
    decide any limits exactly, and there are few.
    """

    def __init__(self) -> None:
        self._points: Array = np.zeros((0, 2))

    def add(self, size: Array, error: Array) -> None:
        x = np.concatenate([self._points[:, 0], size.ravel()])
        y = np.concatenate([self._points[:, 1], error.ravel()])
        self._points = _corners(x, y)

    def points(self) -> tuple[tuple[float, float], ...]:
        return tuple((float(x), float(y)) for x, y in self._points)


def _corners(x: Array, y: Array) -> Array:
    """Quickhull's own step on whole arrays: keep what lies above the line between two known corners."""
    if not x.size:
        return np.zeros((0, 2))
    leftmost = x == x.min()
    start = (float(x.min()), float(y[leftmost].max()))
    highest = y == y.max()
    end = (float(x[highest].min()), float(y.max()))
    if end[1] <= start[1]:
        return np.array([start])
    return np.array([start, *_between(x, y, start, end), end])


def _between(x: Array, y: Array, start: Any, end: Any) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    work = [(x, y, start, end)]
    while work:  # the left part is pushed last and popped first, so corners come from left to right
        x, y, (ax, ay), (bx, by) = work.pop()
        if x.size == 0:
            if (ax, ay) != start:
                found.append((ax, ay))
            continue
        above = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
        keep = above > 0
        if not keep.any():
            if (ax, ay) != start:
                found.append((ax, ay))
            continue
        x, y, above = x[keep], y[keep], above[keep]
        top = int(above.argmax())
        peak = (float(x[top]), float(y[top]))
        left, right = x < peak[0], x > peak[0]
        work.append((x[right], y[right], peak, (bx, by)))
        work.append((x[left], y[left], (ax, ay), peak))
    return found
