from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.batching.batch_times import MOST_SIZES, BatchTimes, profile, profile_sizes
from assay.core import clock
from assay.core.errors import BadInput


def test_nothing_known_predicts_nothing():
    times = BatchTimes(8)
    assert not times.known
    assert times.predict(4) == 0.0
    assert times.report() == ()


def test_linear_between_points_flat_before_and_sloped_after():
    times = BatchTimes(16, points={2: [0.010], 4: [0.014]})
    assert times.predict(1) == pytest.approx(0.010)
    assert times.predict(3) == pytest.approx(0.012)
    assert times.predict(8) == pytest.approx(0.022)
    assert times.predict(100) == pytest.approx(0.014 + 0.002 * 96)


def test_one_point_is_flat_so_that_larger_sizes_get_tried():
    times = BatchTimes(8, points={2: [0.010]})
    assert times.predict(8) == pytest.approx(0.010)


def test_a_quantile_is_planned_with_and_the_median_compared_by():
    times = BatchTimes(4, points={1: [0.001 * i for i in range(1, 11)]})
    assert times.predict(1) == pytest.approx(0.009)
    assert times.typical(1) == pytest.approx(0.005)


def test_refined_online_old_durations_are_forgotten():
    times = BatchTimes(4, points={1: [0.001] * 5})
    before = times.version
    for _ in range(64):
        times.observe(1, 0.003, predicted_s=0.001)
    assert times.predict(1) == pytest.approx(0.003)
    assert times.version > before
    (seen,) = times.report()
    assert (seen.size, seen.count) == (1, 64)
    assert seen.predicted_s == pytest.approx(0.001)
    assert seen.actual_s == pytest.approx(0.003)


def test_profiled_points_are_no_observations():
    assert BatchTimes(4, points={1: [0.001]}).report() == ()


def test_one_outlier_moves_neither_curve_much():
    times = BatchTimes(4)
    for i in range(64):
        times.observe(1, 1.0 if i == 3 else 0.001)
    assert times.predict(1) == pytest.approx(0.001)


@given(
    st.dictionaries(
        st.integers(1, 32),
        st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=10),
        min_size=1,
    )
)
def test_the_curve_never_falls(points):
    times = BatchTimes(32, points=points)
    curve = [times.predict(b) for b in range(1, 65)]
    assert all(math.isfinite(t) for t in curve)
    assert all(a <= b + 1e-9 for a, b in pairwise(curve))
    highest = max(max(d) for d in points.values())
    assert max(curve[: max(points)]) <= highest + 1e-9


@pytest.mark.parametrize("points", [{0: [0.1]}, {1: []}, {1: [math.nan]}, {1: [-1.0]}])
def test_points_that_cannot_be(points):
    with pytest.raises(BadInput):
        BatchTimes(4, points=points)


def test_profile_counts_calls_after_a_first_one():
    ticks = iter(range(1000))
    fake = clock.Clock(now=lambda: float(next(ticks)), sleep=lambda s: None, wall=clock.REAL.wall)
    called = []
    with clock.use(fake):
        points = profile(called.append, (1, 4), calls=3)
    assert called == [1] * 4 + [4] * 4
    assert points == {1: [1.0] * 3, 4: [1.0] * 3}


def test_profile_sizes():
    assert profile_sizes(6) == (1, 2, 4, 6)
    assert profile_sizes(8) == (1, 2, 4, 8)
    assert profile_sizes(8, (1, 8)) == (1, 8)


def test_sizes_that_callers_make_up_are_bounded():
    times = BatchTimes(4)
    for size in range(1, MOST_SIZES + 100):
        times.observe(size, 0.001)
    assert len(times.report()) == MOST_SIZES
    assert times.predict(4) == pytest.approx(0.001)
