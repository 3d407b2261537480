"""Raw timings of one Record, made small enough to draw; whoever calls the report computes them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Series:
    """``edges`` (seconds, one more than ``counts``) and ``counts`` are a histogram of every timed call.

    ``timeline`` is what a plot over time needs: per stretch of calls (place of its first call, smallest,
    median, largest; seconds).  ``n`` calls were timed after ``warmup`` more that are not counted here.
    ``reason`` says why there is nothing to draw; then everything else is empty.
    """

    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    timeline: tuple[tuple[int, float, float, float], ...] = ()
    n: int = 0
    warmup: int = 0
    reason: str | None = None
