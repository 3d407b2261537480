"""Open loop.  Times are only ever bounded from the side that noise cannot cross."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from assay.batching.arrivals import constant, poisson
from assay.batching.batcher import DynamicBatcher
from assay.batching.direct import Direct
from assay.batching.settings import BatcherSettings
from assay.core import clock
from assay.core.errors import BadInput, EngineFailed, UnknownName
from assay.core.record import Record
from assay.core.workload import Arrivals
from assay.measure.find_rate import SearchPlan, find_rate
from assay.measure.little import Inflight, little
from assay.measure.server import Limit, measure_server, press_schedule

OUTPUT = {"y": np.zeros((1, 3), np.float32)}


def load(rate=500.0, duration_s=0.6, **settings):
    return Arrivals(rate, duration_s, **{"warmup_s": 0.0, **settings})


@pytest.mark.parametrize("rate", [0, -5, float("nan"), float("inf")])
def test_rates_that_cannot_be(rate):
    with pytest.raises(BadInput, match="rate above zero"):
        load(rate)


def test_other_loads_that_cannot_be(session_of, signature, feeds):
    with pytest.raises(BadInput, match="longer than"):
        load(duration_s=0)
    with pytest.raises(UnknownName, match="'poison'"):
        load(kind="poison")
    with pytest.raises(BadInput, match="no limit to hold"):
        Limit(0.0)
    with (
        pytest.raises(BadInput, match="none after the warm-up"),
        Direct(session_of(lambda f: OUTPUT, signature())) as target,
    ):
        measure_server(target, feeds(1), load(warmup_s=5.0), np.array([0.1, 0.2]))


@pytest.mark.parametrize("batched", [False, True])
def test_every_arrival_is_sent_answered_and_kept(session_of, signature, feeds, batched):
    session = session_of(lambda f: {"y": np.zeros((len(f["x"]), 3), np.float32)}, signature(), parallelism=2)
    schedule = poisson(500, 300, seed=1)
    target = DynamicBatcher(session, BatcherSettings(max_batch=4)) if batched else Direct(session)
    with target:
        found = measure_server(target, feeds(1, 3), load(warmup_s=float(schedule[50])), schedule)
    assert len(found.values) == 300
    assert found.warmup[:50].all()
    columns = found.columns
    assert columns["scheduled_s"] == pytest.approx(schedule)
    assert found.values == pytest.approx(columns["ended_s"] - columns["scheduled_s"])
    assert (columns["queued_s"] >= columns["scheduled_s"]).all()
    assert (columns["started_s"] >= columns["queued_s"]).all()
    assert (columns["ended_s"] >= columns["started_s"]).all()
    assert found.figures["requests.unanswered"].value == 0
    assert found.conditions["rate"] == 500
    assert found.figures["latency.mean"].value >= found.figures["service.mean"].value
    assert found.details["observed_s"]["max"] == pytest.approx(found.counted.max())


def test_a_stall_is_charged_to_everyone_who_came_meanwhile(session_of, signature, feeds):
    """The engine holds still for 150 ms every 500 ms.  A tester that waits for answers would see one slow
    call per stall; here 30 % of the arrivals fall into one, so p99 must be nearly the whole stall."""
    stall_s, every_s = 0.15, 0.5
    state = {"next": None}
    wait = threading.Event().wait

    def function(feed):
        now = clock.now()
        if state["next"] is None:
            state["next"] = now + every_s
        if now >= state["next"]:
            wait(stall_s)
            state["next"] = now + every_s
        return OUTPUT

    schedule = constant(400, 1000)
    with Direct(session_of(function, signature())) as target:
        found = measure_server(target, feeds(1), load(400, 2.5), schedule)
    stalls = int((found.columns["ended_s"] - found.columns["started_s"] > 0.9 * stall_s).sum())
    assert stalls >= 3
    assert found.details["observed_s"]["p99"] >= 0.85 * stall_s
    assert found.figures["service.p50"].value < 0.5 * stall_s
    slow = int((found.values > 0.3 * stall_s).sum())
    assert slow >= 10 * stalls, "all who came during a stall are charged, not one call a stall"


def test_a_queue_that_sheds_load_is_counted_not_hidden(session_of, signature, feeds):
    wait = threading.Event().wait

    def function(feed):
        wait(0.01)
        return {"y": np.zeros((len(feed["x"]), 3), np.float32)}

    settings = BatcherSettings(max_batch=1, max_queue=5)
    with DynamicBatcher(session_of(function, signature()), settings) as target:
        found = measure_server(target, feeds(1), load(2000), constant(2000, 600))
    shed = found.figures["requests.unanswered"].value
    assert shed > 100
    assert found.details["unanswered"] == {"QueueFull": shed}
    assert np.isinf(found.values).sum() == shed
    assert found.figures["latency.mean"].value is None
    assert "were not answered" in found.figures["latency.p99"].reason
    assert found.details["observed_s"]["p99"] is None
    assert any(f"not answered: {shed:g} QueueFull" in w for w in found.warnings)
    Record("measure", {}, figures=found.figures).to_json()


def test_nothing_answered_is_a_failure(session_of, signature, feeds):
    def function(feed):
        raise EngineFailed("device lost")

    with (
        pytest.raises(EngineFailed, match="not one was answered: device lost"),
        Direct(session_of(function, signature())) as target,
    ):
        measure_server(target, feeds(1), load(), constant(1000, 100))


class Hasty:
    """A stand-in whose odd requests have failed, and were told to have, before ``submit_many`` is back."""

    def submit_many(self, feeds, on_done, contexts=()):
        made = []
        for context in contexts:
            error = EngineFailed("device lost") if context % 2 else None
            at = {"enqueued_s": clock.now(), "started_s": clock.now(), "finished_s": clock.now()}
            made.append(SimpleNamespace(error=error, done=True, outputs={}, context=context, **at))
        for answer in made:
            on_done([answer])
        return made


def test_a_request_that_fails_at_once_is_counted_once(feeds):
    found = measure_server(Hasty(), feeds(1), load(), constant(1000, 200))
    assert found.figures["requests.unanswered"].value == 100
    assert found.details["unanswered"] == {"EngineFailed": 100}
    assert found.conditions["given_up"] is False


def test_a_limit_that_is_lost_in_the_warm_up_still_gives_an_answer(session_of, signature, feeds):
    wait = threading.Event().wait

    def function(feed):
        wait(0.01)
        return OUTPUT

    with Direct(session_of(function, signature())) as target:
        found = measure_server(target, feeds(1), load(400, 2.0, warmup_s=0.25), constant(400, 900), Limit(0.001))
    assert found.conditions["given_up"] is True
    assert len(found.values) > 100
    assert found.details["within_limit"] < 0.5


def test_answers_that_never_come_are_not_waited_for_for_ever(session_of, signature, feeds):
    stuck = threading.Event()
    calls = []

    def function(feed):
        calls.append(1)
        if len(calls) > 50:
            stuck.wait(20)
        return OUTPUT

    with Direct(session_of(function, signature())) as target:
        found = measure_server(target, feeds(1), load(drain_s=0.1), constant(1000, 100))
        stuck.set()
    assert found.figures["requests.unanswered"].value >= 49
    assert any("without an answer" in w for w in found.warnings)


def test_a_trial_is_given_up_once_the_limit_cannot_hold(session_of, signature, feeds):
    wait = threading.Event().wait

    def function(feed):
        wait(0.02)
        return OUTPUT

    with Direct(session_of(function, signature())) as target:
        served = press_schedule(target, feeds(1), constant(200, 500), Limit(0.01), 5.0)
    assert served.sent < 500
    assert served.within(0.01) < 0.99


def test_littles_law_on_a_queue_of_known_occupancy():
    """Three requests a second, each stays a second and a half: 4.5 in flight."""
    scheduled = np.arange(0, 300, 1 / 3)
    inflight = Inflight(300.0, seed=3)
    while inflight.next_s < 299:
        at = inflight.next_s
        inflight.note(at, int((scheduled + 1.5 <= at).sum()))
    law = little(inflight, scheduled, np.full(len(scheduled), 1.5), 10)
    assert law.predicted == pytest.approx(4.5, rel=0.01)
    assert law.sampled.value == pytest.approx(4.5, rel=0.05)
    assert law.holds is True
    assert law.warnings() == []
    lost = little(inflight, scheduled, np.full(len(scheduled), 0.75), 10)
    assert lost.holds is False
    assert "Little's law does not hold" in lost.warnings()[0]


def test_littles_law_says_when_it_cannot_tell():
    inflight = Inflight(1.0)
    for answered in range(10):
        inflight.note(0.1 * answered, answered)
    law = little(inflight, np.linspace(0, 1, 20), np.full(20, 0.01), 0)
    assert law.holds is None
    assert "50 are needed" in law.reason
    assert little(inflight, np.linspace(0, 1, 20), np.full(20, np.inf), 0).holds is None


def test_littles_law_is_checked_in_a_real_run(session_of, signature, feeds):
    wait = threading.Event().wait

    def function(feed):
        wait(0.005)
        return OUTPUT

    with Direct(session_of(function, signature(), parallelism=4)) as target:
        found = measure_server(target, feeds(1), load(200, 1.5), poisson(200, 300, seed=2))
    law = found.details["little"]
    assert law["rate_times_latency"] >= 0.9  # 200 a second, 5 ms at least
    assert law["holds"] is True


@pytest.mark.parametrize("capacity", [37.0, 100.0, 940.0])
def test_the_highest_rate_is_found(capacity):
    asked = []

    def press(rate, duration_s):
        asked.append((rate, duration_s))
        return (1.0 if rate <= capacity else 0.9), int(rate * duration_s)

    found = find_rate(press, Limit(0.015), 200.0, SearchPlan(within=0.02))
    assert SearchPlan().duration_s(1e6, Limit(3.0)) == 30.0  # a queue that grows must have time to show
    assert found.rate == pytest.approx(capacity, rel=0.03)
    assert found.rate <= capacity
    assert all(duration_s * rate >= 399 or duration_s == 20.0 for rate, duration_s in asked)
    assert len(found.trials) == len(asked)
    assert found.trials[0].to_json()["rate"] == 200.0


def test_no_rate_holds():
    found = find_rate(lambda rate, duration_s: (0.0, 400), Limit(0.001), 100.0)
    assert found.rate is None
    assert "not even" in found.reason and "within 1 ms often" in found.reason
    patient = find_rate(lambda rate, duration_s: (1.0, 400), Limit(0.1), 100.0, SearchPlan(most_trials=4))
    assert patient.rate == patient.trials[-1].rate == 800.0
    with pytest.raises(BadInput, match="rate to start from"):
        find_rate(lambda rate, duration_s: (0.0, 400), Limit(0.001), 0.0)
