"""The search over the candidates of a run: what ``assay tune`` and ``assay run --tune`` share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assay.core import clock
from assay.core.engine import Candidate
from assay.core.units import Seconds, format_seconds
from assay.job.context import Context
from assay.job.tune.finals import Finals, finals
from assay.job.tune.request import Tuning
from assay.job.tune.space import Mapped, map_space
from assay.job.tune.trials import Trials
from assay.measure.environment import cores_granted
from assay.search.halving import Found, Watch, search


@dataclass(frozen=True)
class Searched:
    """``found`` is the search's own answer, ``finals`` the leaders after they were measured in turns."""

    mapped: Mapped
    found: Found
    finals: Finals


def set_space(trials: Trials, candidates: Sequence[Candidate], tuning: Tuning) -> None:
    """The space of ``candidates``' settings on this machine."""
    cores = max(1, int(cores_granted()))
    signature = trials.scene.exported.signature
    trials.mapped = map_space(candidates, signature, tuning.objective, tuning.axes, cores)
    for text in trials.mapped.notes:
        trials.ctx.warn(text)
    trials.start([c.engine for c in candidates])


def search_in(
    ctx: Context,
    trials: Trials,
    tuning: Tuning,
    ends: tuple[Seconds, Seconds],
    reserve: Callable[[], Seconds] = lambda: 0.0,
) -> Searched:
    """Search until the first of ``ends`` (moments of core's clock), measure the leaders in turns until the second,
    and both no longer than leaves ``reserve()`` of the budget, asked again each time, for what has to follow."""
    progress, mapped = ctx.progress, trials.mapped
    progress.stage("search", f"{len(mapped.space)} configurations for {tuning.objective.text}")
    first, second = (_until(trials, end, reserve) for end in ends)
    teller = _Teller(ctx, first)
    watch = Watch(time_left=teller.time_left, note=teller.note)
    found = search(mapped.space, tuning.objective, trials, tuning.rules, watch)
    reused = f", {trials.reused} trials of an earlier run used" if trials.reused else ""
    progress.done(f"{found.trials} trials of {len({s.point for s in found.standings})} configurations{reused}")
    if len(found.leaders) < 2:
        return Searched(mapped, found, Finals(found.leaders, (), ()))
    progress.stage("finals", f"{len(found.leaders)} leaders, measured in turns")
    result = finals(trials, found.leaders, second)
    progress.done(str(result.order[0].point))
    for text in result.said:
        progress.note(text)
    return Searched(mapped, found, result)


def _until(trials: Trials, end_s: Seconds, reserve: Callable[[], Seconds]) -> Callable[[], Seconds]:
    """The moment at which nothing of this part may go on any more."""
    return lambda: min(end_s, trials.pace.ends_s - reserve())


class _Teller:
    """Says what was decided, and how much of the search's time is left."""

    def __init__(self, ctx: Context, until: Callable[[], Seconds]) -> None:
        self._ctx = ctx
        self._until = until
        self._started_s = clock.now()

    def time_left(self) -> Seconds:
        now, until_s = clock.now(), self._until()
        if math.isfinite(until_s):
            whole = max(1, round(until_s - self._started_s))
            self._ctx.progress.advance(min(whole, max(0, round(now - self._started_s))), whole)
        return until_s - now

    def note(self, text: str) -> None:
        left = max(0.0, self._until() - clock.now())
        self._ctx.progress.note(f"{text}; {format_seconds(left)} left for the search")


@dataclass(frozen=True)
class Moments:
    """The moments of core's clock at which parts of a tuning end."""

    started_s: Seconds
    budget_s: Seconds
    search_from_s: Seconds

    def at(self, share: float) -> Seconds:
        """``share`` of what was left of the budget when the search began; 1 is its end."""
        end = self.started_s + self.budget_s
        return self.search_from_s + share * max(0.0, end - self.search_from_s)
