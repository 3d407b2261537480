"""The reading thread: batches of items ahead of the workers, as many as a bounded queue holds."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from assay.core import clock
from assay.core.dataset import Item
from assay.core.errors import AssayError
from assay.pipeline.settings import Failure, Flow, Stages
from assay.pipeline.stopwatch import Stopwatch

_POLL_S = 0.05


@dataclass
class Batch:
    """Samples ``start`` … of one shard: those that could be read, and the others with their reasons."""

    shard: int
    number: int
    items: list[Item] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


class Reading:
    """Items in order, from one pass over the data for as long as nothing is left out or broken."""

    def __init__(self, read: Callable[[int, int], Iterator[Item]], total: int) -> None:
        self._read = read
        self._total = total
        self._place = -1
        self._items: Iterator[Item] = iter(())

    def fill(self, batch: Batch, start: int, stop: int) -> Batch:
        """Items ``start`` to ``stop`` into ``batch``; a bad one is noted and reading begins again behind it."""
        place = start
        while place < stop:
            if self._place != place:
                self._items = self._read(place, self._total)
            try:
                batch.items.append(next(self._items))
            except StopIteration:
                batch.failures += [(f"item {i}", "the data ended before it") for i in range(place, stop)]
                self._place = -1
                return batch
            except AssayError as error:
                batch.failures.append((f"item {place}", error.message))
                self._place = -1
            else:
                self._place = place + 1
            place += 1
        return batch


class ReadAhead:
    """Reads the batches of ``shards`` in order.  ``next`` gives None when there are no more."""

    def __init__(self, stages: Stages, flow: Flow, shards: Iterable[int], watch: Stopwatch) -> None:
        self._reading = Reading(stages.read, flow.total)
        self._flow = flow
        self._shards = list(shards)
        self._watch = watch
        self._queue: queue.Queue[Batch | None] = queue.Queue(maxsize=flow.workers + 1)
        self._stop = threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="assay-read", daemon=True)
        self._thread.start()

    def next(self) -> Batch | None:
        started = clock.now()
        while not self._stop.is_set():
            try:
                found = self._queue.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            self._watch.starved(clock.now() - started)
            if found is None:
                self._queue.put(None)  # for the other workers; the reader has ended, so there is room
            return found
        return None

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            for shard in self._shards:
                start, stop = self._flow.shard_range(shard)
                for number, begin in enumerate(range(start, stop, self._flow.batch)):
                    batch = self._batch(Batch(shard, number), begin, min(stop, begin + self._flow.batch))
                    if not self._put(batch):
                        return
        except BaseException as error:  # handed to whoever waits for the pipeline
            self.error = error
            self._stop.set()
            return
        self._put(None)

    def _put(self, batch: Batch | None) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(batch, timeout=_POLL_S)
            except queue.Full:
                continue
            return True
        return False

    def _batch(self, batch: Batch, start: int, stop: int) -> Batch:
        began = clock.now()
        self._reading.fill(batch, start, stop)
        self._watch.add("read", began, stop - start)
        return batch
