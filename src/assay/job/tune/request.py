"""What ``assay tune`` is asked to do: frozen settings; nothing here does any work."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from assay.core.units import Seconds
from assay.job.request import RunRequest
from assay.job.tune.space import Axes
from assay.search.halving import Rules
from assay.search.objective import Objective, parse_objective, with_drop

LEAST_BUDGET_S = 10.0
THROUGHPUT = parse_objective("throughput")


@dataclass(frozen=True)
class Shares:
    """How the time is divided: ``build`` is until which part of what export and int8 left another build may go on.  The
    others are moments, as shares of what the builds left, until which the search, the finals and the compiler's work
    go on at most; what has to follow may end them sooner."""

    build: float = 0.50
    search: float = 0.50
    finals: float = 0.62
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

    def agreed(self) -> TuneRequest:
        """The drop that ``int8.max_drop`` allows and the one the objective names are one limit, the tighter of the
        two: every winner is held to it, and int8 is made under its control.  Control samples too few to show a drop
        that only the objective names keep int8 out instead of ending the search."""
        typed = self.run.int8.max_drop
        objective = with_drop(self.tuning.objective, typed)
        limit = objective.limit("accuracy.drop")
        if limit is None:
            return self
        int8 = replace(self.run.int8, max_drop=limit.value, insist=typed is not None)
        return TuneRequest(replace(self.run, int8=int8), replace(self.tuning, objective=objective))
