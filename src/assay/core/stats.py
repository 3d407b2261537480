"""Intervals, percentiles and paired tests.  Pure functions over numpy arrays.

Percentiles use the order statistic without interpolation.  Their intervals come from the
binomial distribution of the number of observations below the true quantile (David and
Nagaraja, *Order Statistics*, §7.1), evaluated at the *effective* sample size, since
successive timings are correlated.  ``wilson`` is Wilson (1927); ``mcnemar_exact`` is the
exact conditional test of McNemar (1947); ``paired_score_interval`` is Tango, *Statistics in
Medicine* 17 (1998).
"""

from __future__ import annotations

import functools
import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np

Vector = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Interval:
    """A point and the interval around it; ``low``/``high`` are None when the sample cannot bound it."""

    value: float
    low: float | None
    high: float | None
    confidence: float
    n: int


def needed_for_percentile(p: float, confidence: float = 0.95) -> int:
    """Independent observations for a two-sided interval around percentile ``p`` (0..1).

    Both tails must be coverable: ``p**n`` and ``(1-p)**n`` at most ``(1-confidence)/2``
    (368 for p99 at 95 %).
    """
    tail = (1 - confidence) / 2
    return math.ceil(math.log(tail) / math.log(max(p, 1 - p)))


def percentile(values: Vector, p: float) -> float:
    """The smallest observation with at least a share ``p`` of the sample at or below it."""
    ordered = np.sort(values)
    rank = math.ceil(p * len(ordered) - 1e-9)  # 0.55 * 100 is a little above 55
    return float(ordered[max(0, rank - 1)])


def percentile_interval(values: Vector, p: float, confidence: float = 0.95) -> Interval:
    """Percentile ``p`` with a distribution-free interval; a missing end is None.

    Raises ValueError for an empty sample.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    ordered = np.sort(values)
    point = percentile(values, p)
    effective = percentile_effective_size(values, p)
    if effective < needed_for_percentile(p, confidence):
        return Interval(point, None, None, confidence, n)
    spread = _quantile_at(effective, confidence) * math.sqrt(p * (1 - p) / effective)
    low = max(0, math.floor((p - spread) * n) - 1)
    high = min(n - 1, math.ceil((p + spread) * n))
    return Interval(point, float(ordered[low]), float(ordered[high]), confidence, n)


def percentile_effective_size(values: Vector, p: float) -> float:
    """How many independent observations ``values`` are worth for percentile ``p``: the effective size of
    the series "at or below it", whose mean the percentile's interval inverts."""
    below = (values <= percentile(values, p)).astype(np.float64)
    return effective_size(below)


