import sys
import threading
import time

import numpy as np
import pytest

from assay.core import clock
from assay.core.errors import BadInput, EngineFailed
from assay.core.workload import StopRule, Workload
from assay.measure.stopping import Stopper
from assay.measure.throughput import measure_throughput

OUTPUT = {"y": np.zeros((1, 3), np.float32)}


def workload(batch=1, **stop):
    return Workload("offline", batch, StopRule(**{"min_s": 0.0, "min_calls": 20, **stop}), warmup_s=0.0)


def test_one_caller_of_a_known_speed(scripted, feeds):
    found = measure_throughput(scripted([1e-2], "batch"), feeds(4), workload(4, max_calls=40))
    assert found.figures["throughput"].value == pytest.approx(400)
    assert found.figures["latency.p50"].value == pytest.approx(1e-2)
    assert found.conditions["callers"] == 1


def test_looking_at_the_series_does_not_slow_a_lone_caller_down(scripted, feeds, monkeypatch):
    """The rule for when to stop takes 5 ms after every call of 10 ms: that is nobody's rate."""
    found_by = Stopper.enough

    def slow(self, values, now_s):
        clock.sleep(5e-3)
        return found_by(self, values, now_s)

    monkeypatch.setattr(Stopper, "enough", slow)
    found = measure_throughput(scripted([1e-2], "batch"), feeds(4), workload(4, max_calls=40))
    assert found.figures["throughput"].value == pytest.approx(400)


def test_several_callers_are_in_flight_at_the_same_time(session_of, signature, feeds):
    barrier, calls = threading.Barrier(3), iter(range(10_000))

    def function(feed):
        if next(calls) < 3:
            barrier.wait(timeout=20)  # opens only when three callers are inside
        return OUTPUT

    found = measure_throughput(session_of(function, signature(), 3), feeds(1), workload(max_calls=50))
    assert found.conditions["callers"] == 3
    assert found.figures["throughput"].value > 0


def test_the_rate_is_that_of_all_callers_together(session_of, signature, feeds):
    lock, done = threading.Lock(), []

    def function(feed):
        time.sleep(0.002)
        with lock:
            done.append(time.perf_counter())
        return {"y": np.zeros((2, 3), np.float32)}

    found = measure_throughput(
        session_of(function, signature(), 4), feeds(2), workload(2, min_calls=200, max_calls=200)
    )
    measured = done[-200:]
    assert found.figures["throughput"].value == pytest.approx(2 * 199 / (measured[-1] - measured[0]), rel=0.3)
    figure = found.figures["throughput"]
    assert figure.low < figure.value < figure.high


def test_every_feed_is_used(session_of, signature, feeds):
    seen = set()

    def function(feed):
        seen.add(float(feed["x"][0, 0]))
        return OUTPUT

    given = feeds(1, count=5)
    measure_throughput(session_of(function, signature(), 2), given, workload())
    assert seen == {float(f["x"][0, 0]) for f in given}


def test_a_failing_caller_ends_the_others_and_is_raised(session_of, signature, feeds):
    calls = []

    def function(feed):
        calls.append(1)
        if len(calls) > 10:
            raise EngineFailed("device lost")
        return OUTPUT

    before = threading.active_count()
    with pytest.raises(EngineFailed, match="device lost"):
        measure_throughput(session_of(function, signature(), 4), feeds(1), workload(max_calls=10_000, within=0.0))
    assert threading.active_count() == before


def test_the_switch_interval_is_put_back(scripted, feeds):
    before = sys.getswitchinterval()
    measure_throughput(scripted([1e-3]), feeds(1), workload())
    assert sys.getswitchinterval() == before


def test_too_few_calls_for_a_rate(scripted, feeds, signature, session_of, fake_time):
    def function(feed):
        fake_time.pass_(10.0)
        return OUTPUT

    found = measure_throughput(session_of(function, signature(), 4), feeds(1), workload(max_s=1.0))
    assert found.figures["throughput"].value is None
    assert "too few to count a rate" in found.figures["throughput"].reason


def test_refusals(session_of, signature, feeds):
    with pytest.raises(BadInput, match="nothing to feed"):
        measure_throughput(session_of(lambda f: OUTPUT, signature()), [], workload())
    with pytest.raises(BadInput, match="at least one caller"):
        measure_throughput(session_of(lambda f: OUTPUT, signature(), 0), feeds(1), workload())


def test_more_callers_than_cores_is_said(session_of, signature, feeds):
    found = measure_throughput(session_of(lambda f: OUTPUT, signature(), 500), feeds(1), workload(max_calls=600))
    assert any("oversubscribed: 500 calls at a time" in w for w in found.warnings)
