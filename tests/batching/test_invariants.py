"""What must hold for any order of arrivals, cancellations, deadlines, failures and any policy."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.batching.batch_times import BatchTimes
from assay.batching.errors import Cancelled, Closed, Dropped
from assay.batching.request import DONE, Request
from assay.batching.scheduler import Scheduler, cancel
from assay.batching.settings import BatcherSettings

configurations = st.builds(
    BatcherSettings,
    max_batch=st.just(6),
    policy=st.sampled_from(["eager", "delay", "adaptive"]),
    max_delay_s=st.sampled_from([0.0, 0.003]),
    instances=st.integers(1, 3),
    max_queue=st.sampled_from([3, 1000]),
    buckets=st.sampled_from([(), (1, 4, 6)]),
    slo_s=st.sampled_from([None, 0.02]),
    priority_levels=st.just(2),
    on_timeout=st.sampled_from(["reject", "delay"]),
)
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("offer"),
            st.integers(1, 6),
            st.sampled_from("ab"),
            st.integers(0, 2),
            st.sampled_from([None, 0.0, 0.004, 0.1]),
        ),
        st.tuples(st.just("take")),
        st.tuples(st.just("finish")),
        st.tuples(st.just("cancel"), st.integers(0, 99)),
        st.tuples(st.just("wait"), st.sampled_from([0.0005, 0.002, 0.01])),
    ),
    max_size=60,
)


class _World:
    """A scheduler under arbitrary steps; ``ended`` counts how often every request came to an end.

    ``twice``: the model is opened a second time for lone calls, and requests come as seldom as makes others wait.
    """

    def __init__(self, configuration: BatcherSettings, twice: bool) -> None:
        points, alone = ({b: [share * (1 + b)] for b in (1, 6)} for share in (0.001, 0.0005))
        lone = BatchTimes(6, points=alone) if twice else None
        self.scheduler = Scheduler(configuration, BatchTimes(6, points=points), lone)
        self.scheduler.meter.rate = 100.0
        self.configuration = configuration
        self.now_s = 0.0
        self.requests: list[Request] = []
        self.ended: Counter[int] = Counter()
        self.taken: list[list[Request]] = []

    def offer(self, rows: int, lane: str, priority: int, left_s: float | None) -> None:
        request = Request(None, rows, lane, lambda _: None, self.now_s)
        request.priority = priority
        if left_s is not None:
            request.deadline_s = self.now_s + left_s
        self.requests.append(request)
        try:
            self.scheduler.offer(request, self.now_s)
        except Dropped as error:
            assert request.error is error
            self.ended[id(request)] += 1

    def take(self, flush: bool = False) -> bool:
        if len(self.scheduler.running) >= self.configuration.instances:
            return False
        due_s = self.scheduler.due_s(self.now_s)
        batch = self.scheduler.take(self.now_s, flush)
        dropped = self.scheduler.dropped
        for request in dropped:
            assert request.deadline_s < float("inf")
            self.ended[id(request)] += 1
        self.scheduler.dropped = []
        if batch is None:
            assert self.scheduler.wait_until_s > self.now_s
            postponing = self.configuration.on_timeout == "delay"  # a postponed request may wait for company again
            assert due_s > self.now_s or dropped or postponing
            return False
        assert due_s <= self.now_s or flush or dropped
        assert 1 <= batch.rows == sum(r.rows for r in batch.requests) <= 6
        assert batch.rows <= batch.size
        assert batch.size in (self.configuration.buckets or range(7))
        assert len({r.lane for r in batch.requests}) == 1
        self.taken.append(batch.requests)
        return True

    def finish(self) -> None:
        if not self.scheduler.running:
            return
        batch = self.scheduler.running[0]
        batch.apart = batch.alone and self.scheduler.one_by_one is not None
        self.scheduler.finished(batch, self.now_s, max(1e-6, self.now_s - batch.started_s))
        for request in batch.requests:
            request.state = DONE
            self.ended[id(request)] += 1

    def cancel(self, index: int) -> None:
        if self.requests:
            request = self.requests[index % len(self.requests)]
            if cancel(self.scheduler, request, Cancelled("no more"), self.now_s):
                self.ended[id(request)] += 1

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


@settings(max_examples=200, deadline=None)
@given(configurations, st.booleans(), steps)
def test_every_request_ends_exactly_once(configuration, twice, steps):
    world = _World(configuration, twice)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
        pending = world.scheduler.pending
        assert pending.count == sum(1 for r in world.requests if r.state == 0)
        assert pending.rows == sum(r.rows for r in world.requests if r.state == 0)
    while world.scheduler.pending.count or world.scheduler.running:
        if not world.take(flush=True):
            world.finish()
    assert sorted(world.ended.values()) == [1] * len(world.requests)
    counters = world.scheduler.counters
    assert counters.submitted == len(world.requests)
    assert sum(counters.dropped.values()) + sum(map(len, world.taken)) == len(world.requests)


@settings(max_examples=200, deadline=None)
@given(configurations, st.booleans(), steps)
def test_first_come_first_served_within_lane_and_priority(configuration, twice, steps):
    world = _World(configuration, twice)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    late = configuration.on_timeout == "delay"
    for lane in "ab":
        for priority in (1, 2):
            served = [
                r.sequence
                for batch in world.taken
                for r in batch
                if r.lane == lane and r.priority == priority and not (late and r.deadline_s == float("inf"))
            ]
            assert served == sorted(served)


@settings(max_examples=100, deadline=None)
@given(configurations, st.booleans(), steps)
def test_drain_leaves_nothing(configuration, twice, steps):
    world = _World(configuration, twice)
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    waiting = [r for r in world.requests if r.state == 0]
    drained = world.scheduler.pending.drain()
    assert sorted(map(id, drained)) == sorted(map(id, waiting))
    for request in drained:
        world.scheduler.drop(request, Closed("closed"), world.now_s)
    assert world.scheduler.take(world.now_s, flush=True) is None
    assert world.scheduler.pending.rows == 0


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=40),
    axis=st.integers(0, 1),
    buckets=st.sampled_from([(), (2, 4), (4,)]),
    policy=st.sampled_from(["eager", "delay", "adaptive"]),
    poison=st.booleans(),
)
def test_rows_return_to_their_callers(sizes, axis, buckets, policy, poison):
    """Real threads, real arrays, any batch axis, padding, and possibly one request that breaks its batch."""
    from assay.batching.batcher import DynamicBatcher
    from assay.core.tensors import Signature, TensorSpec

    shape = ("n", 3) if axis == 0 else (3, "n")
    signature = Signature((TensorSpec("x", "int64", shape, axis),), (TensorSpec("y", "int64", shape, axis),))

    class Doubling:
        parallelism = 2

        def __init__(self) -> None:
            self.signature = signature

        def run(self, feed, out=None, spans=None):
            x = feed["x"]
            assert x.flags.c_contiguous
            if (x == 0).any() and poison:
                raise ValueError("poison")
            return {"y": x * 2}

    done: list[Request] = []
    configuration = BatcherSettings(max_batch=4, buckets=buckets, policy=policy, max_delay_s=0.001, instances=2)
    with DynamicBatcher(Doubling(), configuration) as batcher:  # type: ignore[arg-type]
        feeds = []
        for index, rows in enumerate(sizes):
            values = 100 * index + np.arange(rows)
            feeds.append({"x": np.ascontiguousarray(np.moveaxis(np.repeat(values[:, None], 3, axis=1), 0, axis))})
        batcher.submit_many(feeds, done.extend, range(len(sizes)))
    assert sorted(r.context for r in done) == list(range(len(sizes)))
    for request in done:
        if poison and request.context == 0:
            assert request.error is not None
        else:
            np.testing.assert_array_equal(request.result()["y"], feeds[request.context]["x"] * 2)
