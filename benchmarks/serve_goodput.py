"""The highest rate each of several servers holds, found side by side on a machine that itself stalls now and then.

One stall of 100 ms makes one request in a hundred late in any trial of seconds, whoever serves, so a bisection goes
astray at the first trial it hits.  Probabilistic bisection (Horstein 1963; Waeber, Frazier and Henderson 2013) counts
every trial as evidence that may be wrong: it keeps a probability for each rate to be the highest that holds, tries the
median, and moves ``TRUST`` of the probability to the side the trial points to.  The servers' trials are in turns, and
the whole search is made several times, each giving a ratio of rates found in the same minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assay.core.record import Figure
from assay.core.stats import Interval, Vector, mean_interval

Trial = Callable[[float, int], float]
"""The latency in seconds within which the wanted share of requests was answered, of a trial of (rate in requests/s,
seed)."""

TRUST = 0.75
"""How often a trial is taken to be right."""
GRID = 400


def long_enough_s(rate: float, limit_s: float) -> float:
    """Seconds of a trial in which too high a rate shows: 2 s, 400 requests and ten times the limit, as a server's
    highest rate is measured (docs/statistics.md); 6 s at most, at rates so low that they do not matter."""
    return min(6.0, max(2.0, 400 / rate, 10 * limit_s))


def geometric_mean(ratios: Sequence[float]) -> Interval:
    """Of ratios that were measured in pairs, with its interval."""
    found = mean_interval(np.log(ratios))
    low, high = (None if end is None else math.exp(end) for end in (found.low, found.high))
    return Interval(math.exp(found.value), low, high, found.confidence, found.n)


@dataclass(frozen=True)
class Held:
    """The highest rate that held the limit, 0 where none did; ``lowest`` is the lowest that was looked at."""

    rate: float
    lowest: float


class _Search:
    def __init__(self, low: float, high: float) -> None:
        self._rates: Vector = np.geomspace(low, high, GRID)
        self._mass: Vector = np.full(GRID, 1.0 / GRID)

    @property
    def _median(self) -> int:
        return int(np.searchsorted(np.cumsum(self._mass), 0.5))

    @property
    def rate(self) -> float:
        return float(self._rates[min(self._median, GRID - 1)])

    def learn(self, *, holds: bool) -> None:
        above = np.arange(GRID) > self._median
        self._mass = self._mass * np.where(above == holds, TRUST, 1 - TRUST)
        self._mass /= self._mass.sum()

    def found(self) -> Held:
        at_the_bottom = self._median < GRID // 100
        return Held(0.0 if at_the_bottom else self.rate, float(self._rates[0]))


def side_by_side(servers: Sequence[Trial], capacity: float, limit_s: float, trials: int, seed: int) -> list[Held]:
    """Searches between a sixteenth of ``capacity`` (requests/s) and all of it, ``trials`` for each server.

    All take a step together, in an order that turns; every step has arrivals of its own, the same for all.
    """
    searches = [_Search(capacity / 16, 1.05 * capacity) for _ in servers]
    order = list(range(len(servers)))
    for step in range(trials):
        for i in order:
            tail_s = servers[i](searches[i].rate, 1000 * seed + step)
            searches[i].learn(holds=tail_s <= limit_s)
        order.reverse()
    return [search.found() for search in searches]


def best_of(
    quick: Sequence[Trial], servers: Sequence[Trial], capacity: float, limit_s: float, trials: int, finalists: int = 3
) -> int:
    """Which server holds the highest rate: all searched with ``trials`` of the ``quick`` kind, the first ``finalists``
    with twice as many of the other."""
    first = side_by_side(quick, capacity, limit_s, trials, seed=0)
    left = sorted(range(len(servers)), key=lambda i: -first[i].rate)[:finalists]
    if len(left) == 1:
        return left[0]
    again = side_by_side([servers[i] for i in left], capacity, limit_s, 2 * trials, seed=1)
    return left[max(range(len(left)), key=lambda i: again[i].rate)]


@dataclass(frozen=True)
class Duel:
    """What two servers held in each of several searches."""

    rounds: list[tuple[Held, Held]]

    def figure(self, side: int) -> Figure:
        """The median over the searches, in requests/s; no value where in half of them nothing held."""
        rates = sorted(pair[side].rate for pair in self.rounds)
        value = float(np.median(rates))
        if not rates[(len(rates) - 1) // 2]:
            lowest = min(pair[side].lowest for pair in self.rounds)
            return Figure(None, "samples/s", reason=f"none from {lowest:.0f}/s up held")
        return Figure(value, "samples/s", n=len(rates))

    def shown(self, side: int) -> str:
        """Its median and the range of the searches."""
        rates = sorted(pair[side].rate for pair in self.rounds)
        if (value := self.figure(side).value) is None:
            return f"less than {min(pair[side].lowest for pair in self.rounds):.0f}/s"
        return f"{value:.0f}/s" + (f" ({rates[0]:.0f} to {rates[-1]:.0f})" if len(rates) > 1 else "")

    def ratio(self) -> Interval | None:
        """The first's rate by the second's: the geometric mean of the searches; None where one of them found none."""
        if any(not held.rate for pair in self.rounds for held in pair):
            return None
        return geometric_mean([a.rate / b.rate for a, b in self.rounds])

    def met(self) -> bool:
        """Whether the first holds at least as much as the second."""
        if (ratio := self.ratio()) is not None:
            return ratio.value >= 1
        first, second = (self.figure(side).value or 0.0 for side in (0, 1))
        return first >= second and first > 0


def duel(first: Trial, second: Trial, capacity: float, limit_s: float, trials: int, rounds: int) -> Duel:
    """``rounds`` searches of both, side by side, the one that begins changing."""
    found = []
    for i in range(rounds):
        if i % 2 == 0:
            a, b = side_by_side([first, second], capacity, limit_s, trials, seed=10 + i)
        else:
            b, a = side_by_side([second, first], capacity, limit_s, trials, seed=10 + i)
        found.append((a, b))
    return Duel(found)
