import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.core.compare import compare, excess
from assay.core.spread import Hull, Spread

PAIRS = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(2)), elements=st.floats(-100, 100, width=32))
LIMITS = st.sampled_from([0.0, 1e-6, 1e-4, 9e-4, 1e-2, 0.5, 3.0])


@given(hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(0, 1e12)), st.sampled_from([0.5, 0.9, 0.99, 1]))
def test_quantiles_are_at_most_a_sixteenth_too_high(values, p):
    spread = Spread()
    for part in np.array_split(values, 3):
        spread.add(part)
    true = np.sort(values)[max(0, math.ceil(p * len(values) - 1e-9) - 1)]
    assert true <= spread.quantile(p) <= max(true * 1.0626, true + 2**-1026)  # below 2^-1022, bins are even
    assert sum(n for _, n in spread.histogram()) + spread.zeros == len(values)


def test_histogram_says_where_values_lie():
    spread = Spread()
    spread.add(np.array([0.0, 1.0, 1.5, 2.0, 0.25, math.inf]))
    assert spread.histogram() == ((-2, 1), (0, 2), (1, 1), (1024, 1))
    assert spread.zeros == 1
    assert math.isnan(Spread().quantile(0.5))
    assert Spread().histogram() == ()


@given(PAIRS, LIMITS, LIMITS)
def test_excess_is_numpys_allclose_for_limits_named_afterwards(pairs, atol, rtol):
    r, c = pairs[:, 0].astype(np.float64), pairs[:, 1].astype(np.float64)
    m = compare({"y": r}, {"y": c})["y"]
    assert m.excess(atol, rtol) == pytest.approx((np.abs(c - r) - atol - rtol * np.abs(r)).max(), abs=1e-9)
    assert excess(m.to_json()["hull"], atol, rtol) == m.excess(atol, rtol)


@given(PAIRS, st.integers(1, 5))
def test_hulls_of_parts_add_up(pairs, cut):
    x, y = np.abs(pairs.astype(np.float64)).T
    whole, parts = Hull(), Hull()
    whole.add(x, y)
    for a, b in zip(np.array_split(x, cut), np.array_split(y, cut), strict=True):
        parts.add(a, b)
    for rtol in (0.0, 0.01, 1.0, 5.0):
        assert excess(parts.points(), 0.0, rtol) == pytest.approx(excess(whole.points(), 0.0, rtol), abs=1e-9)
    assert list(whole.points()) == sorted(whole.points())


def test_nothing_compared_and_not_finite_exceed_honestly():
    empty = compare({"y": np.empty((0, 2))}, {"y": np.empty((0, 2))})["y"]
    assert empty.excess(1.0, 1.0) == -math.inf
    bad = compare({"y": np.array([1.0, np.nan])}, {"y": np.array([1.0, np.nan])})["y"]
    assert bad.excess(1.0, 1.0) == math.inf
