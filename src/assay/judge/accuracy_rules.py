"""Accuracy rules judged on evaluations that were not paired sample by sample, such as imported ones.  Pure.

Two aggregates do not say on which samples they differ, so the interval is that of independent proportions
(Newcombe, Statistics in Medicine 17 (1998), method 10: Wilson's intervals squared and added), which is
wider than a paired one.  A published figure without a sample size counts as exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from assay.core.record import Figure, Record
from assay.core.stats import Interval, wilson
from assay.core.units import format_percent
from assay.core.verdict import Reason, Verdict, combine
from assay.judge.accuracy import FRACTIONS
from assay.judge.accuracy_rule import PUBLISHED, AccuracyDrop
from assay.judge.limits import Limit, check

CONFIDENCE = 0.95
_SPEEDS = ("measure", "confirm")


def judge_accuracies(records: Sequence[Record], rules: Sequence[AccuracyDrop]) -> Verdict:
    """One reason a rule, model, device and batch size.  What has a speed but no accuracy is listed as not checked."""
    reasons: list[Reason] = []
    unchecked: list[str] = []
    for rule in rules:
        mine = _subjects(rule, records)
        reasons += [_judge(rule, record, records) for record in mine]
        unchecked += _unscored(rule, mine, records)
        if not mine:
            where = f" on {rule.device}" if rule.device else ""
            reasons.append(Reason(rule.name, "not_shown", f"no {rule.figure} was evaluated{where}"))
    return combine(reasons, list(dict.fromkeys(unchecked)))


def _device(record: Record) -> str | None:
    found = record.subject.get("device_name") or record.subject.get("device")
    return None if found is None else str(found)


def _subjects(rule: AccuracyDrop, records: Sequence[Record]) -> list[Record]:
    """Evaluations the rule is about, the later of two of one candidate, device and batch size."""
    found: dict[tuple[object, ...], Record] = {}
    for record in records:
        device = _device(record)
        if record.kind != "evaluate" or record.conditions.get("published") or rule.figure not in record.figures:
            continue
        if device != rule.over and rule.device in (None, device):
            subject, batch = record.subject, record.conditions.get("batch")
            found[(subject.get("model"), subject.get("candidate"), device, batch)] = record
    return list(found.values())


def _judge(rule: AccuracyDrop, record: Record, records: Sequence[Record]) -> Reason:
    batch = record.conditions.get("batch")
    who = f"{record.subject.get('model')} on {_device(record)}" + (f", batch {batch}" if batch is not None else "")
    if not record.conditions.get("imported"):
        who += f", {record.subject.get('engine')} {record.subject.get('precision')}"
    other, how = _reference(rule, record, records)
    if other is None:
        return Reason(rule.name, "not_shown", f"{who}: {how}", record.id)
    mine, theirs = record.figures[rule.figure], other.figures[rule.figure]
    if mine.value is None or theirs.value is None:
        return Reason(rule.name, "not_shown", f"{who}: {mine.reason or theirs.reason}", record.id)
    drop = _drop(mine, theirs, rule)
    if drop.value is None:
        return Reason(rule.name, "not_shown", f"{who}: {drop.reason}", record.id)
    write = _writer(mine)
    show = format_percent if rule.kind == "relative" else _points if write is format_percent else write
    state, text = check(Limit(rule.name, rule.max_drop, show, judge_by=rule.judge_by), drop)
    kind = "" if rule.kind == "absolute" else f" of {rule.over}'s value"
    values = f"{write(mine.value)} against {write(theirs.value)}"
    said = (
        ""
        if drop.low is None or drop.high is None or rule.judge_by == "interval"
        else (f", unpaired 95 % interval {show(drop.low)} to {show(drop.high)}")
    )
    return Reason(rule.name, state, f"{who}: drop {text}{kind}{said}: {values}, {how}", record.id)


def _writer(figure: Figure) -> Callable[[float], str]:
    """How a value in the figure's unit is written."""
    return format_percent if figure.unit in FRACTIONS else lambda value: f"{value:.4g} {figure.unit}".rstrip()


def _points(fraction: float) -> str:
    """Of a metric in percent."""
    return f"{100 * fraction:.2f} points"