def effective_size(values: Vector) -> float:
    """How many independent observations ``values`` are worth: n / (1 + 2 Σ ρ_k).

    The autocorrelations are summed in pairs while their sums stay positive (Geyer 1992,
    initial positive sequence).  Never above n; n for a constant series.
    """
    n = len(values)
    if n < 4:
        return float(n)
    centred = values - values.mean()
    variance = float(np.dot(centred, centred)) / n
    if variance <= 0:
        return float(n)
    size = 1 << (2 * n - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    rho = np.fft.irfft(spectrum * np.conj(spectrum), size)[:n] / (n * variance)
    total = 0.0
    for k in range(1, n - 1, 2):
        pair = float(rho[k] + rho[k + 1])
        if pair <= 0:
            break
        total += pair
    return float(min(n, max(1.0, n / (1 + 2 * total))))


def mean_interval(values: Vector, confidence: float = 0.95) -> Interval:
    """The mean with Student's interval at the effective sample size; no interval below four values."""
    n = len(values)
    if n == 0:
        raise ValueError("no values")
    mean = float(values.mean())
    if n < 4:
        return Interval(mean, None, None, confidence, n)
    effective = effective_size(values)
    half = _quantile_at(effective, confidence) * float(values.std(ddof=1)) / math.sqrt(effective)
    return Interval(mean, mean - half, mean + half, confidence, n)


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion.  Raises ValueError for n = 0."""
    if n == 0:
        raise ValueError("no trials")
    z = normal_quantile(0.5 + confidence / 2)
    p = successes / n
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half), confidence, n)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value for two paired proportions, from the discordant counts."""
    n = only_first + only_second
    if n == 0:
        return 1.0
    k = min(only_first, only_second)
    tail = math.fsum(math.exp(_log_choose(n, i) - n * math.log(2)) for i in range(k + 1))
    return min(1.0, 2 * tail)


def paired_score_interval(only_first: int, only_second: int, n: int, confidence: float = 0.95) -> Interval:
    """``p_first − p_second`` on the same n samples, with the score interval of Tango (1998): all differences that a
    score test at this confidence does not reject.

    ``only_first`` samples were right in the first alone, ``only_second`` in the second alone.  The first is
    *not inferior* by a margin m where ``low > −m``; with a two-sided confidence of 95 % that is a one-sided
    test at 2.5 %.  Raises ValueError for n = 0 and for counts that do not fit into n.
    """
    if n == 0:
        raise ValueError("no samples")
    if min(only_first, only_second) < 0 or only_first + only_second > n:
        raise ValueError(f"{only_first} and {only_second} discordant samples among {n}")
    z = normal_quantile(0.5 + confidence / 2)
    drop = (only_first - only_second) / n

    def bound(far: float, target: float) -> float:
        """Where the score, which falls as the difference grows, is ``target``: between the estimate and ``far``."""
        near = drop
        for _ in range(200):
            middle = (near + far) / 2
            inside = abs(_paired_score(only_first, only_second, n, middle)) <= abs(target)
            near, far = (middle, far) if inside else (near, middle)
        return near

    return Interval(drop, bound(-1.0, z), bound(1.0, -z), confidence, n)


def _paired_score(b: int, c: int, n: int, difference: float) -> float:
    """Tango's statistic for the hypothesis that the difference is ``difference``; 0 where it is the estimate."""
    top = b - c - n * difference
    if top == 0:
        return 0.0
    linear = (2 * n - b + c) * difference - b - c
    # The likelihood's maximum for "right in the second alone", given the difference.
    q = (math.sqrt(max(0.0, linear**2 + 8 * n * c * difference * (1 - difference))) - linear) / (4 * n)
    variance = n * (2 * q + difference * (1 - difference))
    return top / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, top)


def ratio_interval(numerator: Interval, denominator: Interval) -> Interval:
    """``a / b`` from two independent intervals, by square-and-add on the log scale (MOVER).

    Ends are None when either part has none.
    """
    value = numerator.value / denominator.value
    ends = (numerator.low, numerator.high, denominator.low, denominator.high)
    n = min(numerator.n, denominator.n)
    if any(e is None or e <= 0 for e in ends):
        return Interval(value, None, None, numerator.confidence, n)
    a, b = math.log(numerator.value), math.log(denominator.value)
    al, ah, bl, bh = (math.log(e) for e in ends if e is not None)
    down = math.hypot(a - al, bh - b)
    up = math.hypot(ah - a, b - bl)
    return Interval(value, value * math.exp(-down), value * math.exp(up), numerator.confidence, n)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def normal_quantile(p: float) -> float:
    """Inverse of the standard normal distribution."""
    return statistics.NormalDist().inv_cdf(p)


def t_quantile(p: float, degrees: float) -> float:
    """Inverse of Student's t distribution with ``degrees`` (≥ 1, not necessarily whole) of freedom.

    The distribution function is integrated by Simpson's rule and inverted by Newton's method.
    """
    if p < 0.5:
        return -t_quantile(1 - p, degrees)
    if degrees > 1e4:
        return normal_quantile(p)
    return _t_quantile(round(p, 12), round(degrees, 1 if degrees < 100 else 0))


@functools.lru_cache(maxsize=4096)
def _t_quantile(p: float, degrees: float) -> float:
    log_scale = math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2) - 0.5 * math.log(degrees * math.pi)
    weights = np.ones(2001)
    weights[1:-1:2], weights[2:-1:2] = 4, 2

    def density(t: Any) -> Any:
        return np.exp(log_scale - (degrees + 1) / 2 * np.log1p(t * t / degrees))

    found = normal_quantile(p)
    for _ in range(50):
        below = 0.5 + float(weights @ density(np.linspace(0.0, found, 2001))) * found / 6000
        step = (p - below) / float(density(found))
        found += step
        if abs(step) < 1e-10 * (1 + found):
            break
    return found


def _quantile_at(effective: float, confidence: float) -> float:
    """Student's quantile with as many degrees of freedom as the effective size leaves, at least one."""
    return t_quantile(0.5 + confidence / 2, max(1.0, effective - 1))
