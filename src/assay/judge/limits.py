"""One figure against one limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from assay.core.record import Figure


@dataclass(frozen=True)
class Limit:
    """``upper``: the figure may be at most ``value``; else at least.  ``show`` formats for people."""

    name: str
    value: float
    show: Callable[[float], str]
    upper: bool = True
    judge_by: str = "point"


def check(limit: Limit, figure: Figure) -> tuple[str, str]:
    """(state, text).  By interval, all of it must meet the limit; a limit inside it is ``not_shown``.

    The figure has a value; whoever has none does not come here.
    """
    assert figure.value is not None
    text = f"{limit.show(figure.value)}, limit {limit.show(limit.value)}"
    if limit.judge_by == "point":
        return ("passed" if _meets(figure.value, limit) else "failed"), text
    if figure.low is None or figure.high is None:
        return "not_shown", f"{text}; the policy judges by interval, and the sample is too small for one"
    level = "" if figure.confidence is None else f"{figure.confidence:.0%} "
    span = f"{level}interval {limit.show(figure.low)} to {limit.show(figure.high)}"
    text = f"{limit.show(figure.value)} ({span}), limit {limit.show(limit.value)}"
    met = {_meets(figure.low, limit), _meets(figure.high, limit)}
    if met == {True}:
        return "passed", text
    if met == {False}:
        return "failed", text
    return "not_shown", f"{text}: the interval holds the limit; measure longer"


def _meets(value: float, limit: Limit) -> bool:
    return value <= limit.value if limit.upper else value >= limit.value
