"""The last round: the leaders measured in turns, each in a process of its own, so that a drift meets all alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from assay.core import clock
from assay.core.engine import PRECISIONS
from assay.core.errors import AssayError
from assay.core.record import Figure, Record
from assay.core.units import Seconds
from assay.job.tune.press import lengths
from assay.job.tune.tail import CHILD_S
from assay.job.tune.trials import SECOND, Trials
from assay.measure.paired import LEAST_QUADS, PairPlan, compare_blocks
from assay.search.space import Point
from assay.search.standing import Standing

BLOCK_S = 0.12
MOST_DUELS = 3
TIE = 0.01
"""Leaders that differ by less than this, as far as can be told, are the same: the simpler one is taken."""


@dataclass(frozen=True)
class Finals:
    """``order`` is the leaders with the winner first; ``said`` why, in words."""

    order: tuple[Standing, ...]
    records: tuple[Record, ...]
    said: tuple[str, ...]


def finals(trials: Trials, leaders: Sequence[Standing], until: Callable[[], Seconds]) -> Finals:
    """The winner against each of the others in turn, A B B A, until the moment ``until()``.

    A duel begins only where the fewest turns that say anything end by then, as far as the trials tell.
    """
    order = list(leaders)
    records: list[Record] = []
    said: list[str] = []
    for challenger in order[1 : 1 + MOST_DUELS]:
        champion = order[0]
        what = f"{challenger.point} against {champion.point}, measured in turns"
        if not trials.pace.fits(what, duel_s(trials, champion.point, challenger.point), until()):
            said.append(f"{trials.pace.cut[-1]}; their longest trials decide")
            continue
        try:
            ratio = duel(trials, champion.point, challenger.point, until() - clock.now())
        except AssayError as error:
            said.append(f"{challenger.point} could not be measured in turns: {error.message}")
            continue
        records.append(_record(trials, champion.point, challenger.point, ratio))
        if _wins(champion.point, challenger.point, ratio):
            order.remove(challenger)
            order.insert(0, challenger)
        said.append(_said(champion.point, challenger.point, ratio))
    return Finals(tuple(order), tuple(records), tuple(said))


def duel(trials: Trials, first: Point, second: Point, most_s: Seconds) -> Figure:
    """``first``'s time over ``second``'s, per sample: above 1, ``second`` is the better one.

    Withheld when the time is too short for enough turns.  Raises EngineFailed or ChildFailed.
    """
    names = {0: trials.mapped.bases[first.family].engine, 1: trials.mapped.bases[second.family].engine}
    if names[0] == names[1]:
        names[1] += SECOND
    calls: dict[int, int] = {}
    started = clock.now()
    with trials.holding(list(names.values())):
        for side, point in enumerate((first, second)):
            order = trials.order(trials.mapped.candidate(point), point.batch, 1.0)
            trials.call(names[side], "hold", {"order": order})
            once = trials.call(names[side], "block", {"calls": 2})
            calls[side] = lengths([once * _callers(trials, point)], 2, BLOCK_S)

        def block(side: int, batch: int) -> list[Seconds]:
            return [float(trials.call(names[side], "block", {"calls": calls[side]})) / batch]

        turns_s = 4 * max(BLOCK_S, *(_round_s(trials, point) for point in (first, second)))
        left = max(0.1, most_s - (clock.now() - started) - turns_s)  # the last turns begun have to end in time
        plan = PairPlan(block=1, quads=max(LEAST_QUADS, 8), max_s=left)
        return compare_blocks(lambda: block(0, first.batch), lambda: block(1, second.batch), plan).ratio


def duel_s(trials: Trials, first: Point, second: Point) -> Seconds:
    """What the fewest turns take that give an interval, the opening of both included, as the trials tell."""
    points, pace = (first, second), trials.pace
    engines = [trials.mapped.bases[point.family].engine for point in points]
    opened = sum(pace.known(f"open {point.family}") for point in points)
    another = CHILD_S if engines[0] == engines[1] and engines[1] + SECOND not in trials.workers else 0.0
    rounds = [_round_s(trials, point) for point in points]
    return opened + another + 4 * sum(rounds) + 2 * LEAST_QUADS * sum(max(BLOCK_S, r) for r in rounds)


def _round_s(trials: Trials, point: Point) -> Seconds:
    """One call of each caller."""
    return trials.pace.known(f"row {point.family}") * point.batch * _callers(trials, point)


def _callers(trials: Trials, point: Point) -> int:
    return point.layout.calls if trials.objective.scenario == "offline" else 1


def _wins(champion: Point, challenger: Point, ratio: Figure) -> bool:
    """Whether the challenger takes the first place."""
    if ratio.value is None:
        return False
    low, high = ratio.low or ratio.value, ratio.high or ratio.value
    if low <= 1 <= high and abs(ratio.value - 1) <= TIE:
        return simplicity(challenger) < simplicity(champion)
    return ratio.value > 1


def simplicity(point: Point) -> tuple[int, int, int, int]:
    """Higher precision, fewer calls side by side, fewer options, smaller batch."""
    precision = point.family.rpartition(" ")[2]
    return PRECISIONS.index(precision), point.layout.calls, len(point.form.options), point.batch


def _said(champion: Point, challenger: Point, ratio: Figure) -> str:
    if ratio.value is None:
        return f"{challenger} against {champion}: {ratio.reason}"
    span = f" ({ratio.low:.3f}–{ratio.high:.3f})" if ratio.low is not None and ratio.high is not None else ""
    return f"{challenger} is {ratio.value:.3f}× as fast{span} as {champion}, measured in turns"


def _record(trials: Trials, first: Point, second: Point, ratio: Figure) -> Record:
    a, b = (trials.mapped.candidate(p) for p in (first, second))
    return Record(
        "paired",
        b.subject(trials.ctx.model.name, second.batch),
        figures={"paired.ratio": ratio},
        conditions={
            "scenario": trials.objective.scenario,
            "batch": second.batch,
            "against": a.digest,
            "against_batch": first.batch,
            "order": "A B B A",
            **trials.scene.data.conditions,
        },
        environment=trials.ctx.environment,
    )
