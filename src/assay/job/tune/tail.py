"""What has to follow a search, and how long each part of it will take as far as was measured before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from assay.core import clock
from assay.core.units import Seconds
from assay.job.pace import Pace
from assay.job.stages.build import CHILD
from assay.job.stages.measure import FEED_ROWS
from assay.job.tune.given import CHECK_ROWS
from assay.job.tune.request import Tuning
from assay.job.tune.trials import Trials, family_of
from assay.search.space import Point

CHILD_S = 2.0
"""A process of its own until it has imported its libraries, where no build told more."""
REPORT_S = 2.0
"""The reports' files: nothing that was measured before says how long they take."""
LEAST_CONFIRM_S = 0.25
LEAST_SCORED = 32
"""Fewer samples than these show no accuracy."""
MOST_SCORING = 0.3
"""The share of the budget that is kept free for the accuracy while the search goes on."""
ROWS = (8, 4, 2)
"""How many different rows the winner is compared on: as many as the time left allows."""
_FIXED_S = 0.5
"""Warm-up and the like of a measurement."""


@dataclass(frozen=True)
class Tail:
    """All estimates are in seconds, and zero as long as nothing is known."""

    trials: Trials
    tuning: Tuning

    @property
    def pace(self) -> Pace:
        return self.trials.pace

    @property
    def samples(self) -> int:
        """How many the accuracy would be on; 0 where there is none."""
        data = self.trials.scene.data
        return len(data.reader) if data.task is not None and data.reader is not None else 0

    def reserve_s(self) -> Seconds:
        """For the proof of one configuration and all that comes after it."""
        scoring = self.score_s(self.samples)
        if scoring:
            scoring = min(scoring, MOST_SCORING * (self.pace.ends_s - self.pace.at(0.0)))
        return self.compare_s(ROWS[1]) + scoring + self.after_s()

    def after_s(self) -> Seconds:
        """PyTorch's own measurement, the shortest fresh run, the report."""
        return self.eager_s() + self.confirm_s(LEAST_CONFIRM_S) + REPORT_S

    def compare_s(self, rows: int) -> Seconds:
        """The comparison on ``rows`` rows: what it costs to draw what the format costs does not depend on them."""
        known = self.trials.given.known if self.trials.given is not None else None
        took_s = known.took_s if known is not None else 0.0
        return took_s * (1 + rows / CHECK_ROWS) + self.pace.longest("open ")

    def rows(self, until_s: Seconds) -> int:
        """As many rows as can be compared by ``until_s``."""
        left = until_s - clock.now()
        return next((rows for rows in ROWS if self.compare_s(rows) <= left), ROWS[-1])

    def score_s(self, samples: int, point: Point | None = None) -> Seconds:
        """The accuracy of the reference and of ``point`` (None: one as fast) on ``samples`` samples, nothing
        overlapped."""
        if not samples:
            return 0.0
        reference = self.pace.known(f"row {family_of(self.trials.scene.reference)}", self.pace.longest("row "))
        own = self.pace.known(f"row {point.family}", reference) if point is not None else reference
        return CHILD_S + samples * (2 * self.pace.known("read") / CHECK_ROWS + reference + own)

    def scored(self, until_s: Seconds, point: Point) -> int | None:
        """On how many samples an accuracy can be had by ``until_s``: None for all, else at least ``LEAST_SCORED``."""
        left = until_s - clock.now()
        whole, one = self.score_s(self.samples, point), self.score_s(1, point) - CHILD_S
        if whole <= left or self.samples <= LEAST_SCORED or one <= 0:
            return None
        return min(self.samples, max(LEAST_SCORED, int((left - CHILD_S) / one)))

    def eager_s(self) -> Seconds:
        reference = family_of(self.trials.scene.reference)
        opened = self.pace.known(f"open {reference}", self.pace.longest("open "))
        return opened + self.tuning.rules.full_s + _FIXED_S

    def confirm_s(self, seconds: Seconds, point: Point | None = None) -> Seconds:
        """A fresh run of ``seconds`` for a latency and for a rate, in a process that has to start first."""
        opened = self.pace.known(f"open {point.family}") if point is not None else self.pace.longest("open ")
        read = self.pace.known("read") / CHECK_ROWS * FEED_ROWS
        return max(self.pace.known(CHILD), CHILD_S) + opened + read + 2 * (seconds + _FIXED_S)

    def confirm_for(self, point: Point) -> Seconds | None:
        """How long the fresh run may measure for each of its figures, None where not even the shortest would fit."""
        left = self.pace.left() - REPORT_S - self.confirm_s(0.0, point)
        seconds = min(self.tuning.confirm_s, left / 2)
        return seconds if seconds >= LEAST_CONFIRM_S else None
