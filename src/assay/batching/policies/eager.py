"""eager: a free instance takes what waits, up to the largest batch."""

from __future__ import annotations

from assay.batching.pending import Lane
from assay.batching.policies.base import Decision, PlainPolicy
from assay.core.units import Seconds


class Eager(PlainPolicy):
    def decide(self, lane: Lane, now_s: Seconds, running: int) -> Decision:
        return self._max_batch, 0.0
