"""A against B, interleaved: A B B A, again and again, so that a drift of the machine meets both alike.

One quad is four blocks of equally many calls, fewer where calls take long.  Its log ratio
log((A₁ + A₄) / (B₂ + B₃)) is free of any linear drift; the answer is the mean of the quads' log ratios
with Student's interval at their effective size, and its exponential.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from assay.core import clock
from assay.core.engine import Session
from assay.core.errors import BadInput
from assay.core.record import Figure, withheld
from assay.core.stats import Interval, Vector, mean_interval
from assay.core.tensors import Feed
from assay.core.units import Seconds
from assay.measure.latency import LEAST_WARMUP, quiet_gc

LEAST_QUADS = 6


@dataclass(frozen=True)
class PairPlan:
    """``block`` calls at a time, fewer where those would take longer than ``block_s``; at most ``quads`` quads and
    ``max_s`` seconds."""

    block: int = 10
    quads: int = 20
    max_s: Seconds = 30.0
    confidence: float = 0.95
    block_s: Seconds = 0.25

    def __post_init__(self) -> None:
        if self.block < 1 or self.quads < LEAST_QUADS or not self.max_s > 0 or not self.block_s > 0:
            raise BadInput(f"a paired comparison needs at least {LEAST_QUADS} quads of at least one call: {self}")


@dataclass(frozen=True, eq=False)
class Paired:
    """``ratio`` is A's time over B's: above 1, B is faster.  ``quads`` are the log ratios behind it."""

    ratio: Figure
    quads: Vector
    first_s: Vector
    second_s: Vector

    def mean(self, side: int) -> Figure:
        """Seconds per call of A (0) or B (1): the mean with Student's interval at the effective size."""
        values = (self.first_s, self.second_s)[side]
        found = mean_interval(values)
        bounded = found.low is not None and found.high is not None
        low = max(0.0, found.low) if found.low is not None else None
        return Figure(found.value, "s", low, found.high, found.confidence if bounded else None, found.n)

    @property
    def different(self) -> bool:
        """Whether the interval leaves out 1; False without an interval."""
        low, high = self.ratio.low, self.ratio.high
        return low is not None and high is not None and not low <= 1 <= high


def measure_paired(first: Session, second: Session, feeds: Sequence[Feed], plan: PairPlan | None = None) -> Paired:
    """Time both sessions in turns with the same feeds, one caller.

    ``first is second`` gives the noise floor.  Raises BadInput for no feeds or a feed that does not fit.
    """
    plan = plan or PairPlan()
    if not feeds:
        raise BadInput("there is nothing to feed: a measurement needs at least one feed")
    for session in (first, second):
        for feed in feeds:
            session.signature.check_feed(feed)
    now = clock.current().now

    def block(session: Session, turns: Iterator[Feed], calls: int) -> list[Seconds]:
        found = []
        for feed in itertools.islice(turns, calls):
            begin = now()
            session.run(feed)
            found.append(now() - begin)
        return found

    a, b = itertools.cycle(feeds), itertools.cycle(feeds)  # each goes on where its last block ended

    with quiet_gc():
        each = max(_warmed(session, feeds, plan) for session in (first, second))
        calls = max(1, min(plan.block, int(plan.block_s / each))) if each > 0 else plan.block
        return compare_blocks(lambda: block(first, a, calls), lambda: block(second, b, calls), plan)


def _warmed(session: Session, feeds: Sequence[Feed], plan: PairPlan) -> Seconds:
    """Run it in; the fastest call of it: as many as a block has, fewer (``LEAST_WARMUP``) where they take long."""
    now = clock.current().now
    started, fastest, calls = now(), math.inf, 0
    while calls < LEAST_WARMUP or (calls < plan.block and now() - started < plan.block_s):
        begin = now()
        session.run(feeds[0])
        fastest = min(fastest, now() - begin)
        calls += 1
    return fastest


def compare_blocks(first: Callable[[], list[Seconds]], second: Callable[[], list[Seconds]], plan: PairPlan) -> Paired:
    """Call ``first`` and ``second`` in the order A B B A; each gives the seconds of one block of calls."""
    started = clock.now()
    a: list[list[Seconds]] = []
    b: list[list[Seconds]] = []
    for _ in range(plan.quads):
        for call, into in ((first, a), (second, b), (second, b), (first, a)):
            into.append(call())
        if clock.now() - started >= plan.max_s:
            break
    return _answer(a, b, plan)


def compare_series(values: Vector, plan: PairPlan) -> Paired:
    """The same from one series of timings that are dealt out to A, B, B, A in blocks (for simulations)."""
    blocks = iter(np.split(values[: len(values) // plan.block * plan.block], len(values) // plan.block))

    def deal() -> list[Seconds]:
        return [float(v) for v in next(blocks)]

    return compare_blocks(deal, deal, plan)


def _answer(a: list[list[Seconds]], b: list[list[Seconds]], plan: PairPlan) -> Paired:
    quads = np.asarray(list(_log_ratios(a, b)))
    first, second = np.concatenate(a), np.concatenate(b)
    if len(quads) < LEAST_QUADS:
        why = f"{len(quads)} rounds of A B B A are too few; {LEAST_QUADS} are needed"
        return Paired(withheld("ratio", why, len(quads)), quads, first, second)
    return Paired(_ratio(mean_interval(quads, plan.confidence)), quads, first, second)


def _log_ratios(a: list[list[Seconds]], b: list[list[Seconds]]) -> Iterator[float]:
    """One a quad.  A quad counts by its total time: the mean is what throughput is made of."""
    for i in range(0, len(a), 2):
        above, below = sum(a[i]) + sum(a[i + 1]), sum(b[i]) + sum(b[i + 1])
        if above > 0 and below > 0:
            yield math.log(above / below)


def _ratio(interval: Interval) -> Figure:
    low, high = interval.low, interval.high
    assert low is not None and high is not None
    return Figure(math.exp(interval.value), "ratio", math.exp(low), math.exp(high), interval.confidence, interval.n)
