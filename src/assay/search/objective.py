"""What is searched for, in words: ``throughput``, ``latency``, ``throughput where p99 < 15ms and drop < 0.5%``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from assay.core.errors import BadInput, UnknownName
from assay.core.units import format_bytes, format_percent, format_rate, format_seconds, parse_bytes, parse_seconds

FIGURES = {
    "throughput": "throughput",
    "latency": "latency.p50",
    "p50": "latency.p50",
    "p90": "latency.p90",
    "p99": "latency.p99",
    "mean": "latency.mean",
    "memory": "memory.peak",
    "drop": "accuracy.drop",
}
"""The words and the figures of a Record they mean."""

EXAMPLE = '--objective "throughput where p99 < 15ms and drop < 0.5%"'
_LIMIT = re.compile(r"^\s*([A-Za-z][\w.]*)\s*(<=|>=|<|>|≤|≥)\s*(.+?)\s*$")
_PLAIN = re.compile(r"^[0-9.eE+-]+$")


@dataclass(frozen=True)
class Limit:
    """``figure`` may be at most ``value`` (``upper``) or must be at least that; seconds, bytes, samples/s, fraction."""

    figure: str
    value: float
    upper: bool
    text: str

    def broken_by(self, value: float) -> bool:
        return value > self.value if self.upper else value < self.value


@dataclass(frozen=True)
class Objective:
    """``figure`` is made as large (``maximize``) or as small as it gets, while every limit holds."""

    figure: str
    maximize: bool
    limits: tuple[Limit, ...] = ()
    text: str = ""

    @property
    def scenario(self) -> str:
        """Rates are measured with every stream busy; a latency is that of one caller."""
        return "offline" if self.figure == "throughput" else "latency"

    def gain(self, value: float, other: float) -> float:
        """How many times as good ``value`` is as ``other``; above 1 is better.  Both are above zero."""
        return value / other if self.maximize else other / value

    def limit(self, figure: str) -> Limit | None:
        """The tightest limit on ``figure``, None without one."""
        own = [limit for limit in self.limits if limit.figure == figure]
        return min(own, key=lambda limit: limit.value if limit.upper else -limit.value) if own else None


def parse_objective(text: str) -> Objective:
    """``"FIGURE [where LIMIT and LIMIT …]"`` -> Objective.

    Raises BadInput (UnknownName for a word that is not known, with near ones) and says the corrected form.
    """
    words = " ".join(text.split())
    if not words:
        raise BadInput("the objective is empty", remedy=EXAMPLE)
    head, where, tail = _halves(words)
    figure = _figure(head)
    if figure == "accuracy.drop":
        raise BadInput(
            "a drop is something to limit, not to search by", remedy='--objective "throughput where drop < 0.5%"'
        )
    if where and not tail:
        raise BadInput(f"nothing stands after 'where' in {words!r}", remedy=EXAMPLE)
    limits = tuple(_limit(part) for part in re.split(r"\s+and\s+|\s*,\s*", tail)) if tail else ()
    return Objective(figure, figure == "throughput", limits, words)


def with_drop(objective: Objective, max_drop: float | None) -> Objective:
    """``objective`` with "and the drop is at most ``max_drop``" (a fraction; None: as it is)."""
    if max_drop is None:
        return objective
    limit = Limit("accuracy.drop", max_drop, True, f"drop <= {format_percent(max_drop)}")
    joint = "and" if objective.limits else "where"
    return replace(objective, limits=(*objective.limits, limit), text=f"{objective.text} {joint} {limit.text}")


def _halves(words: str) -> tuple[str, str, str]:
    found = re.search(r"\bwhere\b", words, re.IGNORECASE)
    if found is None:
        return words, "", ""
    return words[: found.start()].strip(), "where", words[found.end() :].strip()


def _figure(text: str) -> str:
    """The objective's own word; ``maximize`` and ``minimize`` before it must fit it."""
    verb, _, rest = text.partition(" ")
    given = verb.lower() if verb.lower() in ("maximize", "minimize", "max", "min") else ""
    name = (rest if given else text).strip().lower()
    if any(sign in name for sign in "<>≤≥"):
        raise BadInput(
            f"{text!r} is a limit; say what to search for before it", remedy=f'--objective "throughput where {name}"'
        )
    if " " in name:
        raise BadInput(f"{text!r} is not one word to search by; limits follow after 'where'", remedy=EXAMPLE)
    figure = _known(name)
    if given and given.startswith("max") != (figure == "throughput"):
        right = "maximized" if figure == "throughput" else "minimized"
        raise BadInput(f"{name} is {right}", remedy=f"--objective {name}")
    return figure


