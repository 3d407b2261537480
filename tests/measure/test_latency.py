import gc

import numpy as np
import pytest

from assay.core import stats
from assay.core.errors import BadInput, EngineFailed, SignatureMismatch
from assay.core.workload import StopRule, Workload
from assay.measure.latency import measure_latency


def workload(batch=1, warmup_s=0.0, **stop):
    return Workload("latency", batch, StopRule(**{"min_s": 0.0, **stop}), warmup_s)


def test_figures_are_those_of_the_series(scripted, feeds):
    rng = np.random.default_rng(0)
    seconds = rng.uniform(0.9e-3, 1.1e-3, 1003)
    found = measure_latency(scripted(seconds), feeds(1), workload(min_calls=1000, max_calls=1000, max_s=60))
    counted = found.counted
    assert len(found.values) == 1003
    assert found.warmup_calls == found.figures["warmup.calls"].value == 1003 - len(counted)
    assert found.values == pytest.approx(seconds)
    for name, p in (("latency.p50", 0.5), ("latency.p90", 0.9), ("latency.p99", 0.99)):
        figure = found.figures[name]
        assert figure.value == stats.percentile(counted, p)
        assert figure.low <= figure.value <= figure.high
        assert (figure.unit, figure.confidence, figure.n) == ("s", 0.95, len(counted))
    assert found.figures["latency.mean"].value == pytest.approx(counted.mean())
    assert found.figures["throughput"].value == pytest.approx(1 / counted.mean())
    assert found.label == "stable"


def test_throughput_counts_rows(scripted, feeds):
    found = measure_latency(scripted([2e-3]), feeds(8), workload(8, max_calls=50))
    figure = found.figures["throughput"]
    assert figure.value == pytest.approx(4000)
    assert figure.low == pytest.approx(4000)
    assert figure.unit == "samples/s"


def test_percentiles_the_sample_cannot_bound_are_withheld(scripted, feeds):
    seconds = np.random.default_rng(0).uniform(0.9e-3, 1.1e-3, 43)
    found = measure_latency(scripted(seconds), feeds(1), workload(min_calls=40, max_calls=40)).figures
    assert found["latency.p99"].value is None
    assert "needs 368 independent calls; 40 were made" in found["latency.p99"].reason
    assert found["latency.p50"].value is not None


def test_two_calls_give_a_median_without_an_interval(scripted, feeds):
    found = measure_latency(scripted([1.0]), feeds(1), workload(max_s=1.5))
    assert found.figures["latency.p50"].value == 1.0
    assert found.figures["latency.p50"].low is None
    assert "no interval" in found.figures["latency.p50"].reason
    assert found.figures["latency.mean"].low is None
    assert found.figures["latency.p90"].value is None
    assert found.label == "underpowered"


def test_warm_up_lasts_as_long_as_asked_and_three_calls(scripted, feeds):
    long = measure_latency(scripted([0.1]), feeds(1), workload(warmup_s=1.0, min_calls=10, max_calls=10, max_s=60))
    assert long.warmup_calls in (10, 11)  # the tenth tenth of a second may be a rounding error away
    short = measure_latency(scripted([0.1]), feeds(1), workload(min_calls=10, max_calls=10, max_s=60))
    assert short.warmup_calls == 3


def test_slow_leading_calls_are_cut_kept_and_counted(scripted, feeds):
    seconds = [9.0, 8.0, 7.0, *[3e-3] * 12, *[1e-3] * 200]
    found = measure_latency(scripted(seconds), feeds(1), workload(min_calls=212, max_calls=212, max_s=60))
    assert found.warmup_calls == 3 + 18  # the twelve seen to be slow, and half as many again
    assert found.values[:3] == pytest.approx([9.0, 8.0, 7.0])
    assert found.figures["latency.mean"].value == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("stop", "calls"),
    [
        ({"min_calls": 30}, 30),
        ({"min_calls": 30, "min_s": 0.2}, 200),
        ({"min_calls": 30, "within": 0.0, "max_calls": 77}, 77),
        ({"min_calls": 30, "within": 0.0, "max_s": 0.1}, 100),
        ({"min_calls": 500, "max_s": 0.1}, 100),
    ],
)
def test_stop_rule(scripted, feeds, stop, calls):
    found = measure_latency(scripted([1e-3]), feeds(1), workload(**stop))
    measured = len(found.values) - 3
    assert calls <= measured <= calls * 1.25 + 1


def test_a_noisy_series_goes_on_until_its_median_is_known(scripted, feeds):
    rng = np.random.default_rng(2)
    quiet, noisy = rng.uniform(0.99e-3, 1.01e-3, 5000), rng.uniform(0.5e-3, 1.5e-3, 50000)
    few = measure_latency(scripted(quiet), feeds(1), workload(min_calls=20, max_s=60))
    many = measure_latency(scripted(noisy), feeds(1), workload(min_calls=20, max_s=60))
    assert len(many.values) > 20 * len(few.values)
    median = many.figures["latency.p50"]
    assert median.high - median.value <= 0.025 * median.value


def test_feeds_take_turns(session_of, signature, feeds):
    seen = []

    def function(feed):
        seen.append(float(feed["x"][0, 0]))
        return {"y": np.zeros((1, 3), np.float32)}

    given = feeds(1, count=3)
    measure_latency(session_of(function, signature()), given, workload(min_calls=9, max_calls=9))
    expected = [float(f["x"][0, 0]) for f in given]
    assert seen[3:] == expected * 3


def test_garbage_collection_is_off_meanwhile_and_back_on_after_an_error(session_of, signature, feeds):
    states = []

    def function(feed):
        states.append(gc.isenabled())
        if len(states) == 10:
            raise EngineFailed("broke")
        return {"y": np.zeros((1, 3), np.float32)}

    assert gc.isenabled()
    with pytest.raises(EngineFailed, match="broke"):
        measure_latency(session_of(function, signature()), feeds(1), workload())
    assert states == [False] * 10
    assert gc.isenabled()


def test_what_would_make_the_conditions_a_lie(scripted, feeds):
    with pytest.raises(BadInput, match="nothing to feed"):
        measure_latency(scripted([1e-3]), [], workload())
    with pytest.raises(BadInput, match="2 rows, but the workload says batch 1"):
        measure_latency(scripted([1e-3]), feeds(2), workload())
    with pytest.raises(SignatureMismatch, match="dim 1 must be 4"):
        measure_latency(scripted([1e-3]), feeds(1, width=5), workload())


def test_conditions_and_advice(scripted, feeds):
    found = measure_latency(scripted([1e-3]), feeds(1, count=2), workload(min_calls=30, max_calls=30))
    assert found.conditions["scenario"] == "latency"
    assert (found.conditions["callers"], found.conditions["feeds"], found.conditions["batch"]) == (1, 2, 1)
    assert any("too short: 30 calls in 30 ms" in w for w in found.warnings)


def test_a_series_of_the_real_clock(session_of, signature, feeds):
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    session = session_of(lambda f: {"y": f["x"] @ weights}, signature())
    found = measure_latency(session, feeds(2), workload(2, warmup_s=0.01, min_calls=50, max_calls=200, max_s=2.0))
    assert (found.values > 0).all()
    assert found.figures["throughput"].value > 0
