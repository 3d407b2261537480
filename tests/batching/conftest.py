"""A session made of a function, and a scheduler that is given its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import numpy as np
import pytest

from assay.batching.batch_times import BatchTimes
from assay.batching.batcher import DynamicBatcher
from assay.batching.request import Request
from assay.batching.scheduler import Scheduler
from assay.batching.settings import BatcherSettings
from assay.core.engine import Attestation
from assay.core.tensors import Array, Feed, Signature, TensorSpec

ONE = Signature((TensorSpec("x", "float32", ("n", "w")),), (TensorSpec("y", "float32", ("n", "w")),))


class FunctionSession:
    """Runs ``function(feed) -> outputs``; ``seen`` holds copies of the feeds, in order."""

    parallelism = 8

    def __init__(self, function: Callable[[Feed], dict[str, Array]], signature: Signature = ONE) -> None:
        self.signature = signature
        self.seen: list[dict[str, Array]] = []
        self._function = function

    def run(
        self,
        feed: Feed,
        out: MutableMapping[str, Array] | None = None,
        spans: MutableMapping[str, float] | None = None,
    ) -> dict[str, Array]:
        self.signature.check_feed(feed)
        self.seen.append({name: np.array(array) for name, array in feed.items()})
        return self._function(feed)

    def attest(self) -> Attestation:
        return Attestation({}, how="a function")

    def close(self) -> None:
        pass

    def __enter__(self) -> FunctionSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Gathered:
    """An ``on_done`` that keeps what it is given; ``wait(n)`` blocks until ``n`` requests are done."""

    def __init__(self) -> None:
        self.calls: list[list[Request]] = []
        self._changed = threading.Condition()

    def __call__(self, requests: Sequence[Request]) -> None:
        with self._changed:
            self.calls.append(list(requests))
            self._changed.notify_all()

    @property
    def requests(self) -> list[Request]:
        return [r for call in self.calls for r in call]

    def wait(self, count: int, timeout_s: float = 10.0) -> list[Request]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s), (
                f"{len(self.requests)} of {count} requests were done after {timeout_s} s"
            )
            return self.requests


class Desk:
    """A scheduler at a time of one's own choosing."""

    def __init__(self, settings: BatcherSettings, points: Mapping[int, Sequence[float]] | None = None) -> None:
        self.scheduler = Scheduler(settings, BatchTimes(settings.max_batch, points=points))
        self.done = Gathered()

    def offer(self, now_s: float, rows: int = 1, lane: Any = "a", **set: Any) -> Request:
        request = Request(None, rows, lane, self.done, now_s)
        for name, value in set.items():
            setattr(request, name, value)
        self.scheduler.offer(request, now_s)
        return request

    def take(self, now_s: float) -> list[Request] | None:
        """The requests of the batch started now; it counts as running until ``finish``."""
        batch = self.scheduler.take(now_s)
        return None if batch is None else batch.requests

    def finish(self, now_s: float, compute_s: float | None = None) -> None:
        batch = self.scheduler.running[0]
        self.scheduler.finished(batch, now_s, now_s - batch.started_s if compute_s is None else compute_s)


@pytest.fixture
def desk() -> Callable[..., Desk]:
    def make(points: Mapping[int, Sequence[float]] | None = None, **settings: Any) -> Desk:
        return Desk(BatcherSettings(**settings), points)

    return make


@pytest.fixture
def session() -> type[FunctionSession]:
    return FunctionSession


@pytest.fixture
def gathered() -> Gathered:
    return Gathered()


@pytest.fixture
def start() -> Iterator[Callable[..., DynamicBatcher]]:
    """``start(session, **settings)``: a running batcher, closed at the end of the test."""
    running: list[DynamicBatcher] = []

    def make(session: Any, **settings: Any) -> DynamicBatcher:
        batcher = DynamicBatcher(session, BatcherSettings(**settings))
        running.append(batcher)
        batcher.start()
        return batcher

    yield make
    for batcher in running:
        batcher.close(drain_s=5)


@pytest.fixture
def row() -> Callable[..., dict[str, Array]]:
    """``row(3)``: a feed of one row whose values are 3; ``row(3, rows=2, width=5)``."""

    def make(value: float, rows: int = 1, width: int = 1) -> dict[str, Array]:
        return {"x": np.full((rows, width), value, np.float32)}

    return make


@pytest.fixture
def plus_one() -> FunctionSession:
    return FunctionSession(lambda feed: {"y": feed["x"] + 1})


class Held:
    """A session function that waits until ``release`` is called; ``entered`` says that a batch is in it."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._go = threading.Event()

    def __call__(self, feed: Feed) -> dict[str, Array]:
        self.entered.release()
        assert self._go.wait(10)
        return {"y": feed["x"] + 1}

    def release(self) -> None:
        self._go.set()


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.release()
