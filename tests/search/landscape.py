"""A made-up machine for the search's tests: rates that follow from a formula, noise that follows from a seed."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field

from assay.core.record import Figure, Record
from assay.search.halving import Effort
from assay.search.space import Family, Form, Layout, Point, Space

LAYOUTS = (Layout(1, 2), Layout(2, 1), Layout(1, 1))
BATCHES = (1, 2, 4, 8, 16)


def space(*names: str, forms: tuple[Form, ...] = (Form(static=True),)) -> Space:
    return Space(tuple(Family(name, BATCHES, LAYOUTS, forms) for name in names))


@dataclass
class Landscape:
    """``speed`` of each family, the batch size each is best at (``peak``), and what a layout gives.

    Counts the seconds a real machine would have spent: opening, a warm-up, measuring; a point below the floor
    is given up after two calls.
    """

    speed: dict[str, float]
    peak: dict[str, int] = field(default_factory=dict)
    layout: dict[Layout, float] = field(default_factory=lambda: {LAYOUTS[0]: 1.0, LAYOUTS[1]: 1.15, LAYOUTS[2]: 0.6})
    noise: float = 0.0
    seed: int = 0
    open_s: float = 0.3
    spent_s: float = 0.0
    asked: list[tuple[Point, Effort]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    lucky: dict[Point, float] = field(default_factory=dict)
    """Factors by which the first trial of a point flatters it."""

    def rate(self, point: Point) -> float:
        """True samples/s: rises to the family's best batch and falls gently behind it."""
        best = self.peak.get(point.family, 4)
        steps = abs(BATCHES.index(point.batch) - BATCHES.index(best))
        fall = 0.85 if point.batch < best else 0.93
        free = 1.0 if point.form.static else 0.87
        return self.speed[point.family] * fall**steps * self.layout[point.layout] * free

    def __call__(self, point: Point, effort: Effort) -> list[Record]:
        self.asked.append((point, effort))
        subject = {"candidate": str(point)}
        conditions = {"scenario": "offline", "batch": point.batch}
        true = self.rate(point)
        call_s = point.batch / true
        if point.family in self.broken:
            return [Record("measure", subject, "failed", reason="it crashed", conditions=conditions)]
        if effort.floor is not None and true < effort.floor:
            self.spent_s += self.open_s + 3 * call_s
            details = {"bound": true * 1.05}
            return [Record("measure", subject, "skipped", reason="given up", conditions=conditions, details=details)]
        self.spent_s += self.open_s + 3 * call_s + max(effort.seconds, call_s)
        sigma = self.noise / (1 + effort.seconds)
        seen = true * (1 + sigma * self._drawn(point, effort))
        seen *= self.lucky.pop(point, 1.0)
        figures = {
            "throughput": Figure(seen, "samples/s", seen * (1 - 2 * sigma - 0.01), seen * (1 + 2 * sigma + 0.01)),
            "latency.p50": Figure(call_s, "s"),
            "latency.p99": Figure(1.2 * call_s, "s"),
            "memory.peak": Figure(1e8 + 1e6 * point.batch, "B"),
        }
        return [Record("measure", subject, figures=figures, conditions=conditions)]

    def _drawn(self, point: Point, effort: Effort) -> float:
        digest = hashlib.sha256(f"{self.seed} {point} {effort.rung} {effort.seconds}".encode()).hexdigest()
        return random.Random(digest).uniform(-1, 1)

    def best(self, over: Space) -> Point:
        return max(over.points(), key=self.rate)
