"""Is the new run worse than the base?  One reason a configuration, judged by intervals.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.core.record import Figure
from assay.core.verdict import Reason, Verdict, combine
from assay.judge.compare_runs import Cell, Comparison, Line

MARGIN = 0.05
SLOWER, WORSE = "regression.speed", "regression.accuracy"


@dataclass(frozen=True)
class Drop:
    """A paired drop in accuracy, positive when the new run is worse."""

    title: str
    figure: Figure
    record: str | None = None


def judge_regression(comparison: Comparison, drops: Sequence[Drop], margin: float = MARGIN) -> Verdict:
    """Failed: the whole interval of new / base lies below 1 − ``margin``, or of a paired drop above 0.

    A configuration that the new run lost, or that was not measured alike, is ``not_shown``: it cannot be
    said that nothing regressed.  One that the base has no figure of is listed as not checked.  One whose interval
    reaches 1 − ``margin`` passes, and its text has the interval.  Without intervals the point decides, and that is
    said.  Best batch sizes are compared where batch sizes may differ, so that there are no other lines.
    """
    lines = [line for line in comparison.lines if not line.best] or comparison.lines
    reasons = [_line_reason(line, comparison, margin) for line in lines]
    found = [r for r in reasons if r is not None]
    found += [_drop_reason(drop) for drop in drops]
    not_checked = list(dict.fromkeys(text for line in lines if (text := _unjudged(line, comparison)) is not None))
    if not drops:
        not_checked.append("accuracy: no predictions of both runs could be paired")
    return combine(found, not_checked)


def _line_reason(line: Line, comparison: Comparison, margin: float) -> Reason | None:
    base = line.cells[comparison.base]
    if base is None or base.case.value is None:
        return None
    title = _title(line)
    cell = line.cells[1 - comparison.base]
    if cell is None:
        return Reason(SLOWER, "not_shown", f"{title}: the new run does not have it", base.case.record.id)
    return _ratio_reason(title, cell, margin)


def _unjudged(line: Line, comparison: Comparison) -> str | None:
    """Why there is nothing to hold the new run against."""
    base = line.cells[comparison.base]
    if base is None:
        return f"{line.title}: the base has no such configuration"
    if base.case.value is None:
        return f"{_title(line)}: the base has no figure: {base.case.figure.reason or 'withheld'}"
    return None


def _title(line: Line) -> str:
    return line.title + (f", batch {line.batch}" if line.batch is not None else "")


def _ratio_reason(title: str, cell: Cell, margin: float) -> Reason:
    ratio, record = cell.ratio, cell.case.record.id
    about = f" ({', '.join(cell.notes)})" if cell.notes else ""
    if ratio is None or ratio.value is None:
        why = ratio.reason if ratio is not None else "there is no ratio"
        return Reason(SLOWER, "not_shown", f"{title}: {why}", record)
    limit = 1 - margin
    if ratio.high is None or ratio.low is None:
        state = "failed" if ratio.value < limit else "passed"
        text = f"{title}: {ratio.value:.3g}× the base, limit {limit:.3g}×, by the point: there is no interval{about}"
        return Reason(SLOWER, state, text, record)
    text = f"{title}: {ratio.value:.3g}× the base ({ratio.low:.3g} to {ratio.high:.3g}), limit {limit:.3g}×{about}"
    return Reason(SLOWER, "failed" if ratio.high < limit else "passed", text, record)


def _drop_reason(drop: Drop) -> Reason:
    figure = drop.figure
    if figure.value is None:
        return Reason(WORSE, "not_shown", f"{drop.title}: {figure.reason}", drop.record)
    text = f"{drop.title}: {100 * figure.value:.2f} points lost"
    if figure.low is None or figure.high is None:
        return Reason(WORSE, "failed" if figure.value > 0 else "passed", text, drop.record)
    text += f" ({100 * figure.low:.2f} to {100 * figure.high:.2f})"
    return Reason(WORSE, "failed" if figure.low > 0 else "passed", text, drop.record)
