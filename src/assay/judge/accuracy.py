"""What an evaluation shows: the drop against the reference, or why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assay.core.record import Figure, Record
from assay.core.units import format_percent
from assay.core.verdict import Reason
from assay.judge.evidence import latest
from assay.judge.limits import Limit, check
from assay.judge.policy import AccuracyPolicy

LIMIT = "accuracy.drop"
FRACTIONS = ("fraction", "ratio")
Judged = tuple[tuple[Reason, ...], tuple[str, ...]]


def judge_accuracy(own: Sequence[Record], everything: Sequence[Record], policy: AccuracyPolicy) -> Judged:
    """(reasons, not checked).  ``own`` are the candidate's Records; the reference's are among ``everything``."""
    record = latest(own, "evaluate")
    if record is not None and record.status == "failed":
        return (Reason(LIMIT, "failed", f"the evaluation failed: {record.reason}", record.id),), ()
    missing = _missing(record)
    if missing or record is None:
        return _without(missing or "", record, policy)
    if failed := (record.details.get("counts") or {}).get("failed", 0):
        return (Reason(LIMIT, "not_shown", f"{failed} samples could not be scored", record.id),), ()
    if record.details.get("reference"):
        scope, unseen = _scope(record)
        return (Reason(LIMIT, "passed", f"it is the reference itself{scope}", record.id),), unseen
    drop = drop_of(record, everything)
    if drop.value is None:
        return _without(drop.reason or "it could not be compared with the reference's", record, policy)
    if policy.max_drop is None:
        return (), ()
    drop, how = _in_kind(drop, record, everything, policy)
    if drop.value is None:
        return _without(drop.reason or "", record, policy)
    state, text = check(Limit(LIMIT, policy.max_drop, format_percent, judge_by=policy.judge_by), drop)
    what = "change of the metric" if record.details.get("higher_is_better", True) is None else "accuracy drop"
    scope, unseen = _scope(record)
    return (Reason(LIMIT, state, f"{what}{how} {text}{scope}", record.id),), unseen


def _scope(record: Record) -> tuple[str, tuple[str, ...]]:
    """On which samples, in words, and the samples that were left out."""
    used, available = record.conditions.get("samples"), record.conditions.get("available")
    if not used:
        return "", ()
    if available and available > used:
        left = f"accuracy on the other {available - used} samples of {record.conditions.get('data')}"
        return f", on {used} of {available} samples of {record.conditions.get('data')}", (left,)
    return f", on {used} samples of {record.conditions.get('data')}", ()


def _missing(record: Record | None) -> str | None:
    if record is None:
        return "no evaluation was made"
    if record.status != "ok":
        return str(record.reason)
    if record.conditions.get("synthetic"):
        return "synthetic data say nothing about accuracy"
    return None


def _without(reason: str, record: Record | None, policy: AccuracyPolicy) -> Judged:
    """No accuracy: a limit that could not be shown when it was required, else a line in the list."""
    if policy.required:
        return (Reason(LIMIT, "not_shown", f"accuracy: {reason}", None if record is None else record.id),), ()
    return (), (f"accuracy: {reason}",)


def drop_of(record: Record, everything: Sequence[Record]) -> Figure:
    """What is judged as the drop of an evaluation: the paired one where the task gave one, else the plain difference
    of the primary figures, without an interval; where nobody said which way is good, the size of that difference.
    Withheld where the reference was not evaluated on the same data.  ``everything`` holds the reference's Records."""
    paired = record.figures.get(LIMIT)
    if paired is not None and paired.value is not None:
        return paired
    mine, theirs = _primary(record), _primary(_reference(record, everything))
    if mine is None or theirs is None or mine.value is None or theirs.value is None:
        reason = paired.reason if paired is not None else "no drop and no figure of the reference on the same data"
        return Figure(None, "fraction", reason=reason)
    better = record.details.get("higher_is_better", True)
    change = theirs.value - mine.value
    if better is None:
        return Figure(abs(change), mine.unit, n=mine.n)
    return Figure(change if better else -change, mine.unit, n=mine.n)


def _reference(record: Record, everything: Sequence[Record]) -> Record | None:
    """The reference's evaluation on the same data."""
    alike = ("data", "samples", "identity", "digest", "task")
    for other in reversed(everything):
        is_reference = other.kind == "evaluate" and other.status == "ok" and other.details.get("reference")
        if is_reference and all(other.conditions.get(k) == record.conditions.get(k) for k in alike):
            return other
    return None


def _primary(record: Record | None) -> Figure | None:
    name = record.primary() if record is not None else None
    return record.figures[name] if record is not None and name is not None else None


def _in_kind(drop: Figure, record: Record, everything: Sequence[Record], policy: AccuracyPolicy) -> tuple[Figure, str]:
    """The drop as the policy counts it.  A metric that is no fraction (dB) is always counted relatively."""
    if policy.kind == "absolute" and drop.unit in FRACTIONS:
        return drop, ""
    mine, theirs = _primary(record), _primary(_reference(record, everything))
    assert drop.value is not None
    base = theirs.value if theirs is not None else None
    if base is None and mine is not None and mine.value is not None:
        base = mine.value + drop.value
    if not base:
        return Figure(None, "fraction", reason="the reference's own figure is not known, so no relative drop"), ""
    size = abs(base)
    low, high = (None if end is None else end / size for end in (drop.low, drop.high))
    return replace(drop, value=drop.value / size, unit="fraction", low=low, high=high), " relative to the reference"
