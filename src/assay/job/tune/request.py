"""What ``assay tune`` is asked to do: frozen settings; nothing here does any work."""

from __future__ import annotations

from dataclasses import dataclass, field

from assay.core.units import Seconds
from assay.job.request import RunRequest
from assay.job.tune.space import Axes
from assay.search.halving import Rules
from assay.search.objective import Objective, parse_objective

LEAST_BUDGET_S = 10.0
THROUGHPUT = parse_objective("throughput")


@dataclass(frozen=True)
class Shares:
    """How the time that export and builds left of the budget is divided: moments, as shares of it, until which the
    search, the finals, the proof of the leaders and the compiler's work go on."""

    search: float = 0.50
    finals: float = 0.62
    proof: float = 0.80
    compiled: float = 0.85


@dataclass(frozen=True)
class Tuning:
    """How to search; ``budget_s`` bounds everything from the start on."""

    objective: Objective = THROUGHPUT
    budget_s: Seconds = 300.0
    axes: Axes = field(default_factory=Axes)
    shares: Shares = Shares()

    @property
    def rules(self) -> Rules:
        """Longer budgets measure longer."""
        full_s = min(3.0, max(0.5, self.budget_s / 120))
        return Rules(short_s=min(0.3, max(0.1, full_s / 8)), full_s=full_s)

    @property
    def confirm_s(self) -> Seconds:
        return min(5.0, max(0.5, self.budget_s / 45))


@dataclass(frozen=True)
class TuneRequest:
    """``run`` names the model, its data, and the engines and precisions to search among."""

    run: RunRequest
    tuning: Tuning = field(default_factory=Tuning)
