"""Figures derived from two Records: never from unlike conditions unless told so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from assay.core.disturbance import cores_taken, disturbance
from assay.core.record import Figure, Record, withheld
from assay.core.stats import Interval, ratio_interval
from assay.judge.evidence import why_missing

CONDITIONS = ("scenario", "batch", "data", "real_data", "sizes")
ENVIRONMENT = ("cpu", "cores_granted", "governor", "thread_env", "cpu_flags")

UNSTEADY = ("drifting", "bimodal")
"""Labels of a series whose middle is not the same all along; see docs/statistics.md."""


MOST_TAKEN = 0.5
"""Core-seconds a second that others may have had; with more, the bracket would say next to nothing."""


def speedup(record: Record, baseline: Record, figure: str = "throughput", *, allow_unlike: bool = False) -> Figure:
    """How many times as fast ``record`` is as ``baseline``, with an interval; above 1 is faster.

    For rates that is record / baseline, for times (unit ``s``) baseline / record.  Withheld, with the
    reason, when either Record has no such figure, or when the two were not measured alike (scenario,
    batch, data, machine, threads): every difference is named.  A ratio over a baseline whose series was
    not stable says so in its ``reason``, and so does one of a measurement that others disturbed: its interval
    reaches to what it would be without them (see ``bracketed``), and it is withheld where they took too much.
    """
    differing = unlike(record, baseline)
    if differing and not allow_unlike:
        return withheld("ratio", f"not measured alike: {'; '.join(differing)}")
    for one, name in ((record, "this record"), (baseline, "the baseline")):
        if reason := _missing(one, figure):
            return withheld("ratio", f"{name} has no {figure}: {reason}")
    for one, name in ((record, "this series"), (baseline, "the baseline's series")):
        if one.label == "stalled":
            return withheld("ratio", f"{name} stalled: a ratio of the two would be one of the stall")
        if one.label == "underpowered" and one.figures[figure].low is None:
            return withheld("ratio", f"{name} is too short for an interval: a ratio of the two could be of any size")
        if cores_taken(one.warnings) > MOST_TAKEN:
            return withheld("ratio", f"{name} was disturbed, and how fast it is alone is not known: {_others(one)}")
    a, b = record.figures[figure], baseline.figures[figure]
    if a.unit != b.unit:
        return withheld("ratio", f"{figure} is in {a.unit} here and in {b.unit} in the baseline")
    top, bottom = (b, a) if a.unit == "s" else (a, b)
    ratio = ratio_interval(_interval(top), _interval(bottom))
    reasons = [f"unlike conditions: {'; '.join(differing)}"] if differing else []
    if baseline.label in UNSTEADY:
        reasons.append(f"over a series that was {baseline.label}: the baseline may be faster or slower than measured")
    reasons += disturbed(record, baseline)
    why = "; ".join(reasons) or None
    found = Figure(ratio.value, "ratio", ratio.low, ratio.high, ratio.confidence, ratio.n, why)
    return bracketed(found, record, baseline)


def disturbed(record: Record, baseline: Record) -> list[str]:
    """Which of the two others disturbed, in words."""
    return [
        f"{name} was disturbed, the interval allows for it: {_others(one)}"
        for one, name in ((record, "this series"), (baseline, "the baseline's series"))
        if disturbance(one.warnings)
    ]


def bracketed(ratio: Figure, record: Record, baseline: Record) -> Figure:
    """``ratio`` with its interval reaching to what it would be, had nobody disturbed either measurement.

    At worst a call's threads wait for each other, so that every moment another process has one of the cores holds
    all of them up: with ``s`` core-seconds a second taken, the undisturbed rate is at most 1 / (1 - s) times the
    one measured.  A baseline so disturbed may lower the ratio to 1 - s of its low end, this series raise the high one.
    """
    mine, theirs = cores_taken(record.warnings), cores_taken(baseline.warnings)
    if ratio.value is None or not (mine or theirs):
        return ratio
    low = ratio.value if ratio.low is None else ratio.low
    high = ratio.value if ratio.high is None else ratio.high
    return replace(ratio, low=low * (1 - theirs), high=high / (1 - mine), confidence=None)


def _others(record: Record) -> str:
    return str(disturbance(record.warnings)).partition(";")[0]


def unlike(record: Record, other: Record) -> list[str]:
    """What differs between two Records' conditions and machines, in words; empty when they are alike."""
    device = _differences(record.subject, other.subject, ("device", "device_name"))
    conditions = _differences(record.conditions, other.conditions, CONDITIONS)
    return conditions + device + _differences(record.environment, other.environment, ENVIRONMENT)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [f"{n} is {a.get(n)!r} here and {b.get(n)!r} there" for n in names if _plain(a.get(n)) != _plain(b.get(n))]


def _plain(value: Any) -> Any:
    """A tuple becomes a list when a Record is read back."""
    return list(value) if isinstance(value, tuple) else value


def _missing(record: Record, name: str) -> str | None:
    value = record.value(name)
    if record.status != "ok" or value is None:
        return why_missing(record, name)
    return None if value > 0 else f"it is {value:g}"


def _interval(figure: Figure) -> Interval:
    assert figure.value is not None
    return Interval(figure.value, figure.low, figure.high, figure.confidence or 0.95, figure.n or 0)
