"""The highest rate of arrivals at which a latency limit still holds, by bisection over open-loop trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assay.core.errors import BadInput
from assay.core.units import PerSecond, Seconds, format_seconds
from assay.measure.server import Limit

REQUESTS = 400
"""A trial has at least this many: what a p99 at 95 % confidence needs, and a few more."""
QUEUE_SHOWS = 10


@dataclass(frozen=True)
class SearchPlan:
    """A trial lasts ``trial_s``, longer (up to ``most_s``) where that gives too few requests.

    The search ends when the answer is known to ``within`` of itself; ``back_off`` is how far the answer
    is lowered when the confirming run does not hold the limit.
    """

    trial_s: Seconds = 2.0
    most_s: Seconds = 20.0
    within: float = 0.03
    back_off: float = 0.05
    most_trials: int = 24

    def duration_s(self, rate: PerSecond, limit: Limit) -> Seconds:
        """Also ten times the limit: for a shorter time a queue may grow without anybody being late."""
        return max(min(self.most_s, max(self.trial_s, REQUESTS / rate)), QUEUE_SHOWS * limit.latency_s)


@dataclass(frozen=True)
class Trial:
    """``share`` of the requests at ``rate`` were answered within the limit."""

    rate: PerSecond
    share: float
    requests: int
    holds: bool

    def to_json(self) -> dict[str, Any]:
        return {"rate": self.rate, "share": self.share, "requests": self.requests, "holds": self.holds}


@dataclass(frozen=True)
class Found:
    """``rate`` is None, with the ``reason``, when no rate holds the limit."""

    rate: PerSecond | None
    trials: tuple[Trial, ...] = field(default=())
    reason: str | None = None


Press = Callable[[PerSecond, Seconds], tuple[float, int]]
"""(rate, duration) -> (share of the requests answered within the limit, requests)."""


def find_rate(press: Press, limit: Limit, top: PerSecond, plan: SearchPlan | None = None) -> Found:
    """Search below ``top``, a rate that is too high or nearly so (the throughput of a closed loop, say).

    ``top`` itself is tried first: when it holds, the search goes on above it, doubling.
    """
    plan = plan or SearchPlan()
    if not top > 0:
        raise BadInput(f"a search for a rate needs a rate to start from, not {top}")
    trials: list[Trial] = []

    def holds(rate: PerSecond) -> bool:
        share, requests = press(rate, plan.duration_s(rate, limit))
        trials.append(Trial(rate, share, requests, share >= limit.share))
        return trials[-1].holds

    low, high = 0.0, top
    while len(trials) < plan.most_trials and holds(high):
        low, high = high, 2 * high
    while high - low > plan.within * high and len(trials) < plan.most_trials:
        middle = (low + high) / 2 if low else high / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
        if low == 0 and high < top / 1000:
            break
    if low == 0:
        within = format_seconds(limit.latency_s)
        reason = f"not even {high:.3g} requests/s are answered within {within} often enough"
        return Found(None, tuple(trials), reason)
    return Found(low, tuple(trials))
