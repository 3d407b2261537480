"""What is known of a point after a trial, read from the trial's Records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.core.record import Figure, Record
from assay.search.objective import Limit, Objective, show
from assay.search.space import Point

DOUBT = 0.15
"""How far the truth may lie from a figure that has no interval, as a fraction of it."""

LEAST = 1e-3
"""Of a figure's value, what the low end of its interval counts as where it is zero or less."""

FORERUNNER = {"latency.p99": "latency.p90", "latency.p90": "latency.p50"}
"""A lower percentile that is already above a limit breaks it for the higher one too."""

WARM_MEMORY = 1.25
"""The peak of a process that held other models before may be this much above the point's own."""


@dataclass(frozen=True)
class Standing:
    """``value`` is the objective's figure with ``low``..``high`` around it, None where the trial gave none;
    ``reason`` says why there is none or why it may not win.  ``broken`` names limits that do not hold;
    ``given_up`` says that the trial stopped because the point was too far behind, ``low`` and ``high`` then being the
    best that was still possible."""

    point: Point
    rung: str
    value: float | None
    low: float = 0.0
    high: float = 0.0
    broken: tuple[str, ...] = ()
    reason: str | None = None
    records: tuple[str, ...] = ()
    given_up: bool = False

    @property
    def eligible(self) -> bool:
        """Whether it may lead: measured, compared, and no limit is known to be broken."""
        return self.value is not None and self.reason is None and not self.broken

    def best_case(self, objective: Objective) -> float:
        return self.high if objective.maximize else self.low

    def worst_case(self, objective: Objective) -> float:
        return self.low if objective.maximize else self.high


def standing(point: Point, rung: str, records: Sequence[Record], objective: Objective) -> Standing:
    """Read one trial.  A failed or skipped Record of any kind among them keeps the point from winning."""
    ids = tuple(r.id for r in records)
    bad = next((r for r in records if r.status != "ok"), None)
    measured = next((r for r in records if r.kind == "measure"), None)
    if bad is not None or measured is None:
        reason = f"{bad.status}: {bad.reason}" if bad is not None else "it was not measured"
        bound = bad.details.get("bound") if bad is not None else None
        low, high = (bound, bound) if bound is not None else (0.0, 0.0)
        return Standing(point, rung, None, low, high, reason=reason, records=ids, given_up=bound is not None)
    figure = _figure(objective.figure, measured)
    if figure is None or figure.value is None or figure.value <= 0:
        found = measured.figures.get(objective.figure)
        why = (found.reason if found else None) or "it was not measured"
        return Standing(point, rung, None, reason=f"no {objective.figure}: {why}", records=ids)
    low, high = _span(figure)
    broken = tuple(text for limit in objective.limits if (text := _broken(limit, measured)))
    wrong = next((str(r.details["refused"]) for r in records if r.details.get("refused")), None)
    return Standing(point, rung, figure.value, low, high, broken, wrong, ids)


def _figure(name: str, record: Record) -> Figure | None:
    """The figure; for a percentile that a short trial cannot bound, the lower one that it can (without interval)."""
    figure = record.figures.get(name)
    if (figure is None or figure.value is None) and name in FORERUNNER:
        lower = _figure(FORERUNNER[name], record)
        return None if lower is None else Figure(lower.value, lower.unit)
    return figure


def _span(figure: Figure) -> tuple[float, float]:
    """Both above zero, as ``Objective.gain`` needs them: an interval of few values may reach below it."""
    assert figure.value is not None
    low = figure.value * (1 - DOUBT) if figure.low is None else max(figure.low, figure.value * LEAST)
    return low, figure.value * (1 + DOUBT) if figure.high is None else figure.high


def _broken(limit: Limit, record: Record) -> str | None:
    """In words, when the limit cannot hold; None when it does or when a longer measurement has to tell."""
    name: str | None = limit.figure
    while name is not None:
        value = record.value(name)
        if value is not None:
            allowed = limit.value * (WARM_MEMORY if name == "memory.peak" else 1.0)
            if (value > allowed) if limit.upper else (value < allowed):
                return f"{limit.text}: {name} is {show(name, value)}"
            return None
        name = FORERUNNER.get(name)
    return None
