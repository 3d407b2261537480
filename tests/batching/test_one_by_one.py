"""Where one call over all cores after the other answers sooner than calls side by side."""

from __future__ import annotations

import math

import numpy as np
import pytest

from assay.batching.arrivals import constant, poisson
from assay.batching.batch_times import BatchTimes
from assay.batching.errors import Rejected
from assay.batching.meter import EVERY, Meter
from assay.batching.one_by_one import PATIENCE, in_system_s
from assay.batching.request import Request
from assay.batching.scheduler import TRY_EVERY, Scheduler
from assay.batching.settings import BatcherSettings
from assay.batching.simulator import Clients, Machine, simulate

SIDE_BY_SIDE = 0.0087
APART = 0.0045
SETTINGS = BatcherSettings(max_batch=8, instances=2)


def both(alone_s=None):
    """resnet18 on two cores: 8.7 ms on one beside another, 4.5 ms on both."""
    return Machine(lambda b: SIDE_BY_SIDE * b, alone_s=alone_s)


def test_the_formula_is_pollaczeks_for_one_call_at_a_time():
    for busy in (0.1, 0.5, 0.9):
        assert in_system_s(2.0, 1, busy / 2.0) == pytest.approx(2.0 * (1 + busy / (2 * (1 - busy))))
    assert in_system_s(2.0, 4, 1e-9) == pytest.approx(2.0)
    assert in_system_s(2.0, 1, 0.5) == math.inf


@pytest.mark.parametrize("rate", [50, 100, 150])
def test_the_formula_agrees_with_the_simulator(rate):
    """For two at once it is an approximation: within 6 % up to two thirds of the highest rate."""
    for at_once, call_s in ((1, APART), (2, SIDE_BY_SIDE)):
        run = simulate(
            BatcherSettings(max_batch=1, instances=at_once, policy="eager"),
            Machine(lambda b, call_s=call_s: call_s),
            poisson(rate, 20_000, seed=3),
        )
        assert in_system_s(call_s, at_once, rate) == pytest.approx(run.latency_s.mean(), rel=0.06)


def test_at_middling_loads_everybody_is_answered_sooner():
    load = poisson(120, 8000, seed=1)
    before, after = (simulate(SETTINGS, both(alone_s), load) for alone_s in (None, lambda b: APART * b))
    assert after.latency(0.5) < 0.7 * before.latency(0.5)
    assert after.latency_s.mean() < 0.85 * before.latency_s.mean()
    assert after.latency(0.99) < 1.05 * before.latency(0.99)


def test_a_loop_that_is_always_at_its_limit_keeps_its_rate():
    found = [simulate(SETTINGS, both(alone_s), Clients(8, 4000)).throughput for alone_s in (None, lambda b: APART * b)]
    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_a_call_over_all_cores_that_saves_little_is_not_waited_for():
    """A small model: 1 ms on all cores, 1.1 ms on one of two."""
    load = poisson(1000, 8000, seed=1)
    machine = Machine(lambda b: 0.0011 * b, alone_s=lambda b: 0.001 * b)
    found = simulate(SETTINGS, machine, load)
    plain = simulate(SETTINGS, Machine(lambda b: 0.0011 * b), load)
    assert found.latency_s.mean() <= plain.latency_s.mean()


class World:
    """A scheduler with a rate it has measured: 100 requests/s."""

    def __init__(self, **settings):
        points = {1: [SIDE_BY_SIDE] * 5, 8: [8 * SIDE_BY_SIDE] * 5}
        alone = {1: [APART] * 5, 8: [8 * APART] * 5}
        settings = BatcherSettings(**{"max_batch": 8, "instances": 2, **settings})
        self.scheduler = Scheduler(settings, BatchTimes(8, points=points), BatchTimes(8, points=alone))
        self.now_s = 0.0
        for _ in range(3 * EVERY):
            self.now_s += 0.01
            self.offer()
            self.finish(self.scheduler.take(self.now_s))
        assert self.scheduler.meter.rate == pytest.approx(100, rel=0.01)

    def offer(self, rows=1, **more):
        request = Request(None, rows, "a", lambda _: None, self.now_s)
        for name, value in more.items():
            setattr(request, name, value)
        self.scheduler.offer(request, self.now_s)

    def take(self):
        """The batch, asked for as an instance does it: ``due_s`` says the same beforehand."""
        due_s = self.scheduler.due_s(self.now_s)
        batch = self.scheduler.take(self.now_s)
        assert (due_s <= self.now_s) == (batch is not None)
        assert batch is not None or self.scheduler.wait_until_s == due_s
        return batch

    def finish(self, batch):
        batch.apart = batch.alone
        self.scheduler.finished(batch, self.now_s, batch.predicted_s)