def _known(name: str) -> str:
    plain = name.removeprefix("latency.") if name != "latency" else name
    if plain not in FIGURES:
        raise UnknownName("figure", name, FIGURES)
    return FIGURES[plain]


def _limit(part: str) -> Limit:
    found = _LIMIT.match(part)
    if found is None:
        name = part.split()[0] if part.split() else ""
        known = name.lower() in FIGURES
        what = f"{name} < {_SAMPLE[FIGURES[name.lower()]]}" if known else "p99 < 15ms"
        raise BadInput(f"{part!r} is not a limit", remedy=f'write it as "{what}"')
    name, sign, quantity = found[1].lower(), found[2], found[3]
    figure = _known(name)
    upper = sign in ("<", "<=", "≤")
    if upper == (figure == "throughput"):
        right = ">" if figure == "throughput" else "<"
        raise BadInput(f"{part.strip()!r}: {name} is limited the other way", remedy=f'"{name} {right} {quantity}"')
    return Limit(figure, _value(figure, name, quantity), upper, f"{name} {sign} {quantity}")


def _value(figure: str, name: str, quantity: str) -> float:
    read, sample = _READ[figure.partition(".")[0]], _SAMPLE[figure]
    plain = bool(_PLAIN.match(quantity))
    if plain and figure.startswith(("latency", "memory")):
        unit = re.sub(r"[0-9.]+", "", sample)
        raise BadInput(f"{name} {quantity}: the unit is missing", remedy=f'"{name} < {quantity}{unit}"')
    try:
        value = read(quantity)
    except ValueError:
        raise BadInput(f"{quantity!r} is no value for {name}", remedy=f"such as {sample}") from None
    if not math.isfinite(value):
        raise BadInput(f"{quantity!r} is no value for {name}", remedy=f"such as {sample}")
    if value < 0 or (value == 0 and figure != "accuracy.drop"):
        raise BadInput(f"a limit on {name} is above zero, not {quantity}", remedy=f"such as {sample}")
    return value


def _rate(text: str) -> float:
    return float(re.sub(r"\s*(samples|images)?/s$", "", text))


def _share(text: str) -> float:
    value = float(text.removesuffix("%").strip()) / (100 if text.endswith("%") else 1)
    if value >= 1:
        raise ValueError("a drop of everything")
    return value


def show(figure: str, value: float) -> str:
    """The value with its unit, for people."""
    return _SHOW[figure.partition(".")[0]](value)


_READ: dict[str, Callable[[str], float]] = {
    "throughput": _rate,
    "latency": parse_seconds,
    "memory": parse_bytes,
    "accuracy": _share,
}
_SHOW: dict[str, Callable[[float], str]] = {
    "throughput": lambda value: f"{format_rate(value)} samples/s",
    "latency": format_seconds,
    "memory": format_bytes,
    "accuracy": format_percent,
}
_SAMPLE = {
    "throughput": "100",
    "latency.p50": "15ms",
    "latency.p90": "15ms",
    "latency.p99": "15ms",
    "latency.mean": "15ms",
    "memory.peak": "1GiB",
    "accuracy.drop": "0.5%",
}
