"""The pipeline itself: read ahead, work in parallel, write shards, stop where asked, lose nothing."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from assay.core import clock
from assay.core.dataset import Scored
from assay.core.errors import AssayError, BadInput
from assay.core.units import Seconds
from assay.pipeline.batch_work import BatchResult, Worker
from assay.pipeline.reading import Batch, ReadAhead
from assay.pipeline.settings import Failure, Flow, Stages
from assay.pipeline.shards import Shard, ShardStore
from assay.pipeline.stopwatch import Stopwatch

_MOST_SHOWN = 5
_JOIN_S = 0.1


@dataclass(frozen=True)
class Outcome:
    """``read`` = ``scored`` + failures, over all shards; ``done_now`` samples went through in this run, the rest
    were found finished.  ``watch`` times this run alone."""

    read: int
    scored: int
    failures: tuple[Failure, ...]
    done_now: int
    seconds: Seconds
    watch: Stopwatch


@dataclass
class _Open:
    """A shard some of whose batches are done."""

    results: dict[int, BatchResult] = field(default_factory=dict)


Enough = Callable[[ShardStore], bool]
"""Asked after every shard that is written; True ends the run there."""


class _State:
    """What the workers share."""

    def __init__(
        self, flow: Flow, store: ShardStore, on_progress: Callable[[int], Any] | None, enough: Enough | None = None
    ) -> None:
        self.flow = flow
        self.store = store
        self.failed = sum(len(s.failures) for s in store.finished.values())
        self.scored = sum(s.scored for s in store.finished.values())
        self.done_now = 0
        self.error: BaseException | None = None
        self.lock = threading.Lock()
        self._before = self.failed + self.scored
        self._on_progress = on_progress
        self._enough = enough
        self.ended = False
        self._open: dict[int, _Open] = {}

    def take(self, batch: Batch, result: BatchResult) -> None:
        """Keep a batch's result; the last of a shard writes it.  Raises when there were too many failures."""
        with self.lock:
            self.failed += len(result.failures)
            self.scored += len(result.scored)
            self.done_now += len(result.scored) + len(result.failures)
            self._refuse_too_many(result)
            opened = self._open.setdefault(batch.shard, _Open())
            opened.results[batch.number] = result
            start, stop = self.flow.shard_range(batch.shard)
            whole = len(opened.results) == -(-(stop - start) // self.flow.batch)
            if whole:
                del self._open[batch.shard]
            if self._on_progress is not None:
                self._on_progress(self._before + self.done_now)
        if whole:
            self.store.write(_shard(batch.shard, opened, stop - start))
            with self.lock:
                if self._enough is not None and not self.ended:
                    self.ended = self._enough(self.store)

    def outcome(self, seconds: Seconds, watch: Stopwatch) -> Outcome:
        finished = self.store.finished
        failures = tuple(f for shard in sorted(finished) for f in finished[shard].failures)
        if self.ended:
            scored = sum(s.scored for s in finished.values())
            return Outcome(scored + len(failures), scored, failures, self.done_now, seconds, watch)
        if self.scored + self.failed != self.flow.total:
            raise AssayError(
                f"{self.scored} scored and {self.failed} failed samples do not add up to {self.flow.total}"
            )
        return Outcome(self.flow.total, self.scored, failures, self.done_now, seconds, watch)

    def _refuse_too_many(self, result: BatchResult) -> None:
        most = self.flow.max_failures
        if result.error is not None and not self.scored:
            raise result.error  # nothing at all could be scored: it would be the same for every sample
        if most is None or self.failed <= most or not result.failures:
            return
        shown = "; ".join(f"{id}: {reason}" for id, reason in result.failures[:_MOST_SHOWN])
        raise BadInput(
            f"{self.failed} samples failed, more than the {most} allowed: {shown}",
            remedy=f"repair or remove them, or go on without them: --max-failures {max(10, 2 * self.failed)}",
        )


def run(
    stages: Stages,
    flow: Flow,
    store: ShardStore,
    on_progress: Callable[[int], Any] | None = None,
    enough: Enough | None = None,
) -> Outcome:
    """Take every sample that no finished shard holds through the stages, or as many as are ``enough``: then what
    unfinished shards hold does not count.

    Raises BadInput for more failures than allowed, or the first error when nothing could be scored; shards that
    were finished before stay and are not done again.  Ctrl-C stops between batches.
    """
    watch = Stopwatch()
    state = _State(flow, store, on_progress, enough)
    state.ended = enough is not None and bool(store.finished) and enough(store)
    missing = [] if state.ended else [shard for shard in range(flow.shards) if shard not in store.finished]
    started = clock.now()
    permits = threading.Semaphore(flow.cores)
    workers = [Worker(stages, flow, watch, permits) for _ in range(flow.workers)]
    source = ReadAhead(stages, flow, missing, watch)
    threads = [threading.Thread(target=_work, args=(worker, source, state), daemon=True) for worker in workers]
    # The libraries' objects, some hundred thousand, are not searched for garbage again and again meanwhile: that
    # would stop all workers for 50 ms each time.  What is made from here on is.
    gc.freeze()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_JOIN_S)  # with a timeout, so that Ctrl-C is noticed
    finally:
        gc.unfreeze()
        source.stop()
        for thread in threads:
            if thread.ident is not None:  # Ctrl-C may come before all are started
                thread.join()
        source.join()
    error = state.error or source.error
    if error is not None:
        raise error
    return state.outcome(clock.now() - started, watch)


def gather(
    results: Iterable[tuple[Batch, BatchResult]],
    flow: Flow,
    store: ShardStore,
    on_progress: Callable[[int], Any] | None = None,
) -> Outcome:
    """The same for batches that workers elsewhere have done, in any order; ``watch`` times nothing."""
    state = _State(flow, store, on_progress)
    started = clock.now()
    for batch, result in results:
        state.take(batch, result)
    return state.outcome(clock.now() - started, Stopwatch())


def _work(worker: Worker, source: ReadAhead, state: _State) -> None:
    try:
        while (batch := source.next()) is not None:
            state.take(batch, worker.work(batch))
            if state.ended:
                source.stop()
    except BaseException as error:  # told by the thread that waits
        with state.lock:
            state.error = state.error or error
        source.stop()


def _shard(number: int, opened: _Open, expected: int) -> Shard:
    scored: list[Scored] = []
    failures: list[Failure] = []
    for batch in sorted(opened.results):
        scored += opened.results[batch].scored
        failures += opened.results[batch].failures
    if len(scored) + len(failures) != expected:
        raise AssayError(f"shard {number} has {len(scored)} scored and {len(failures)} failed of {expected} samples")
    ids = {s.id for s in scored}
    if len(ids) < len(scored):
        raise BadInput(f"{len(scored) - len(ids)} sample ids occur more than once among the samples of shard {number}")
    return Shard(number, tuple(scored), tuple(failures))