def test_what_comes_meanwhile_waits_for_the_call_and_goes_the_same_way():
    world = World()
    world.offer()
    first = world.take()
    assert first.alone and first.predicted_s == pytest.approx(APART)
    world.offer()
    assert world.take() is None
    assert world.scheduler.wait_until_s == pytest.approx(world.now_s + PATIENCE * APART)
    world.now_s += APART
    world.finish(first)
    assert world.take().alone


def test_a_call_that_does_not_end_is_not_waited_for():
    world = World()
    world.offer()
    world.take()
    world.offer()
    assert world.take() is None
    world.now_s = world.scheduler.wait_until_s
    assert not world.take().alone


def test_a_long_call_is_not_waited_for():
    world = World()
    world.offer(rows=8)
    world.take()
    world.offer()
    assert not world.take().alone


def test_a_burst_is_worked_off_side_by_side():
    world = World()
    world.offer()
    world.take()
    world.offer()
    assert world.take() is None
    world.offer()
    assert not world.take().alone
    world = World(instances=8)
    world.offer()
    world.take()
    for _ in range(4):
        world.offer()
        assert world.take() is None
    world.offer()
    assert not world.take().alone


def test_what_has_a_deadline_is_planned_side_by_side():
    world = World()
    world.offer()
    world.take()
    world.offer(deadline_s=world.now_s + 1)
    assert not world.take().alone


def test_draining_waits_for_nobody():
    world = World()
    world.offer()
    world.take()
    world.offer()
    assert world.scheduler.take(world.now_s, flush=True) is not None


def test_before_a_rate_was_measured_nothing_waits():
    settings = BatcherSettings(max_batch=1, instances=2)
    scheduler = Scheduler(settings, BatchTimes(1, points={1: [SIDE_BY_SIDE]}), BatchTimes(1, points={1: [APART]}))
    for _ in range(2):
        scheduler.offer(Request(None, 1, "a", lambda _: None, 0.0), 0.0)
    assert scheduler.take(0.0) is not None and scheduler.take(0.0) is not None


def test_the_meter_follows_the_arrivals():
    meter = Meter()
    for now_s in constant(50, 100):
        meter.arrived(3)
        meter.finished(float(now_s))
    assert meter.rate == pytest.approx(150, rel=0.01)
    assert np.isfinite(meter.rate)


def test_a_lone_request_is_promised_what_the_session_for_lone_calls_takes():
    """8 ms are too little for a call beside another, and plenty for one alone."""
    load = constant(1, 150)
    settings = BatcherSettings(max_batch=8, instances=2, slo_s=0.008)
    assert simulate(settings, both(lambda b: APART * b), load).answered == 150
    assert simulate(settings, both(), load).answered == 150 // TRY_EVERY


def test_company_is_promised_what_calls_side_by_side_take():
    world = World()
    world.offer(deadline_s=world.now_s + 0.008)
    assert world.take() is not None
    with pytest.raises(Rejected, match=r"would be finished in 8\.7 ms"):
        world.offer(deadline_s=world.now_s + 0.008)


def test_an_idle_scheduler_that_believes_too_much_of_t_finds_out():
    """It was measured at 6 ms while something else had the machine, and is 2."""
    scheduler = Scheduler(BatcherSettings(max_batch=1, slo_s=0.005), BatchTimes(1, points={1: [0.006] * 5}))
    refused = 0
    for second in range(1000):
        try:
            scheduler.offer(Request(None, 1, "a", lambda _: None, second), second)
        except Rejected:
            refused += 1
            continue
        scheduler.finished(scheduler.take(second), second + 0.002, 0.002)
    assert refused < 500
    scheduler.offer(Request(None, 1, "a", lambda _: None, 1000.0), 1000.0)
