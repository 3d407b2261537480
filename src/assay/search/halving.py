"""Successive halving over a space whose axes have an order.

1. *Scout*: of each family two layouts at one batch size, shortly.  Families far behind the leader are dropped.
2. *Climb*: in each family that is left, the best point's neighbours (batch sizes next to it, then other layouts,
   then other forms), shortly, for as long as a neighbour is better; a family that falls behind is dropped.
3. *Sweep*: every batch size of the leader's own settings is tried, since a short trial that flattered one of them
   hid those beyond it.
4. *Lead*: the points whose intervals reach the leader's are halved, measured twice as long at each rung, until
   the last ones have the full length.
5. *Reopen*: where the leader's full length says less than the short trial that set the bar, what was given up
   against that bar is tried again, and 2 to 4 go on from there.

A trial is told the value below which its point is given up (``Effort.floor``), so that hopeless points
cost a call or two.  When time runs out the best point so far stands.  The decisions depend on nothing but
the Records, so a resumed search goes the same way.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from assay.core import clock
from assay.core.record import Record
from assay.core.units import Seconds
from assay.search.objective import Objective, show
from assay.search.space import Family, Layout, Point, Space
from assay.search.standing import Standing, standing


@dataclass(frozen=True)
class Effort:
    """How long a point is measured, under which name, and the objective's value at which it is given up."""

    rung: str
    seconds: Seconds
    floor: float | None = None


class Trial(Protocol):
    """Measures a point and compares it with the reference; Records of kind ``measure`` and ``verify``."""

    def __call__(self, point: Point, effort: Effort) -> Sequence[Record]: ...


@dataclass(frozen=True)
class Rules:
    """``short_s`` and ``full_s`` are the shortest and the longest measurement; ``leaders`` the points that are
    measured longer.  ``scouted``, ``climbed`` and ``tried``: a family, or a point, stays in as long as it may be
    within this share of the leader (after scouting, while climbing, and while a trial runs).  ``rounds`` is how often
    a bar that luck had set may be corrected."""

    short_s: Seconds = 0.25
    full_s: Seconds = 2.0
    leaders: int = 4
    scouted: float = 0.6
    climbed: float = 0.8
    tried: float = 0.7
    rounds: int = 3


@dataclass(frozen=True)
class Left:
    """``points`` of a family were not tried, because of ``reason``."""

    family: str
    points: int
    reason: str


@dataclass(frozen=True)
class Found:
    """``standings`` hold the longest trial of each point, the best eligible ones first; ``leaders`` had the longest
    measurement that time allowed.  ``complete`` is False when time ran out."""

    standings: tuple[Standing, ...]
    leaders: tuple[Standing, ...]
    left: tuple[Left, ...]
    trials: int
    complete: bool

    @property
    def best(self) -> Standing | None:
        return self.leaders[0] if self.leaders else None


@dataclass(frozen=True)
class Watch:
    """``time_left`` is asked before each trial; ``note`` is told what was decided, in words."""

    time_left: Callable[[], Seconds] = lambda: math.inf
    note: Callable[[str], None] = lambda text: None


def search(
    space: Space, objective: Objective, trial: Trial, rules: Rules | None = None, watch: Watch | None = None
) -> Found:
    """Search ``space``.  Raises what ``trial`` raises; a point that cannot run is a Record, not an exception."""
    return _Search(space, objective, trial, rules or Rules(), watch or Watch()).run()


def exhaust(space: Space, objective: Objective, trial: Trial, seconds: Seconds, watch: Watch | None = None) -> Found:
    """Every point of the space, ``seconds`` each: what a search is compared with."""
    work = _Search(space, objective, trial, Rules(full_s=seconds), watch or Watch())
    for point in space.points():
        work.attempt(point, Effort("full", seconds))
    return work.found(work.ranked())


class _OutOfTime(Exception):
    """The next trial would not end in time any more."""


