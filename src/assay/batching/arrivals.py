"""Arrival times to press a batcher with: open loops, reproducible from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.core.errors import BadInput
from assay.core.stats import Vector
from assay.core.units import PerSecond


def poisson(rate: PerSecond, count: int, seed: int = 0) -> Vector:
    """``count`` arrival times in seconds, exponential gaps with mean 1 / ``rate``.  Raises BadInput."""
    _check(rate, count)
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def constant(rate: PerSecond, count: int) -> Vector:
    """``count`` arrival times, exactly 1 / ``rate`` apart, the first at 0.  Raises BadInput."""
    _check(rate, count)
    return np.arange(count) / rate


def trace(times_s: Sequence[float]) -> Vector:
    """Recorded arrival times, moved so that the first is at 0.

    Raises BadInput for none, for a time that is no number and for times that go backwards.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1 or len(times) == 0 or not np.isfinite(times).all():
        raise BadInput("a trace of arrivals is a list of finite times in seconds, at least one")
    if (np.diff(times) < 0).any():
        raise BadInput(f"arrival {int(np.argmax(np.diff(times) < 0)) + 1} is earlier than the one before it")
    return np.asarray(times - times[0])


def _check(rate: PerSecond, count: int) -> None:
    if not rate > 0 or count < 1:
        raise BadInput(f"{count} arrivals at {rate} per second is no load")
