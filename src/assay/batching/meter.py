"""The rate at which rows arrive, followed over the last batches."""

from __future__ import annotations

import math

from assay.core.units import PerSecond, Seconds

EVERY = 8
"""Batches between two looks at the arrivals."""
WEIGHT = 0.3
"""Of the newest look."""


class Meter:
    """``rate`` is 0 until two looks were taken.  The caller holds whatever lock is needed."""

    def __init__(self) -> None:
        self.rate: PerSecond = 0.0
        self._rows = 0
        self._batches = 0
        self._looked_s = -math.inf

    def arrived(self, rows: int) -> None:
        self._rows += rows

    def finished(self, now_s: Seconds) -> None:
        """A batch is done."""
        self._batches += 1
        passed_s = now_s - self._looked_s
        if self._batches % EVERY or passed_s <= 0:
            return
        rate = self._rows / passed_s
        self.rate = rate if self.rate == 0 else self.rate + WEIGHT * (rate - self.rate)
        self._rows = 0
        self._looked_s = now_s