def _reference(rule: AccuracyDrop, record: Record, records: Sequence[Record]) -> tuple[Record | None, str]:
    """What the record is held against and how it was found; or None and why there is none."""
    others = [r for r in records if r.kind == "evaluate" and rule.figure in r.figures and r is not record]
    if rule.over == PUBLISHED:
        return _published(record, [r for r in others if r.conditions.get("published")])
    same = [r for r in others if _device(r) == rule.over and r.subject.get("model") == record.subject.get("model")]
    alike = [r for r in same if r.conditions.get("batch") == record.conditions.get("batch")] or same
    if not alike:
        return None, f"there is no {rule.figure} of {rule.over} for this model"
    return alike[-1], f"{rule.over}'s at batch {alike[-1].conditions.get('batch')}"


def _published(record: Record, published: Sequence[Record]) -> tuple[Record | None, str]:
    """The published figure of the model's name, else the only one that the same document quotes."""
    named = [r for r in published if _plain(r.subject.get("model")) == _plain(record.subject.get("model"))]
    if named:
        return named[-1], f"published for {named[-1].subject.get('model')}"
    file = _file(record)
    quoted = [r for r in published if file is not None and _file(r) == file]
    models = {r.subject.get("model") for r in quoted}
    if len(models) == 1:
        return quoted[-1], f"published for {models.pop()}, the only figure the same document quotes"
    if models:
        return None, f"the document quotes published figures of {len(models)} models, none of this name"
    return None, "no published figure is known: import the table that has it"


def _file(record: Record) -> str | None:
    log = record.conditions.get("source_log")
    return str(log["sha256"]) if isinstance(log, dict) and log.get("sha256") else None


def _plain(name: object) -> str:
    return "".join(c for c in str(name).lower() if c.isalnum())


def _drop(mine: Figure, theirs: Figure, rule: AccuracyDrop) -> Figure:
    """theirs − mine, positive when worse; errors count the other way round."""
    assert mine.value is not None and theirs.value is not None
    sign = -1.0 if rule.figure.startswith("error") else 1.0
    scale = 1.0 if rule.kind == "absolute" else abs(theirs.value)
    if not scale:
        return Figure(None, "fraction", reason=f"{rule.over}'s figure is zero, so there is no relative drop")
    found = _difference(theirs, mine) if sign > 0 else _difference(mine, theirs)
    low, high = (None if end is None else end / scale for end in (found.low, found.high))
    return Figure(found.value / scale, "fraction", low, high, CONFIDENCE if low is not None else None, mine.n)


def _difference(a: Figure, b: Figure) -> Interval:
    """a − b with Newcombe's interval, where at least one says on how many samples it rests."""
    assert a.value is not None and b.value is not None
    n = min((f.n for f in (a, b) if f.n), default=0)
    value = a.value - b.value
    if not n or not all(0 <= f.value <= 1 for f in (a, b) if f.value is not None):
        return Interval(value, None, None, CONFIDENCE, n)
    first, second = _proportion(a), _proportion(b)
    down = math.hypot(a.value - first[0], second[1] - b.value)
    up = math.hypot(first[1] - a.value, b.value - second[0])
    return Interval(value, value - down, value + up, CONFIDENCE, n)


def _proportion(figure: Figure) -> tuple[float, float]:
    assert figure.value is not None
    if not figure.n:
        return figure.value, figure.value
    found = wilson(round(figure.value * figure.n), figure.n, CONFIDENCE)
    assert found.low is not None and found.high is not None
    return min(found.low, figure.value), max(found.high, figure.value)


def _unscored(rule: AccuracyDrop, mine: Sequence[Record], records: Sequence[Record]) -> list[str]:
    """Batch sizes of a judged model and device that have a speed and no accuracy of their own."""
    found = []
    for model, device in dict.fromkeys((r.subject.get("model"), _device(r)) for r in mine):
        scored = {r.conditions.get("batch") for r in mine if (r.subject.get("model"), _device(r)) == (model, device)}
        speeds = {
            r.conditions.get("batch")
            for r in records
            if r.kind in _SPEEDS and (r.subject.get("model"), _device(r)) == (model, device)
        }
        left = sorted(b for b in speeds - scored if isinstance(b, int))
        if left and None not in scored:
            found.append(f"{rule.figure} of {model} on {device} at batch {', '.join(map(str, left))}")
    return found
