"""delay: the static rule of Triton's dynamic batcher.

A batch is started when it is full, when it fills a preferred size, or when the oldest request
has waited ``max_delay_s`` since it came.  It keeps growing until an instance starts it, since
it is only formed when one is free.  Unlike Triton, a lane of another shape does not cut the
wait short (both lanes go on growing), and no request is let expire while an instance idles: a deadline
within the delay starts it ``WAKING_S`` before it passes.
"""

from __future__ import annotations

import math

from assay.batching.pending import Lane
from assay.batching.policies.base import Decision, PlainPolicy, Situation
from assay.core.units import Seconds

WAKING_S: Seconds = 5e-3
"""How much later than it was told to an instance's thread may wake up; at the deadline itself it would be too late."""


class Delay(PlainPolicy):
    def __init__(self, situation: Situation) -> None:
        super().__init__(situation)
        self._max_delay_s = situation.max_delay_s
        self._preferred = situation.preferred

    def decide(self, lane: Lane, now_s: Seconds, running: int) -> Decision:
        rows = lane.rows
        if rows >= self._max_batch:
            return self._max_batch, 0.0
        fits = [p for p in self._preferred if p <= rows]
        if fits:
            return fits[-1], 0.0
        due_s = lane.oldest_s() + self._max_delay_s
        if lane.timed:
            due_s = min(due_s, min((r.deadline_s for r in lane), default=math.inf) - WAKING_S)
        return (rows, 0.0) if now_s >= due_s else (0, due_s)
