"""Known values against scipy where it is installed, coverage by simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core import stats
from assay.core.stats import Interval

NORMAL = stats.normal_quantile(0.975)


def autoregressive(rng, n, rho, size=None):
    noise = rng.normal(size=n if size is None else (size, n))
    out = np.empty_like(noise)
    out[..., 0] = noise[..., 0] / math.sqrt(1 - rho * rho)
    for i in range(1, n):
        out[..., i] = rho * out[..., i - 1] + noise[..., i]
    return out


def test_normal_quantile():
    assert pytest.approx(1.959963985, abs=1e-8) == NORMAL


@pytest.mark.parametrize(("p", "needed"), [(0.5, 6), (0.9, 36), (0.99, 368), (0.01, 368)])
def test_needed_for_percentile(p, needed):
    assert stats.needed_for_percentile(p) == needed


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0.01, 0.99))
def test_percentile_is_an_observation_with_the_share_below(values, p):
    array = np.array(values)
    found = stats.percentile(array, p)
    assert found in values
    assert np.mean(array <= found) >= p - 1e-9
    assert np.mean(array < found) < p + 1e-9


def test_percentile_is_not_fooled_by_rounding():
    values = np.arange(1.0, 101.0)
    assert [stats.percentile(values, p / 100) for p in range(1, 101)] == list(values)


@pytest.mark.parametrize(("p", "n"), [(0.5, 30), (0.5, 200), (0.9, 200), (0.99, 1000)])
def test_percentile_intervals_cover(p, n):
    rng = np.random.default_rng(7)
    true, hits, given, repeats = -math.log(1 - p), 0, 0, 400
    for _ in range(repeats):
        found = stats.percentile_interval(rng.exponential(size=n), p)
        if found.low is None or found.high is None:
            continue  # a short series may look correlated by chance
        given += 1
        hits += found.low <= true <= found.high
    assert given >= 0.99 * repeats
    assert hits / given >= 0.93


def test_too_small_a_sample_gets_no_interval():
    values = np.random.default_rng(0).normal(size=100)
    found = stats.percentile_interval(values, 0.99)
    assert (found.low, found.high) == (None, None)
    assert found.value == stats.percentile(values, 0.99)


def test_correlation_makes_the_sample_smaller():
    rng = np.random.default_rng(1)
    independent = np.mean([stats.effective_size(rng.normal(size=2000)) for _ in range(20)])
    correlated = np.mean([stats.effective_size(x) for x in autoregressive(rng, 2000, 0.8, 20)])
    assert independent > 1500
    assert correlated == pytest.approx(2000 * (1 - 0.8) / (1 + 0.8), rel=0.35)


def test_effective_size_of_odd_series():
    assert stats.effective_size(np.ones(50)) == 50
    assert stats.effective_size(np.array([1.0, 2.0])) == 2
    assert 1 <= stats.effective_size(np.arange(100.0)) < 10


def test_mean_intervals_cover_correlated_series_too():
    rng = np.random.default_rng(3)
    series = autoregressive(rng, 1000, 0.7, 300)
    hits = 0
    for values in series:
        found = stats.mean_interval(values)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 0 <= found.high
    assert hits / len(series) >= 0.90
    naive = np.mean([abs(v.mean()) <= NORMAL * v.std(ddof=1) / math.sqrt(len(v)) for v in series])
    assert naive < 0.75  # what ignoring the correlation would claim to be 95 %


def test_mean_interval_of_few_values():
    assert stats.mean_interval(np.array([1.0, 2.0, 3.0])) == Interval(2.0, None, None, 0.95, 3)


@pytest.mark.parametrize(
    "function",
    [lambda v: stats.mean_interval(v), lambda v: stats.percentile_interval(v, 0.5)],
)
def test_no_values_at_all(function):
    with pytest.raises(ValueError, match="no values"):
        function(np.array([]))


def test_wilson_against_scipy():
    scipy = pytest.importorskip("scipy.stats")
    for k, n in ((0, 10), (1, 10), (5, 10), (10, 10), (355, 360), (7785, 10000)):
        found, theirs = stats.wilson(k, n), scipy.binomtest(k, n).proportion_ci(0.95, "wilson")
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    with pytest.raises(ValueError, match="no trials"):
        stats.wilson(0, 0)


def test_wilson_covers():
    rng = np.random.default_rng(11)
    for p in (0.5, 0.9, 0.98):
        hits = [(i := stats.wilson(int(k), 360)).low <= p <= i.high for k in rng.binomial(360, p, 1000)]  # type: ignore[operator]
        assert np.mean(hits) >= 0.93


def test_mcnemar_against_scipy():
    scipy = pytest.importorskip("scipy.stats")
    for b, c in ((0, 0), (1, 0), (0, 5), (3, 9), (10, 10), (60, 41), (600, 480)):
        expected = scipy.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
        assert stats.mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-8)
        assert stats.mcnemar_exact(b, c) == stats.mcnemar_exact(c, b)


def test_tangos_interval_covers():
    rng = np.random.default_rng(13)
    n, hits, repeats = 360, 0, 600
    first, second = 0.03, 0.02
    for _ in range(repeats):
        b, c, _ = rng.multinomial(n, [first, second, 1 - first - second])
        found = stats.paired_score_interval(int(b), int(c), n)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= first - second <= found.high
    assert hits / repeats >= 0.93


def test_ratio_interval_covers():
    rng = np.random.default_rng(17)
    hits, repeats = 0, 500
    for _ in range(repeats):
        a, b = (stats.mean_interval(rng.gamma(20, m / 20, size=60)) for m in (3.0, 2.0))
        found = stats.ratio_interval(a, b)
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.5 <= found.high
    assert hits / repeats >= 0.92


def test_ratio_without_bounds():
    found = stats.ratio_interval(Interval(3.0, None, None, 0.95, 3), Interval(2.0, 1.9, 2.1, 0.95, 50))
    assert found == Interval(1.5, None, None, 0.95, 3)


@pytest.mark.parametrize("degrees", [1, 1.5, 2, 3.7, 10, 29, 250, 5000])
def test_t_quantile_against_scipy(degrees):
    scipy = pytest.importorskip("scipy.stats")
    for p in (0.5, 0.8, 0.975, 0.995):
        assert stats.t_quantile(p, degrees) == pytest.approx(scipy.t.ppf(p, degrees), rel=2e-3, abs=1e-9)
        assert stats.t_quantile(1 - p, degrees) == pytest.approx(-stats.t_quantile(p, degrees))


def test_tangos_interval_as_published():
    """Airway hyper-responsiveness, Bentur et al. (2009): 1, 1, 7, 12 of 21 children (Fagerland, Lydersen and Laake,
    *Statistics in Medicine* 33, 2014, give −0.517 to −0.026)."""
    found = stats.paired_score_interval(1, 7, 21)
    assert found.value == pytest.approx(-6 / 21)
    assert (round(found.low, 3), round(found.high, 3)) == (-0.517, -0.026)


@pytest.mark.parametrize(
    ("b", "c", "n"), [(1, 7, 21), (40, 20, 160), (0, 1, 44), (6, 16, 161), (150, 86, 1600), (3, 0, 9)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_tangos_interval_ends_at_the_roots_of_its_quartic(b, c, n, confidence):
    """Yang, Sun and Hardin (*Statistics in Medicine* 32, 2013) give the ends as roots of a polynomial."""
    g = stats.normal_quantile(0.5 + confidence / 2) ** 2
    d = b - c
    polynomial = [
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * ((b + c) / g + 1),
        n * d * (2 * (b + c) / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - (b + c)) / g,
    ]
    roots = [r.real for r in np.roots(polynomial) if abs(r.imag) < 1e-9]
    found = stats.paired_score_interval(b, c, n, confidence)
    for end in (found.low, found.high):
        assert min(abs(end - r) for r in roots) < 1e-6
    assert found.low < found.value < found.high


def test_tangos_interval_mirrors_and_covers_zero_discordance():
    one, other = stats.paired_score_interval(9, 4, 50), stats.paired_score_interval(4, 9, 50)
    assert one.low == pytest.approx(-other.high)
    assert one.high == pytest.approx(-other.low)
    none = stats.paired_score_interval(0, 0, 100)
    z2 = stats.normal_quantile(0.975) ** 2
    assert (none.low, none.high) == (pytest.approx(-z2 / (100 + z2)), pytest.approx(z2 / (100 + z2)))
    for counts in ((0, 0, 0), (3, 3, 5), (-1, 0, 5)):
        with pytest.raises(ValueError):
            stats.paired_score_interval(*counts)
