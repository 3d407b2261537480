"""DynamicBatcher: callers on any thread, instance threads that take the next batch under one lock.

There is no batcher thread.  A caller that queues a request wakes an instance only when one idles
and the policy wants it (or, for a batch that takes less time than that, works as that instance itself: ``brief_s``);
an instance that takes a batch wakes the next one only when more is due; the callers of a batch are told with one
call.  The interpreter hands over between threads every
5 ms by default, which a busy neighbour turns into milliseconds of latency: a process that serves
calls ``sys.setswitchinterval(0.0001)``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Self

from assay.batching.batch import Batch
from assay.batching.batch_times import BatchTimes
from assay.batching.errors import Cancelled, Closed, Dropped
from assay.batching.intake import Intake
from assay.batching.request import DONE, Request, deliver
from assay.batching.scheduler import Scheduler, cancel
from assay.batching.settings import BatcherSettings
from assay.batching.statistics import BatcherStatistics
from assay.batching.worker import Sessions, Worker, fitting
from assay.core import clock
from assay.core.engine import Attestation, Session
from assay.core.tensors import Array, Feed, Signature
from assay.core.units import Seconds

OnDone = Callable[[Sequence[Request]], object]


class DynamicBatcher:
    """A Session that merges its callers' requests (``run``), and a queue for callers that do not block (``submit``).

    The owner starts and closes it, and closes the session afterwards.
    """

    def __init__(
        self,
        session: Session | Mapping[int, Session],
        settings: BatcherSettings | None = None,
        times: BatchTimes | None = None,
        alone: Session | None = None,
        alone_times: BatchTimes | None = None,
    ) -> None:
        """``session`` is one session, or one for every bucket (batch size -> session of that static batch).
        ``alone`` is the same model opened for lone calls, which runs the batches beside which nothing runs;
        ``alone_times`` is t(b) of it.

        ``times`` is t(b) as measured before; it goes on being refined.  Without it ``adaptive``
        starts as ``eager``.  A model that must not be merged ignores ``buckets``; a session of
        static batch N implies ``buckets=(N,)``.  Raises BadInput for settings the model rules out.
        """
        self._sessions = Sessions.of(session, alone)
        self.settings = fitting(settings or BatcherSettings(), self._sessions)
        self._intake = Intake(self._sessions.signature)
        self._most = self.settings.max_batch if self._intake.mergeable else math.inf
        self._priority = self.settings.default_priority
        self._brief_s = self.settings.brief_s
        self._now = clock.current().now
        lone = None if alone is None else alone_times or BatchTimes(self.settings.max_batch)
        self._scheduler = Scheduler(self.settings, times, lone)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._waking = 0
        self._started = False
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._order = _Order(self._complain) if self.settings.preserve_ordering else None

    @property
    def signature(self) -> Signature:
        """What callers see: the batch is free even where the engine's is not."""
        return self._intake.signature

    @property
    def parallelism(self) -> int:
        """Callers that keep it busy: two full batches for every instance."""
        return 2 * self.settings.max_batch * self.settings.instances

    @property
    def statistics(self) -> BatcherStatistics:
        with self._lock:
            return self._scheduler.statistics()

    def start(self) -> None:
        """Start the instance threads.  Starting twice is allowed; starting after ``close`` raises Closed."""
        with self._lock:
            if self._closing:
                raise _closed()
            if self._started:
                return
            self._started = True
        for index in range(self.settings.instances):
            worker = Worker(
                self._sessions,
                self.settings.max_batch,
                self._scheduler.buckets.up,
                self.settings.isolate_failures,
                self._now,
            )
            thread = threading.Thread(target=self._work, args=(worker,), name=f"instance-{index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(
        self,
        feed: Feed,
        on_done: OnDone,
        *,
        priority: int = 0,
        deadline_s: Seconds | None = None,
        context: Any = None,
    ) -> Request:
        """Queue ``feed`` (arrays with their batch axis) and return at once.

        The arrays must stay unchanged until ``on_done`` is called (see ``Request``).  ``deadline_s``
        is a moment of ``core.clock``.  Raises SignatureMismatch or BadInput for a feed that does not
        fit, Rejected (QueueFull) with ``retry_after_s``, Closed; then ``on_done`` is not called.
        """
        request = self._request(feed, on_done, context)
        if priority or deadline_s is not None:
            self._scheduler.check(1, priority)
            request.priority = priority or self._priority
            request.deadline_s = math.inf if deadline_s is None else deadline_s
        with self._lock:
            if self._closing:
                raise _closed()
            self._scheduler.offer(request, request.enqueued_s)
            worker = self._needed(request.enqueued_s) if self._idle and not self._waking else None
            batch = self._brief(worker, request) if worker is not None and self._brief_s else None
        if worker is not None:
            if batch is None:
                worker.gate.release()
            else:
                self._run_here(worker, batch)
        return request

    def submit_many(self, feeds: Sequence[Feed], on_done: OnDone, contexts: Sequence[Any] = ()) -> list[Request]:
        """Queue several requests at once: one lock, at most one wake-up.

        A request that is refused comes back ``done`` with its ``error``, and ``on_done`` is not
        called for it.  Raises as ``submit`` does for feeds that do not fit, before any is queued.
        """
        padded = contexts or (None,) * len(feeds)
        requests = [self._request(feed, on_done, context) for feed, context in zip(feeds, padded, strict=True)]
        worker = None
        with self._lock:
            if self._closing:
                raise _closed()
            for request in requests:
                try:
                    self._scheduler.offer(request, request.enqueued_s)
                except Dropped:  # already noted in the request
                    continue
            if self._idle and not self._waking:
                worker = self._needed(self._now())
        if worker is not None:
            worker.gate.release()
        return requests

    def cancel(self, request: Request) -> bool:
        """See ``Request.cancel``."""
        with self._lock:
            error = Cancelled("the caller took the request back")
            if not cancel(self._scheduler, request, error, self._now()):
                return False
        deliver([request], self._complain)
        return True

    def run(
        self,
        feed: Feed,
        out: MutableMapping[str, Array] | None = None,
        spans: MutableMapping[str, float] | None = None,
    ) -> dict[str, Array]:
        """Submit and wait: ``core.engine.Session.run``.  ``spans`` gets ``queue`` and ``batch`` (compute and split)."""
        gate = threading.Lock()
        gate.acquire()
        request = self.submit(feed, lambda _: gate.release())
        gate.acquire()
        outputs = request.result()
        if spans is not None:
            spans["queue"] = request.started_s - request.enqueued_s
            spans["batch"] = request.finished_s - request.started_s
        for name, target in (out or {}).items():
            target[...] = outputs[name]
            outputs[name] = target
        return outputs

    def attest(self) -> Attestation:
        return self._sessions.first.attest()

    def close(self, drain_s: Seconds = 30.0) -> bool:
        """Refuse new requests, finish the waiting ones for up to ``drain_s``, then answer the rest with Closed.

        Returns whether everything that waited was served and every instance has stopped; an instance
        that hangs in its session is left behind.  Closing twice is allowed.
        """
        until_s = self._now() + drain_s
        with self._lock:
            self._closing = True
            self._wake_all()
        self._join(until_s)
        with self._lock:
            left = self._scheduler.pending.drain()
            for request in left:
                self._scheduler.drop(request, Closed("the batcher was closed while this request waited"), self._now())
            self._wake_all()
        if left:
            deliver(left, self._complain)
        self._join(max(until_s, self._now() + 0.1))
        return not left and not any(t.is_alive() for t in self._threads)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, feed: Feed, on_done: OnDone, context: Any) -> Request:
        rows, lane = self._intake.look(feed)
        if rows > self._most:
            self._scheduler.check(rows, 0)
        request = Request(feed, rows, lane, on_done, self._now())
        request.owner = self
        if context is not None:
            request.context = context
        if self._priority != 1:
            request.priority = self._priority
        return request

    def _work(self, worker: Worker) -> None:
        """An instance thread: take, run, complete, until closed and drained."""
        while (batch := self._next(worker)) is not None:
            compute_s = worker.run(batch)
            self._complete(batch, compute_s)
            del batch  # while this thread waits, nothing keeps the last callers' arrays

    def _next(self, worker: Worker) -> Batch | None:
        """The next batch, waiting for one; None when the batcher is closed and nothing waits."""
        scheduler = self._scheduler
        while True:
            other = None
            with self._lock:
                now_s = self._now()
                batch = scheduler.take(now_s, self._closing)
                dropped, scheduler.dropped = scheduler.dropped, []
                if batch is None and not dropped:
                    if self._closing:
                        return None
                    worker.armed_s = scheduler.wait_until_s
                    self._idle.append(worker)
                elif self._idle and not self._waking:
                    other = self._needed(now_s)
            if other is not None:
                other.gate.release()
            if dropped:
                deliver(dropped, self._complain)
            if batch is not None:
                return batch
            if not dropped:
                self._park(worker, worker.armed_s - now_s)

    def _park(self, worker: Worker, wait_s: Seconds) -> None:
        timeout_s = min(wait_s, threading.TIMEOUT_MAX)
        woken = worker.gate.acquire(timeout=max(0.0, timeout_s)) if math.isfinite(wait_s) else worker.gate.acquire()
        with self._lock:
            if woken:
                self._waking -= 1
            elif worker in self._idle:
                self._idle.remove(worker)
            else:  # someone is waking this worker just now
                woken = True
                self._waking -= 1
                worker.gate.acquire()

    def _needed(self, now_s: Seconds) -> Worker | None:
        """An idle worker to wake, or None.  Under the lock; the caller releases its gate afterwards."""
        due_s = self._scheduler.due_s(now_s)
        if due_s > now_s and due_s >= min(w.armed_s for w in self._idle):
            return None
        self._waking += 1
        return self._idle.pop()

    def _brief(self, worker: Worker, request: Request) -> Batch | None:
        """The next batch, where it is over before ``worker``'s thread would be awake; that thread then sleeps on.
        Under the lock."""
        scheduler = self._scheduler
        if not scheduler.times.known or scheduler.times.typical(request.rows) > self._brief_s:
            return None
        if math.isfinite(worker.armed_s):
            return None  # it may be waking up by itself just now
        batch = scheduler.take(request.enqueued_s)
        if batch is not None:
            self._waking -= 1
        return batch

    def _run_here(self, worker: Worker, batch: Batch) -> None:
        """On the thread of a caller, in the place of ``worker``'s own."""
        self._complete(batch, worker.run(batch))
        with self._lock:
            more = self._closing or bool(self._scheduler.pending.count or self._scheduler.dropped)
            if more:
                self._waking += 1
            else:
                self._idle.append(worker)
        if more:
            worker.gate.release()

    def _wake_all(self) -> None:
        while self._idle:
            self._waking += 1
            self._idle.pop().gate.release()

    def _complete(self, batch: Batch, compute_s: Seconds | None) -> None:
        requests = batch.requests
        scheduler = self._scheduler
        now_s = self._now()
        with self._lock:
            scheduler.finished(batch, now_s, compute_s)
            counters = scheduler.counters
            failed = 0
            if compute_s is None:
                failed = sum(r.error is not None for r in requests)
                counters.dropped["failed"] += failed
                counters.isolated_batches += len(requests) > 1 and self.settings.isolate_failures
            counters.completed += len(requests) - failed
        for request in requests:
            request.finished_s = now_s
            request.batch_rows = batch.rows
            request.state = DONE
        if self._order is None:
            deliver(requests, self._complain)
        else:
            self._order.deliver(batch)

    def _complain(self, error: BaseException) -> None:
        with self._lock:
            self._scheduler.counters.callback_errors += 1

    def _join(self, until_s: Seconds) -> None:
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until_s - self._now()))


class _Order:
    """Delivers batches in the order in which they were taken, whatever order they finish in.

    One thread at a time calls back, and holds no lock while it does: a callback may submit again, and a brief batch
    is then over before ``submit`` returns.
    """

    def __init__(self, complain: Callable[[BaseException], object]) -> None:
        self._complain = complain
        self._lock = threading.Lock()
        self._next = 0
        self._done: dict[int, Batch] = {}
        self._delivering = False

    def deliver(self, batch: Batch) -> None:
        with self._lock:
            self._done[batch.number] = batch
            if self._delivering:
                return
            self._delivering = True
        while (due := self._due()) is not None:
            deliver(due.requests, self._complain)

    def _due(self) -> Batch | None:
        """The next batch to tell of; None: it is still being run, and whoever ends it tells of it."""
        with self._lock:
            found = self._done.pop(self._next, None)
            self._delivering = found is not None
            self._next += self._delivering
            return found


def _closed() -> Closed:
    return Closed("this batcher is closed", remedy="start another one")