@dataclass
class _Search:
    space: Space
    objective: Objective
    trial: Trial
    rules: Rules
    watch: Watch
    best_of: dict[Point, Standing] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    floors: dict[Point, float] = field(default_factory=dict)
    trials: int = 0
    rounds: int = 0
    beside_s: dict[str, Seconds] = field(default_factory=dict)
    complete: bool = True

    def run(self) -> Found:
        try:
            self.scout()
            leaders = self.ascend()
            while self.rounds < self.rules.rounds and self.reopen():
                leaders = self.ascend()
            leaders = leaders or self.ranked()[: self.rules.leaders]
        except _OutOfTime:
            self.complete = False
            self.watch.note("the time for the search is over: the best so far stands")
            leaders = self.ranked()[: self.rules.leaders]
        return self.found(leaders)

    # stages

    def scout(self) -> None:
        """The usual layout of every family before the widest one of any: time may run out."""
        usual = {f.name: Point(f.name, self.start(f), f.layouts[0], f.forms[0]) for f in self.space.families}
        for point in usual.values():
            self.attempt(point, self.short(self.rules.scouted))
        for family in self.space.families:
            point, widest = usual[family.name], _widest(family)
            if widest != point.layout and not self.hopeless(self.best_of[point], widest.calls):
                self.attempt(replace(point, layout=widest), self.short(self.rules.scouted))
        for family in self.space.families:
            self.drop_if_behind(family, self.rules.scouted, "after scouting")
        kept = [f.name for f in self.families()]
        self.watch.note(f"scouted {self.trials} points; {', '.join(kept) or 'no family'} goes on")

    def hopeless(self, found: Standing, times: int) -> bool:
        """Whether a point that was given up would be too far behind even ``times`` as fast."""
        best = self.leader()
        if not found.given_up or best is None or not self.objective.maximize:
            return False
        return found.high * times < best.worst_case(self.objective) * self.rules.scouted

    def ascend(self) -> list[Standing]:
        self.climb()
        self.sweep()
        return self.lead()

    def climb(self) -> None:
        for family in sorted(self.families(), key=lambda f: -self.promise(f)):
            moved = True
            while moved and not self.drop_if_behind(family, self.rules.climbed, "while climbing"):
                moved = self.climb_once(family)
        best = self.leader()
        self.watch.note(f"climbed to {self.said(best)}" if best else "no point may lead yet")

    def climb_once(self, family: Family) -> bool:
        """The neighbours of the family's best point along one axis after the other; whether any was new."""
        top = self.top(family)
        if top is None:
            return self.fall_back(family)
        axes = (family.next_batches, family.other_layouts, family.other_forms)
        for neighbours in axes:
            new = [p for p in neighbours(top.point) if p not in self.best_of]
            for point in new:
                self.attempt(point, self.short(self.rules.tried))
            if new:
                return True
        return False

    def fall_back(self, family: Family) -> bool:
        """Nothing of the family is eligible yet: the smaller batch sizes, then other layouts."""
        below = [b for b in family.batches if b < self.start(family)]
        for batch in reversed(below):
            point = Point(family.name, batch, family.layouts[0], family.forms[0])
            if point not in self.best_of:
                self.attempt(point, self.short(self.rules.tried))
                return True
        untried = [p for p in family.points() if p not in self.best_of and p.batch == family.batches[0]]
        for point in untried[:1]:
            self.attempt(point, self.short(self.rules.tried))
        return bool(untried)

    def sweep(self) -> None:
        """The leader's settings at every batch size; again where another one leads afterwards."""
        swept: Point | None = None
        while (best := self.leader()) is not None and replace(best.point, batch=0) != swept:
            swept = replace(best.point, batch=0)
            line = [replace(swept, batch=batch) for batch in self.space.family(best.point.family).batches]
            for point in line:
                if point not in self.best_of:
                    self.attempt(point, self.short(self.rules.tried))

    def lead(self) -> list[Standing]:
        """Halve the points that may be the best, measuring the rest twice as long, down to two at full length."""
        rules = self.rules
        rungs = max(1, round(math.log2(max(2.0, rules.full_s / rules.short_s)) / 1.5))
        lengths = [rules.full_s / 2 ** (rungs - 1 - i) for i in range(rungs)]
        left = self.contenders(self.ranked())[: rules.leaders]
        for number, seconds in enumerate(lengths):
            name = "full" if number == len(lengths) - 1 else f"rung {number + 1}"
            for found in left:
                self.attempt(found.point, Effort(name, seconds))
            left = [self.best_of[s.point] for s in left if self.best_of[s.point].eligible]
            left.sort(key=self.rank)
            left = self.contenders(left)
            if number < len(lengths) - 1:
                left = left[: max(2, math.ceil(len(left) / 2))]
        if left:
            self.watch.note(f"{len(left)} of the leaders measured at full length, the best {self.said(left[0])}")
        return left

    def reopen(self) -> bool:
        """Whether the bar was set by luck: a short trial may flatter, and what was given up or dropped against it is
        tried again once the leader's longer trial says less."""
        self.rounds += 1
        best = self.leader()
        if best is None:
            return False
        bar = best.worst_case(self.objective)
        given_up = {p: floor for p, floor in self.floors.items() if self.best_of[p].given_up}
        misled = [p for p, floor in given_up.items() if self.objective.gain(floor, bar) > 1.0]
        for name in [f.name for f in self.space.families if f.name in self.dropped]:
            top = self.top(self.space.family(name))
            near = top is not None and self.objective.gain(top.best_case(self.objective), bar) >= self.rules.climbed
            if near or any(p.family == name for p in misled):
                del self.dropped[name]
                misled += [top.point] if near and top is not None else []
        if not misled:
            return False
        self.watch.note(f"{self.said(best)} after a longer trial: {len(misled)} points get another one")
        for point in misled:
            self.floors.pop(point, None)
            self.attempt(point, self.short(self.rules.tried))
        return True

    # trials

    def attempt(self, point: Point, effort: Effort) -> Standing:
        if self.trials and self.watch.time_left() <= self.needed_s(point, effort):
            raise _OutOfTime
        started = clock.now()
        records = self.trial(point, effort)
        beside_s = max(0.0, clock.now() - started - effort.seconds)
        self.trials += 1
        found = standing(point, effort.rung, records, self.objective)
        self.best_of[point] = found
        if not found.given_up:  # one that was given up did not measure for as long
            self.beside_s[point.family] = beside_s
        if found.given_up and effort.floor is not None:
            self.floors[point] = effort.floor
        return found

    def needed_s(self, point: Point, effort: Effort) -> Seconds:
        """The measurement, and what the family's last trial took beside it; for a new family what others' took."""
        others = statistics.median(self.beside_s.values()) if self.beside_s else 0.0
        return effort.seconds + self.beside_s.get(point.family, others)

    def short(self, share: float) -> Effort:
        return Effort("short", self.rules.short_s, self.floor(share))

    def floor(self, share: float) -> float | None:
        """The value a point must promise to be worth more calls: a share of the leader's."""
        best = self.leader()
        if best is None:
            return None
        sure = best.worst_case(self.objective)
        return sure * share if self.objective.maximize else sure / share

    # standings

    def rank(self, found: Standing) -> float:
        assert found.value is not None
        return -found.value if self.objective.maximize else found.value

    def ranked(self, family: str | None = None) -> list[Standing]:
        own = (s for s in self.best_of.values() if s.eligible and family in (None, s.point.family))
        return sorted(own, key=self.rank)

    def leader(self) -> Standing | None:
        return next(iter(self.ranked()), None)

    def top(self, family: Family) -> Standing | None:
        return next(iter(self.ranked(family.name)), None)

    def contenders(self, ordered: Sequence[Standing]) -> list[Standing]:
        """Those whose interval reaches the leader's."""
        if not ordered:
            return []
        bar = ordered[0].worst_case(self.objective)
        return [s for s in ordered if self.objective.gain(s.best_case(self.objective), bar) >= 1 or s is ordered[0]]

    # families

    def families(self) -> list[Family]:
        return [f for f in self.space.families if f.name not in self.dropped]

    def promise(self, family: Family) -> float:
        top, best = self.top(family), self.leader()
        if top is None or best is None or top.value is None or best.value is None:
            return 0.0
        return self.objective.gain(top.value, best.value)

    def drop_if_behind(self, family: Family, share: float, when: str) -> bool:
        if family.name in self.dropped:
            return True
        best, top = self.leader(), self.top(family)
        if best is None or best.point.family == family.name:
            return False
        if top is not None and top.value is not None and best.value is not None:
            if self.objective.gain(top.best_case(self.objective), best.worst_case(self.objective)) >= share:
                return False
            behind = show(self.objective.figure, top.value)
            lead = show(self.objective.figure, best.value)
            self.dropped[family.name] = f"{when} its best had {behind}, {best.point.family} {lead}"
            return True
        if self.objective.limits and any(s.broken for s in self.of(family)):
            return False  # smaller batches may hold the limits
        reasons = [s.reason for s in self.of(family) if s.reason]
        self.dropped[family.name] = reasons[-1] if reasons else "nothing of it could be measured"
        return True

    def of(self, family: Family) -> Iterable[Standing]:
        return [s for s in self.best_of.values() if s.point.family == family.name]

    def start(self, family: Family) -> int:
        """The batch size to scout at: a middle one for a rate, the smallest where times are limited or sought."""
        timed = any(limit.figure.startswith("latency") for limit in self.objective.limits)
        if timed or not self.objective.maximize:
            return family.batches[0]
        return family.batches[(len(family.batches) - 1) // 2]

    # what came of it

    def found(self, leaders: Sequence[Standing]) -> Found:
        ordered = self.ranked()
        rest = [s for s in self.best_of.values() if not s.eligible]
        return Found((*ordered, *rest), tuple(leaders), tuple(self.left()), self.trials, self.complete)

    def left(self) -> list[Left]:
        found = []
        for family in self.space.families:
            missing = len(family) - sum(s.point.family == family.name for s in self.best_of.values())
            if missing:
                why = self.dropped.get(family.name)
                rest = "no neighbour of its best point" if self.complete else "the time for the search was over"
                found.append(Left(family.name, missing, why or rest))
        return found

    def said(self, found: Standing) -> str:
        assert found.value is not None
        return f"{found.point}: {show(self.objective.figure, found.value)}"


def _widest(family: Family) -> Layout:
    return max(family.layouts, key=lambda layout: (layout.calls, layout.threads))
