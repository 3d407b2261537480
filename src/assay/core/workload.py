"""Workload: how a session is pressed, and when to stop."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from assay.core.errors import BadInput, UnknownName
from assay.core.units import PerSecond, Seconds

ARRIVALS = ("poisson", "constant", "trace")


@dataclass(frozen=True)
class StopRule:
    """Stop at ``max_s`` seconds or ``max_calls``, whatever else; before that, stop as soon as
    ``min_calls`` are made, ``min_s`` are spent and the median's interval reaches no further than
    ``within`` (a fraction of the median) to either side.  ``within`` 0 turns stopping early off."""

    min_calls: int = 20
    max_calls: int = 100_000
    min_s: Seconds = 0.5
    max_s: Seconds = 3.0
    within: float = 0.02

    def __post_init__(self) -> None:
        if self.min_calls < 1 or self.max_calls < self.min_calls or self.max_s <= 0:
            raise BadInput(f"a stop rule that never lets anything run: {self}")


@dataclass(frozen=True)
class Workload:
    """``scenario`` is ``latency`` (one caller) or ``offline`` (the session's own parallelism)."""

    scenario: str = "latency"
    batch: int = 1
    stop: StopRule = StopRule()
    warmup_s: Seconds = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise BadInput(f"a batch holds at least one row, not {self.batch}")

    def conditions(self) -> dict[str, Any]:
        """The part of a Record's ``conditions`` this decides."""
        return {"scenario": self.scenario, "batch": self.batch, "seed": self.seed, **asdict(self.stop)}


@dataclass(frozen=True)
class Clients:
    """A closed loop: ``clients`` callers, each asking again as soon as it was answered, ``total`` samples in all.

    A request has ``request_batch`` rows; the last one is not cut short, so the samples really sent are
    ``requests * request_batch``.  ``threads`` gives every client an OS thread of its own; else clients
    are a number of requests kept outstanding.
    """

    clients: int = 10
    total: int = 10_000
    request_batch: int = 1
    threads: bool = False
    warmup_s: Seconds = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clients < 1:
            raise BadInput(f"a load needs at least one client, not {self.clients}", remedy="--clients 10")
        if self.request_batch < 1:
            raise BadInput(f"a request has at least one row, not {self.request_batch}", remedy="--request-batch 1")
        if self.requests < self.clients:
            raise BadInput(
                f"{self.total} samples in requests of {self.request_batch} do not give each of "
                f"{self.clients} clients one",
                remedy=f"--total {max(10_000, 10 * self.clients * self.request_batch)}",
            )

    @property
    def requests(self) -> int:
        return -(-self.total // self.request_batch)

    def conditions(self) -> dict[str, Any]:
        """The part of a Record's ``conditions`` this decides."""
        return {
            "scenario": "clients",
            "batch": self.request_batch,
            "clients": self.clients,
            "total": self.requests * self.request_batch,
            "threads_per_client": self.threads,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Arrivals:
    """An open loop: requests of ``request_batch`` rows come when they come, answered or not.

    ``kind`` is ``poisson``, ``constant`` or ``trace`` (then ``rate`` is the trace's own).  ``rate`` counts
    requests per second; ``drain_s`` is how long answers are waited for after the last arrival.
    """

    rate: PerSecond
    duration_s: Seconds = 10.0
    kind: str = "poisson"
    request_batch: int = 1
    warmup_s: Seconds = 0.3
    drain_s: Seconds = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.rate > 0 or not math.isfinite(self.rate):
            raise BadInput(f"a load needs a rate above zero, not {self.rate:g}", remedy="--rate 100")
        if not self.duration_s > 0:
            raise BadInput(f"a load lasts longer than {self.duration_s:g} s", remedy="--duration 10")
        if self.request_batch < 1:
            raise BadInput(f"a request has at least one row, not {self.request_batch}", remedy="--request-batch 1")
        if self.kind not in ARRIVALS:
            raise UnknownName("kind of arrivals", self.kind, ARRIVALS)

    def conditions(self) -> dict[str, Any]:
        """The part of a Record's ``conditions`` this decides."""
        return {
            "scenario": "server",
            "batch": self.request_batch,
            "rate": self.rate,
            "duration_s": self.duration_s,
            "arrivals": self.kind,
            "seed": self.seed,
        }
