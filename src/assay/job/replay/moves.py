"""Did a figure move beyond noise?  Two intervals of the same quantity, held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from assay.core.disturbance import disturbance
from assay.core.record import Figure, Record

BETTER = {"throughput": 1, "latency.p50": -1, "latency.p99": -1}
"""Figures that are held against each other, and the direction that is good."""
MOVED = ("better", "worse")
"""The states in which a figure is said to have moved."""


@dataclass(frozen=True)
class Move:
    """``state``: ``within noise``, ``better``, ``worse`` or ``not shown``; ``ratio`` is now over then, with the widest
    interval the intervals allow; ``recorded`` how many runs of the bundle a move was found to hold against."""

    figure: str
    scenario: str
    batch: int
    state: str
    text: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    recorded: int = 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def moves(then: Sequence[Record], now: Record, margin: float) -> list[Move]:
    """One for every figure of ``BETTER`` that the first of the old Records has.

    A move is told only where the two 95 % intervals are disjoint *and* the ratio is further from 1 than ``margin``:
    an interval holds the noise within one run, and two runs of an unchanged model differ by more than that.  A run
    that others disturbed shows nothing.

    ``then`` are measurements of one case in different processes, the better evidence first.  An interval knows nothing
    of what a process keeps from its start to its end, such as where its memory lies; so a move must hold against each
    of them.  A further one that was disturbed, or has no interval, is left out.
    """
    return [
        _against_each([_move(name, then[0], now, margin), *_further(name, then[1:], now, margin)])
        for name in BETTER
        if name in then[0].figures and then[0].figures[name].value is not None
    ]


def confirmed(first: Move, second: Move) -> Move:
    """The same figure measured twice: a move is told only where both show it, over the range of both.

    One run of many figures shows some beyond its interval by chance, and a process that was started unluckily
    stays slow until its end.
    """
    if first.state not in MOVED:
        return first
    if second.state != first.state:
        state = second.state if second.state == "not shown" else "within noise"
        text = f"{first.state} at first ({first.text}), not when measured once more: {second.text}"
        return replace(second, state=state, text=text)
    near, ends = _over((first, second))
    text = f"{_said(near.ratio or 1.0, ends)}, measured twice{_of_each(first.recorded)}"
    return replace(near, text=text, low=ends[0], high=ends[1])


def _further(name: str, then: Sequence[Record], now: Record, margin: float) -> list[Move]:
    """Against the other Records of ``then`` that can show a move of this figure."""
    return [
        _move(name, old, now, margin)
        for old in then
        if (figure := old.figures.get(name)) is not None
        and None not in (figure.value, figure.low, figure.high)
        and not disturbance(old.warnings)
        and old.label not in _unsteady_labels(name)
    ]


def _against_each(found: Sequence[Move]) -> Move:
    """A move that shows against the first recorded run is told only where it shows against the others too."""
    first = found[0]
    if first.state not in MOVED or len(found) == 1:
        return first
    other = next((move for move in found if move.state != first.state), None)
    if other is not None:
        state = other.state if other.state == "not shown" else "within noise"
        text = f"{first.state} than one recorded run ({first.text}), not than another: {other.text}"
        return replace(other, state=state, text=text)
    near, ends = _over(found)
    text = f"{_said(near.ratio or 1.0, ends)}{_of_each(len(found))}"
    return replace(near, text=text, low=ends[0], high=ends[1], recorded=len(found))


def _of_each(recorded: int) -> str:
    return f", against each of {recorded} recorded runs" if recorded > 1 else ""


def _over(found: Sequence[Move]) -> tuple[Move, tuple[float, float]]:
    """The move that is nearest to none, and the ends of all."""
    near = min(found, key=lambda move: abs((move.ratio or 1.0) - 1))
    lows, highs = [m.low for m in found if m.low is not None], [m.high for m in found if m.high is not None]
    return near, (min(lows), max(highs))


def _move(name: str, then: Record, now: Record, margin: float) -> Move:
    scenario, batch = str(then.conditions.get("scenario")), int(then.conditions.get("batch") or 0)
    old, new = then.figures[name], now.figures.get(name)
    if new is None or new.value is None:
        why = now.reason or (new.reason if new else None) or "it was not measured again"
        return Move(name, scenario, batch, "not shown", why)
    assert old.value is not None
    ratio = new.value / old.value if old.value else None
    ends = _ends(old, new)
    if ratio is None or ends is None:
        text = "one of the two has no interval, so noise cannot be told from a move"
        return Move(name, scenario, batch, "not shown", text, ratio)
    low, high = ends
    if low <= 1 <= high or abs(ratio - 1) <= margin:
        return Move(name, scenario, batch, "within noise", _said(ratio, ends), ratio, low, high)
    others = disturbance(now.warnings) or disturbance(then.warnings) or _unsteady(name, then, now)
    if others:
        return Move(name, scenario, batch, "not shown", f"{_said(ratio, ends)}, but {others}", ratio, low, high)
    state = "better" if (ratio > 1) == (BETTER[name] > 0) else "worse"
    return Move(name, scenario, batch, state, _said(ratio, ends), ratio, low, high)


def _unsteady(figure: str, then: Record, now: Record) -> str | None:
    """Why a series shows no move, as the run's own ratios have it: a stall hardly touches the median alone."""
    for record, when in ((then, "then"), (now, "now")):
        if record.label in _unsteady_labels(figure):
            return f"the series was {record.label} {when}"
    return None


def _unsteady_labels(figure: str) -> tuple[str, ...]:
    return ("drifting", "bimodal") if figure == "latency.p50" else ("stalled", "drifting", "bimodal")


def _ends(old: Figure, new: Figure) -> tuple[float, float] | None:
    if old.low is None or old.high is None or new.low is None or new.high is None or min(old.low, new.low) <= 0:
        return None
    return new.low / old.high, new.high / old.low


def _said(ratio: float, ends: tuple[float, float]) -> str:
    return f"{ratio:.3f} of what it was ({ends[0]:.3f}–{ends[1]:.3f})"
