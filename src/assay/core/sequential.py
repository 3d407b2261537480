"""Is a candidate worse than its reference, asked again after every sample: tests that stay valid whenever one stops.

Each sample gives a difference D in −1, 0, 1: one when the reference alone is right, minus one when the candidate
alone is.  A gambler bets against "the mean of D is at least the margin", staking before each sample a share of the
wealth that depends on the samples before it alone.  Were the claim true, wealth could not grow on average, so it
exceeds 1/α *at any time* with a probability of at most α (Ville's inequality).  The bets are those of Waudby-Smith and
Ramdas, *Estimating means of bounded random variables by betting*, Journal of the Royal Statistical Society B 86
(2024), in their approximate GRAPA form, kept away from ruin by half.  The confidence sequence holds the margins
against which nobody has become rich.

Samples must come in random order: a file list sorted by class is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.core.errors import BadInput
from assay.core.stats import Interval, Vector

MOST_SHARE = 0.5
"""Of the stake that could lose everything."""
PRIOR_VARIANCE = 0.05
_STEPS = 40


@dataclass(frozen=True)
class SequentialAnswer:
    """``answer`` is ``not worse`` (the drop is below the margin), ``worse`` (above it) or None: not clear yet.

    It was clear after ``taken`` samples; ``drop`` is the mean difference over all that were looked at, with its
    confidence sequence.
    """

    answer: str | None
    taken: int
    drop: Interval
    margin: float

    @property
    def text(self) -> str:
        if self.answer is None:
            return f"not clear after {self.taken} samples whether the drop is below {self.margin:.2%}"
        side = "below" if self.answer == "not worse" else "above"
        return f"{self.answer}: the drop is {side} {self.margin:.2%}, clear after {self.taken} samples"


def sequential_drop(differences: Sequence[int], margin: float, confidence: float = 0.95) -> SequentialAnswer:
    """What the differences say so far, in the order they were drawn.

    Either claim is wrong with a probability of at most (1 − confidence) / 2, however often this is asked.
    Raises BadInput for a margin outside 0 … 1 and for differences other than −1, 0 and 1.
    """
    if not 0 < margin < 1:
        raise BadInput(f"a margin is a fraction between 0 and 1, not {margin}", remedy="--margin 1%")
    values = np.asarray(differences, dtype=np.float64)
    if values.size and not np.isin(values, (-1, 0, 1)).all():
        raise BadInput("a difference is −1, 0 or 1")
    n = len(values)
    if n == 0:
        return SequentialAnswer(None, 0, Interval(0.0, -1.0, 1.0, confidence, 0), margin)
    rich = math.log(2 / (1 - confidence))
    below, above = (
        _first(_wealth(margin - values, 1 - margin), rich),
        _first(_wealth(values - margin, 1 + margin), rich),
    )
    answer = None
    if below is not None and (above is None or below < above):
        answer = "not worse"
    elif above is not None:
        answer = "worse"
    taken = {"not worse": below, "worse": above, None: n}[answer]
    assert taken is not None
    mean = float(values.mean())
    low, high = _end(values, mean, rich, -1.0), _end(values, mean, rich, 1.0)
    return SequentialAnswer(answer, taken, Interval(mean, low, high, confidence, n), margin)


def _wealth(gains: Vector, ruin: float) -> Vector:
    """Log wealth after each gain; a stake of 1 / ``ruin`` could lose all.  Stakes depend on earlier gains alone."""
    n = len(gains)
    before = np.concatenate([[0.0], np.cumsum(gains)[:-1]])
    squares = np.concatenate([[0.0], np.cumsum(gains**2)[:-1]])
    seen = np.arange(1, n + 1, dtype=np.float64)  # one more than samples seen: the prior counts as one
    mean = before / seen
    variance = np.maximum((PRIOR_VARIANCE + squares) / seen - mean**2, 1e-9)
    stake = np.clip(mean / (variance + mean**2), 0.0, MOST_SHARE / ruin)
    return np.asarray(np.cumsum(np.log1p(stake * gains)))


def _first(wealth: Vector, rich: float) -> int | None:
    """After how many samples wealth first reaches ``rich``."""
    reached = np.flatnonzero(wealth >= rich)
    return int(reached[0]) + 1 if reached.size else None


def _end(values: Vector, mean: float, rich: float, far: float) -> float:
    """One end of the confidence sequence: how far towards ``far`` a margin still finds nobody rich."""

    def excluded(margin: float) -> bool:
        gains = margin - values if far > 0 else values - margin
        ruin = 1 - margin if far > 0 else 1 + margin
        return ruin > 0 and bool((_wealth(gains, ruin) >= rich).any())

    inside, outside = mean, far
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if excluded(middle) else (middle, outside)
    return outside
