"""Little's law, L = λ W (Little 1961), as a check of the measurement itself.

In-flight counts are sampled at random moments from a live counter; λ and W come from the time stamps of
the requests.  When both agree, no request was lost, counted twice or stamped by another clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.record import Figure
from assay.core.stats import Interval, Vector, mean_interval
from assay.core.units import Seconds

SAMPLES = 1000
LEAST_SAMPLES = 50
TOLERANCE = 0.10
_LEAST_GAP_S = 0.002


class Inflight:
    """Samples of how many requests had been answered, at moments drawn with exponential gaps."""

    def __init__(self, duration_s: Seconds, seed: int = 0) -> None:
        self._gap_s = max(_LEAST_GAP_S, duration_s / SAMPLES)
        self._rng = np.random.default_rng(seed)
        self.next_s: Seconds = float(self._rng.exponential(self._gap_s))
        self.at_s: list[Seconds] = []
        self.answered: list[int] = []

    def note(self, at_s: Seconds, answered: int) -> None:
        """Take a sample now, and say when the next one is due."""
        self.at_s.append(at_s)
        self.answered.append(answered)
        self.next_s = at_s + float(self._rng.exponential(self._gap_s))


@dataclass(frozen=True)
class Law:
    """``sampled`` in flight against ``predicted`` = λ W; ``reason`` says why they could not be compared."""

    sampled: Interval | None
    predicted: float | None
    reason: str | None = None

    @property
    def holds(self) -> bool | None:
        """Whether both agree within 10 % or the samples' interval; None when they could not be compared."""
        if self.sampled is None or self.predicted is None:
            return None
        found, low, high = self.sampled.value, self.sampled.low, self.sampled.high
        slack = max(TOLERANCE * self.predicted, 0.05)
        reach = max(found - low, high - found) if low is not None and high is not None else 0.0
        return abs(found - self.predicted) <= slack + reach

    def figures(self) -> dict[str, Figure]:
        if self.sampled is None:
            return {}
        s = self.sampled
        return {"inflight.mean": Figure(s.value, "requests", s.low, s.high, s.confidence, s.n)}

    def warnings(self) -> list[str]:
        if self.holds is not False or self.sampled is None:
            return []
        return [
            f"Little's law does not hold: {self.sampled.value:.3g} requests were seen in flight, arrivals and "
            f"latencies say {self.predicted:.3g}; the system is not in a steady state, or time stamps are wrong"
        ]

    def to_json(self) -> dict[str, Any]:
        sampled = None if self.sampled is None else self.sampled.value
        return {"sampled": sampled, "rate_times_latency": self.predicted, "holds": self.holds, "reason": self.reason}


def little(inflight: Inflight, scheduled: Vector, seconds: Vector, warm: int) -> Law:
    """Compare from the first arrival after the ``warm`` ones of the warm-up to the last one."""
    timed, waits = scheduled[warm:], seconds[warm:]
    if not np.isfinite(seconds).all():
        return Law(None, None, "some requests were never answered")
    at = np.asarray(inflight.at_s)
    inside = (at >= timed[0]) & (at <= timed[-1])
    if inside.sum() < LEAST_SAMPLES or len(timed) < 2:
        return Law(None, None, f"{int(inside.sum())} samples of the requests in flight; {LEAST_SAMPLES} are needed")
    arrived = np.searchsorted(scheduled, at[inside], side="right")
    counts = (arrived - np.asarray(inflight.answered)[inside]).astype(np.float64)
    rate = (len(timed) - 1) / float(timed[-1] - timed[0])
    return Law(mean_interval(counts), rate * float(waits.mean()))
