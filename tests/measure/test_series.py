import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.workload import StopRule
from assay.measure.series import Cut, half_width, label, warmup_end

LOOSE = StopRule(within=0.2)


def timings(n, mean=1e-3, spread=0.02, seed=0):
    """Right-skewed as timings are: a floor, and a tail above it."""
    rng = np.random.default_rng(seed)
    return mean * (1 + spread * rng.gamma(2.0, 1.0, n))


@pytest.mark.parametrize("seed", range(20))
def test_a_quiet_series_is_stable_and_loses_next_to_nothing(seed):
    values = timings(300, seed=seed)
    assert label(values, LOOSE)[0] == "stable"
    assert warmup_end(values).dropped <= 18


@pytest.mark.parametrize("warm", [5, 20, 60])
def test_warm_up_ends_where_the_series_says(warm):
    values = np.concatenate([timings(warm, mean=3e-3, seed=1), timings(300, seed=2)])
    assert warm - 3 <= warmup_end(values).dropped <= 1.5 * warm + 30


def test_a_gradual_warm_up_is_cut_near_its_end():
    curve = 1 + 2 * np.exp(-np.arange(400) / 20)
    dropped = warmup_end(timings(400) * curve).dropped
    assert 50 <= dropped <= 150


def test_at_most_half_is_dropped():
    values = np.linspace(10.0, 1.0, 100)
    assert warmup_end(values).dropped <= 50
    assert label(values[warmup_end(values).dropped :], LOOSE)[0] == "drifting"


def test_a_warm_up_that_half_the_series_does_not_end_is_not_settled():
    assert not warmup_end(np.linspace(10.0, 1.0, 100)).settled
    assert warmup_end(timings(300)).settled
    assert warmup_end(timings(5)) == Cut(0, True)


def test_a_faster_start_is_no_warm_up():
    assert warmup_end(np.concatenate([timings(50), timings(250, mean=2e-3)])).dropped == 0


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=200))
@settings(deadline=None)
def test_any_series_has_a_cut_and_a_label_with_a_reason(values):
    array = np.array(values)
    assert 0 <= warmup_end(array).dropped <= len(values) // 2
    name, reason = label(array, LOOSE)
    assert name in {"stable", "drifting", "bimodal", "stalled", "underpowered"}
    assert reason


@pytest.mark.parametrize("factor", [0.7, 1.3])
def test_drifting(factor):
    values = timings(300) * np.linspace(1.0, factor, 300)
    name, reason = label(values, LOOSE)
    assert name == "drifting"
    assert "first third" in reason


def test_a_drift_too_small_to_matter():
    assert label(timings(300) * np.linspace(1.0, 1.02, 300), LOOSE)[0] == "stable"


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_bimodal(share):
    rng = np.random.default_rng(0)
    values = timings(400) * np.where(rng.random(400) < share, 1.5, 1.0)
    name, reason = label(values, LOOSE)
    assert name == "bimodal"
    assert "%" in reason


@pytest.mark.parametrize("draw", ["normal", "exponential", "uniform", "lognormal"])
def test_one_mode_is_not_called_two(draw):
    rng = np.random.default_rng(4)
    for _ in range(20):
        shapes = {
            "normal": 10 + rng.normal(size=300),
            "exponential": 1 + rng.exponential(size=300),
            "uniform": rng.uniform(1, 3, size=300),
            "lognormal": rng.lognormal(0, 0.7, size=300),
        }
        assert label(shapes[draw], StopRule(within=0.9))[0] != "bimodal"


def test_a_few_outliers_are_no_second_mode():
    values = timings(300)
    values[::30] *= 3
    assert label(values, LOOSE)[0] == "stable"


def test_stalled():
    values = timings(300)
    values[150] = 0.2
    name, reason = label(values, LOOSE)
    assert name == "stalled"
    assert "1 of 300" in reason
    values[150] = 0.025  # above twenty medians, but only 8 % of the time
    assert label(values, LOOSE)[0] == "stable"


def test_underpowered():
    rng = np.random.default_rng(0)
    name, reason = label(1 + rng.exponential(size=40), StopRule(within=0.01))
    assert name == "underpowered"
    assert "±1.0% was asked for" in reason
    assert label(timings(3), LOOSE) == ("underpowered", "3 calls are too few for an interval around the median")


def test_half_width():
    assert half_width(np.array([])) is None
    assert half_width(timings(3)) is None
    assert half_width(np.ones(20)) == 0.0
    assert 0 < half_width(timings(200)) < 0.02
