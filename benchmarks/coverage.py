"""Do the intervals hold the truth?  The complete procedure on simulated series whose truth is known.

Each run draws a timing series with a warm-up in front and AR(1) correlation φ, stops it adaptively as a
measurement stops, cuts the warm-up, and asks for the intervals.  The truth is the settled
distribution's.  A/A compares a series with itself in interleaved blocks (measure.paired).

    python benchmarks/coverage.py [--runs 1000]

Prints one line per φ and figure, and ends with exit code 3 when an interval covers too seldom
(below 93 %) or A/A says "different" too often (above 7 %).
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass

import numpy as np
from verdict import MISSED

from assay.core import stats
from assay.core.record import Figure
from assay.core.workload import StopRule
from assay.measure.measurement import analyse, rate_figure
from assay.measure.paired import PairPlan, compare_series
from assay.measure.stopping import Stopper

PHIS = (0.0, 0.5, 0.8)
BASE_S = 1e-3
SPREAD = 0.15
WARM_CALLS = 60
COVERS, DIFFERS = 0.93, 0.07
STOP = StopRule(min_calls=50, max_calls=4000, min_s=0.0, max_s=1e9, within=0.02)


def draw(rng: np.random.Generator, n: int, phi: float) -> stats.Vector:
    """A stationary AR(1) series of standard normal values."""
    noise = rng.normal(size=n) * math.sqrt(1 - phi * phi)
    noise[0] = rng.normal()
    if phi == 0:
        return noise
    return _filtered(noise, phi)


def _filtered(noise: stats.Vector, phi: float) -> stats.Vector:
    """x[i] = phi x[i-1] + noise[i], by blocks short enough for phi**-n to stay a number."""
    out = np.empty_like(noise)
    last, block = 0.0, 64
    powers = phi ** np.arange(1, block + 1)
    for start in range(0, len(noise), block):
        part = noise[start : start + block]
        scaled = np.cumsum(part / powers[: len(part)]) * powers[: len(part)]
        out[start : start + len(part)] = scaled + last * powers[: len(part)]
        last = float(out[start + len(part) - 1])
    return out


def timings(z: stats.Vector) -> stats.Vector:
    """Right-skewed timings: lognormal, with calls that start at twice their settled time and cool down."""
    warm = 1 + np.exp(-np.arange(len(z)) / (WARM_CALLS / 3))
    return np.asarray(BASE_S * np.exp(SPREAD * z) * warm)


def truths() -> dict[str, float]:
    mean = BASE_S * math.exp(SPREAD**2 / 2)
    found = {f"latency.p{p}": BASE_S * math.exp(SPREAD * stats.normal_quantile(p / 100)) for p in (50, 90, 99)}
    return {**found, "latency.mean": mean, "throughput": 1 / mean}


@dataclass
class Tally:
    """``given`` of ``runs`` had an interval, ``held`` of those held the truth."""

    runs: int = 0
    given: int = 0
    held: int = 0

    @property
    def share(self) -> float:
        return self.held / self.given if self.given else math.nan


def coverage(phi: float, runs: int, seed: int = 0) -> dict[str, Tally]:
    """Tallies per figure, and the mean number of calls under ``calls``."""
    rng = np.random.default_rng([seed, int(phi * 100)])
    tallies = {name: Tally() for name in truths()}
    for _ in range(runs):
        figures = measure(timings(draw(rng, STOP.max_calls, phi)))
        for name, truth in truths().items():
            tally, figure = tallies[name], figures[name]
            tally.runs += 1
            if figure.low is not None and figure.high is not None:
                tally.given += 1
                tally.held += figure.low <= truth <= figure.high
    return tallies


def measure(series: stats.Vector) -> dict[str, Figure]:
    """What measure_latency does with these timings, without the waiting."""
    stopper, n = Stopper(STOP, 0.0), STOP.min_calls
    while not stopper.enough(_Seen(series, n), 0.0):  # type: ignore[arg-type]
        n = max(n + 1, stopper.look_at)
        n = min(n, len(series))
    found = analyse(series[:n], STOP)
    rate = rate_figure(series[found.dropped : n], 1)
    return {**found.figures, "throughput": rate}


class _Seen:
    """The first ``n`` values, without a copy."""

    def __init__(self, series: stats.Vector, n: int) -> None:
        self._part = series[:n]

    def __len__(self) -> int:
        return len(self._part)

    def __array__(self, dtype: object = None, copy: object = None) -> stats.Vector:
        return self._part


def differs(phi: float, runs: int, seed: int = 0) -> float:
    """The share of A/A comparisons whose interval leaves out 1."""
    rng = np.random.default_rng([seed, 1000 + int(phi * 100)])
    plan = PairPlan()
    calls = plan.quads * 4 * plan.block
    said = 0
    for _ in range(runs):
        series = BASE_S * np.exp(SPREAD * draw(rng, calls, phi))
        said += compare_series(series, plan).different
    return said / runs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    runs = parser.parse_args().runs
    bad = False
    for phi in PHIS:
        for name, tally in coverage(phi, runs).items():
            low = tally.share < COVERS and tally.given > 0
            bad |= low
            print(f"AR(1) phi={phi}: {name:<13} holds the truth in {tally.share:6.1%} of {tally.given}"
                  f" (withheld in {tally.runs - tally.given} of {tally.runs}){'  TOO LOW' if low else ''}")  # fmt: skip
        share = differs(phi, runs)
        bad |= share > DIFFERS
        print(f"AR(1) phi={phi}: A/A says different in {share:.1%}{'  TOO OFTEN' if share > DIFFERS else ''}")
    return MISSED if bad else 0


if __name__ == "__main__":
    sys.exit(main())
