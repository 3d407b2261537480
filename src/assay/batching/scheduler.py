"""Scheduler: which requests run next.  No thread, no lock, no clock: time comes in as ``now_s``.

The real batcher calls it under its one lock, the simulator from its event loop; whatever is
true of one is therefore true of the other.
"""

from __future__ import annotations

import math

from assay.batching.batch import Batch
from assay.batching.batch_times import BatchTimes
from assay.batching.buckets import Buckets
from assay.batching.errors import Dropped, Expired, QueueFull, Rejected
from assay.batching.forecast import Forecast, forecast
from assay.batching.meter import Meter
from assay.batching.one_by_one import OneByOne
from assay.batching.pending import Lane, Pending
from assay.batching.policies import POLICIES
from assay.batching.policies.base import Policy, Situation
from assay.batching.request import DONE, QUEUED, RUNNING, Request
from assay.batching.settings import BatcherSettings
from assay.batching.statistics import BatcherStatistics, Counters
from assay.core.errors import BadInput
from assay.core.table import resolve
from assay.core.units import Seconds

TRY_EVERY = 8
"""Of the requests that an idle scheduler would refuse as too late every so many are run, without their deadline: else a
t(b) that was once measured too high would never be measured again."""


class Scheduler:
    def __init__(
        self, settings: BatcherSettings, times: BatchTimes | None = None, alone: BatchTimes | None = None
    ) -> None:
        """``alone``: t(b) of the session for lone batches; None: there is none."""
        self.settings = settings
        self.times = times or BatchTimes(settings.max_batch)
        self.meter = Meter()
        self.one_by_one = OneByOne(alone, self.times, self.meter, settings.instances) if alone is not None else None
        self.buckets = Buckets(settings.buckets, settings.max_batch)
        self.pending = Pending(settings.priority_levels)
        self.counters = Counters()
        self.running: list[Batch] = []
        self.wait_until_s: Seconds = math.inf
        """After ``take`` returned None: when to ask again, if nothing is offered or finished before."""
        self.dropped: list[Request] = []
        """Requests ``take`` dropped; whoever calls it delivers and clears them."""
        self._batches = self._refused_idle = 0
        self.policy: Policy = resolve(POLICIES, settings.policy, "batching policy")(
            Situation(
                settings.max_batch,
                settings.instances,
                settings.max_delay_s,
                settings.preferred,
                self.times,
                self.buckets,
                self.meter,
            )
        )

    def check(self, rows: int, priority: int) -> None:
        """Raises BadInput for what can never be served."""
        if rows < 1 or rows > self.settings.max_batch:
            raise BadInput(
                f"a request of {rows} rows; this batcher takes 1 to {self.settings.max_batch}",
                remedy="split the request, or raise max_batch",
            )
        if not 0 <= priority <= self.settings.priority_levels:
            raise BadInput(f"priority {priority}; this batcher has 1 (first) to {self.settings.priority_levels}")

    def offer(self, request: Request, now_s: Seconds) -> None:
        """Queue ``request``.  Raises QueueFull or Rejected, counted, with the predicted wait."""
        settings = self.settings
        self.counters.submitted += 1
        if settings.slo_s is not None:
            request.deadline_s = min(request.deadline_s, now_s + settings.slo_s)
        if request.priority == 0:
            request.priority = settings.default_priority
        try:
            if self.pending.count >= settings.max_queue:
                self._refuse_full(request, now_s)
            if request.deadline_s < math.inf and settings.on_timeout == "reject":
                self._refuse_late(request, now_s)
        except Dropped as error:
            self.drop(request, error, now_s)
            raise
        self.pending.add(request)
        self.meter.arrived(request.rows)
        self.policy.arrived(request, now_s)

    def due_s(self, now_s: Seconds) -> Seconds:
        """When a free instance should ask: ``now_s`` at once, later, or ``math.inf``.  Changes nothing."""
        held_s = self._held_until(now_s)
        if held_s > now_s:
            return held_s
        soonest_s = math.inf
        for lane in self._candidates():
            rows, when_s = self._decide(lane, now_s)
            if rows:
                return now_s
            soonest_s = min(soonest_s, when_s)
        return soonest_s

    def take(self, now_s: Seconds, flush: bool = False) -> Batch | None:
        """The batch a free instance should run now, or None; see ``wait_until_s`` and ``dropped``.

        ``flush`` waits for nobody: for draining.
        """
        held_s = 0.0 if flush else self._held_until(now_s)
        if held_s > now_s:
            self.wait_until_s = held_s
            return None
        self.wait_until_s = math.inf
        while self.pending.count:
            lane = self._ready(now_s, flush)
            if lane is None:
                return None
            batch = self._gather(*lane, now_s)
            if batch is not None:
                return batch
        return None

    def finished(self, batch: Batch, now_s: Seconds, compute_s: Seconds | None) -> None:
        """An instance is done with ``batch``; ``compute_s`` is None when it failed and says nothing about t(b)."""
        self.running.remove(batch)
        counters = self.counters
        counters.running -= len(batch.requests)
        if compute_s is not None:
            counters.compute_s += compute_s
            times = self.one_by_one.alone if batch.apart and self.one_by_one else self.times
            times.observe(batch.size, compute_s, batch.predicted_s)
        self.meter.finished(now_s)
        self.policy.finished(batch.rows, now_s, len(self.running))

    def drop(self, request: Request, error: Dropped, now_s: Seconds) -> None:
        """Mark a request that does not wait any more (or never did) as dropped, and count it."""
        request.error = error
        request.finished_s = now_s
        request.state = DONE
        self.counters.dropped[error.reason] += 1

    def predict(self, rows: int, priority: int, now_s: Seconds, left_s: Seconds = math.inf) -> Forecast:
        """When a request that came now would start and finish.  Meaningless before t(b) is known."""
        if self._idles() and (lone_s := self._lone_s(rows)) < math.inf:
            return Forecast(now_s, now_s + lone_s)
        free = [b.started_s + b.predicted_s for b in self.running]
        free += [now_s] * (self.settings.instances - len(free))
        batch = self.policy.planned_batch(left_s)
        ahead = self.pending.rows_before(priority)
        return forecast(now_s, free, rows, ahead, batch, lambda b: self.times.predict(self.buckets.up(b)))

    def statistics(self) -> BatcherStatistics:
        return self.counters.snapshot(self.pending.count, self.times.report())

    def _refuse_full(self, request: Request, now_s: Seconds) -> None:
        wait_s = self.predict(request.rows, request.priority, now_s).start_s - now_s
        raise QueueFull(
            f"{self.pending.count} requests wait already (max_queue is {self.settings.max_queue})",
            retry_after_s=wait_s if self.times.known else None,
        )

    def _refuse_late(self, request: Request, now_s: Seconds) -> None:
        left_s = request.deadline_s - now_s
        soon = self.predict(request.rows, request.priority, now_s, left_s)
        if self.policy.admits(soon.finish_s, request.deadline_s):
            return
        if left_s <= 0:
            raise Rejected(f"its deadline passed {-1e3 * left_s:.3g} ms before it came")
        if self._idles():
            self._refused_idle += 1
            if self._refused_idle % TRY_EVERY == 0:
                request.deadline_s = math.inf
                return
        raise Rejected(
            f"would be finished in {1e3 * (soon.finish_s - now_s):.3g} ms; its deadline is in {1e3 * left_s:.3g} ms",
            retry_after_s=max(0.0, soon.start_s - now_s),
        )

    def _held_until(self, now_s: Seconds) -> Seconds:
        """Until when a free instance waits for the one batch that runs; not later than now: it does not.

        What has a deadline is planned with t(b) side by side, and does not wait."""
        if self.one_by_one is None or len(self.running) != 1 or any(lane.timed for lane in self.pending.lanes()):
            return 0.0
        return self.one_by_one.wait_until_s(self.running[0], self.pending.count)

    def _candidates(self) -> list[Lane]:
        lanes = self.pending.lanes()
        return lanes[:1] if self.settings.preserve_ordering else lanes

    def _decide(self, lane: Lane, now_s: Seconds) -> tuple[int, Seconds]:
        if not lane.mergeable:
            return 1, 0.0
        return self.policy.decide(lane, now_s, len(self.running))

    def _ready(self, now_s: Seconds, flush: bool) -> tuple[Lane, int] | None:
        """The first lane whose batch should start, and its size."""
        for lane in self._candidates():
            if lane.timed:
                self._expire(lane, now_s)
                if not lane.rows:
                    continue
            rows, when_s = self._decide(lane, now_s)
            if flush and not rows:
                rows = self.settings.max_batch
            if rows:
                return lane, rows
            self.wait_until_s = min(self.wait_until_s, when_s)
        return None

    def _expire(self, lane: Lane, now_s: Seconds) -> None:
        """Drop or postpone the requests at the head of every level that the policy gives up."""
        for level in range(self.settings.priority_levels):
            waiting = lane.levels[level]
            while waiting and waiting[0].deadline_s < math.inf and self._hopeless(lane, waiting[0], now_s):
                self._give_up(lane, level, now_s)

    def _hopeless(self, lane: Lane, head: Request, now_s: Seconds) -> bool:
        in_time = self._idles(1) and now_s + self._least_s(head.rows) <= head.deadline_s
        return not in_time and self.policy.hopeless(lane, head, now_s)

    def _idles(self, waiting: int = 0) -> bool:
        """Whether nothing runs, and no more than ``waiting`` requests wait."""
        return not self.running and self.pending.count <= waiting

    def _least_s(self, rows: int) -> Seconds:
        """The least that ``rows`` rows can take, which are alone where nothing else runs or waits."""
        least_s = self.policy.least_s(rows)
        return min(least_s, self._lone_s(rows)) if self._idles(1) else least_s

    def _lone_s(self, rows: int) -> Seconds:
        """What the session for lone batches takes; infinite without one."""
        if self.one_by_one is None or not self.one_by_one.alone.known:
            return math.inf
        return self.one_by_one.alone.predict(self.buckets.up(rows))

    def _give_up(self, lane: Lane, level: int, now_s: Seconds) -> None:
        if self.settings.on_timeout == "delay":
            self.pending.postpone(lane, level)
            return
        request = self.pending.pop(lane, level)
        late_ms = 1e3 * (now_s - request.enqueued_s)
        self.drop(request, Expired(f"dropped to keep deadlines: it had waited {late_ms:.3g} ms"), now_s)
        self.dropped.append(request)

    def _gather(self, lane: Lane, cap: int, now_s: Seconds) -> Batch | None:
        """Requests from the front of ``lane``, ``cap`` rows at most (the first one always fits)."""
        if not lane.mergeable:
            cap = 1
        fence = self._fence(lane)
        taken: list[Request] = []
        rows = 0
        for level, waiting in enumerate(lane.levels):
            before, count, timed = rows, len(taken), 0
            while waiting:
                request = waiting[0]
                if taken and (rows + request.rows > cap or request.sequence > fence):
                    break
                if request.deadline_s < math.inf:
                    if now_s + self._least_s(request.rows) > request.deadline_s:
                        self._give_up(lane, level, now_s)
                        continue
                    timed += 1
                waiting.popleft()
                request.state = RUNNING
                request.started_s = now_s
                rows += request.rows
                taken.append(request)
            if rows > before:
                self.pending.left(lane, level, len(taken) - count, rows - before, timed)
            if waiting:
                break
        return self._started(taken, rows, now_s) if taken else None

    def _stays_alone(self) -> bool:
        """Whether nothing else waits, or what waits waits for the batch that is started now."""
        waiting = self.pending.count
        if not waiting:
            return True
        timed = any(lane.timed for lane in self.pending.lanes())
        return self.one_by_one is not None and not timed and self.one_by_one.pays(waiting)

    def _fence(self, lane: Lane) -> float:
        """With ordered answers: the first request of any other lane, beyond which nothing is merged."""
        if not self.settings.preserve_ordering:
            return math.inf
        others = [other.head() for other in self.pending.lanes() if other is not lane]
        return min((head.sequence for head in others if head is not None), default=math.inf)

    def _started(self, taken: list[Request], rows: int, now_s: Seconds) -> Batch:
        size = self.buckets.up(rows)
        alone = not self.running and self._stays_alone()
        times = self.one_by_one.alone if alone and self.one_by_one and self.one_by_one.alone.known else self.times
        batch = Batch(taken, rows, size, self._batches, now_s, times.predict(size), alone)
        self._batches += 1
        self.running.append(batch)
        counters = self.counters
        counters.running += len(taken)
        counters.batches[rows] = counters.batches.get(rows, 0) + 1
        counters.rows += rows
        counters.padded_rows += size - rows
        counters.queue_s += now_s * len(taken) - sum([r.enqueued_s for r in taken])
        return batch


def cancel(scheduler: Scheduler, request: Request, error: Dropped, now_s: Seconds) -> bool:
    """Take a waiting request out of the queue.  False when it does not wait."""
    if request.state != QUEUED:
        return False
    scheduler.pending.remove(request)
    scheduler.drop(request, error, now_s)
    return True
