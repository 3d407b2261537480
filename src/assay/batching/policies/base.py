"""What a policy is asked, and the answers of one that has no opinion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from assay.batching.batch_times import BatchTimes
from assay.batching.buckets import Buckets
from assay.batching.meter import Meter
from assay.batching.pending import Lane
from assay.batching.request import Request
from assay.core.units import Seconds

Decision = tuple[int, Seconds]
"""``(rows, 0)``: start a batch of at most so many rows now.  ``(0, when)``: ask again at ``when``
(``math.inf``: when something changed)."""


@dataclass(frozen=True)
class Situation:
    """What a policy plans with.  ``times``, ``buckets`` and ``meter`` are the live objects, not copies."""

    max_batch: int
    instances: int
    max_delay_s: Seconds
    preferred: tuple[int, ...]
    times: BatchTimes
    buckets: Buckets
    meter: Meter


class Policy(Protocol):
    """All times are of the scheduler's clock.  Called under the scheduler's lock: keep it short."""

    def decide(self, lane: Lane, now_s: Seconds, running: int) -> Decision:
        """An instance is free, ``lane`` is not empty and ``running`` batches are being computed."""
        ...

    def least_s(self, rows: int) -> Seconds:
        """A request of ``rows`` rows with less time than this to its deadline is lost."""
        ...

    def hopeless(self, lane: Lane, head: Request, now_s: Seconds) -> bool:
        """Whether to drop ``head``, a first request of ``lane`` that has a deadline, instead of starting it."""
        ...

    def admits(self, finish_s: Seconds, deadline_s: Seconds) -> bool:
        """Whether to queue a request that is predicted to be finished at ``finish_s``."""
        ...

    def planned_batch(self, left_s: Seconds) -> int:
        """The rows of the batches it will form under load, when ``left_s`` seconds are left to a deadline."""
        ...

    def arrived(self, request: Request, now_s: Seconds) -> None: ...

    def finished(self, rows: int, now_s: Seconds, running: int) -> None:
        """A batch of ``rows`` rows is done; ``running`` others still are not."""
        ...


class PlainPolicy:
    """Static rules: no prediction, every request admitted, a deadline matters only once it has passed."""

    def __init__(self, situation: Situation) -> None:
        self._max_batch = situation.max_batch

    def least_s(self, rows: int) -> Seconds:
        return 0.0

    def hopeless(self, lane: Lane, head: Request, now_s: Seconds) -> bool:
        return now_s > head.deadline_s

    def admits(self, finish_s: Seconds, deadline_s: Seconds) -> bool:
        return True

    def planned_batch(self, left_s: Seconds) -> int:
        return self._max_batch

    def arrived(self, request: Request, now_s: Seconds) -> None:
        pass

    def finished(self, rows: int, now_s: Seconds, running: int) -> None:
        pass
