"""Speed rules between devices, and what an answer to them hides.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from assay.core.errors import BadInput
from assay.core.verdict import Reason, Verdict, combine
from assay.judge.cases import DIE, Case
from assay.judge.compare_runs import Asked, Cell, Comparison, Line, compare
from assay.judge.limits import Limit, check
from assay.judge.ratio_policy import SpeedRatio

CLAIMED = "rests on a table's figure without a log"


def judge_devices(cases: Sequence[Case], rules: Sequence[SpeedRatio]) -> Verdict:
    """One reason a rule and model.  A model is judged when it was measured on at least two of the devices
    that the rules name; one of them missing then makes the rule ``not_shown``.  Others are listed.

    Raises BadInput where there is no rule.
    """
    if not rules:
        raise BadInput("the policy has no rule between devices", remedy="add a [[speed_ratio]] table")
    named = {name for rule in rules for name in (rule.device, rule.over)}
    models: dict[str | None, set[str]] = {}
    for case in cases:
        if case.device in named and case.value is not None:
            models.setdefault(case.model, set()).add(str(case.device))
    judged = [model for model, devices in models.items() if len(devices) > 1]
    reasons = [_judge(rule, model, cases) for rule in rules for model in judged]
    if not judged:
        missing = ", ".join(sorted(named))
        reasons = [Reason(rule.name, "not_shown", f"no model was measured on two of {missing}") for rule in rules]
    left = [str(model) for model, devices in models.items() if len(devices) == 1]
    text = f"measured on one of the devices alone: {', '.join(left)}"
    return combine(reasons, [text] if left else [])


def _judge(rule: SpeedRatio, model: str | None, cases: Sequence[Case]) -> Reason:
    mine = [c for c in cases if c.model in (model, None) and c.device in (rule.device, rule.over)]
    for name in (rule.device, rule.over):
        if not any(c.device == name and c.value is not None for c in mine):
            return Reason(rule.name, "not_shown", f"{model}: there are no figures of {name}")
    found = compare(_whole(mine), Asked(columns=("device",), allow=frozenset(rule.allow), base=rule.over))
    place = 1 - found.base
    lines = _lines(found, place)
    if not any(_cell(line, place) for line in lines):
        why = "; ".join(found.refused) or "they have no batch size in common"
        return Reason(rule.name, "not_shown", f"{model}: {rule.device} and {rule.over} cannot be compared: {why}")
    each = [line for line in lines if not line.best]
    if rule.batch == "every":
        return _every(rule, model, each, place)
    line = _wanted(rule, lines, place)
    cell = _cell(line, place) if line is not None else None
    if line is None or cell is None:
        where = "at several batch sizes, so that there is a best" if rule.batch == "best" else f"at batch {rule.batch}"
        return Reason(rule.name, "not_shown", f"{model}: not both were measured {where}")
    state, text = _check(rule, cell)
    if state == "passed" and _claimed(line):
        state, text = "not_shown", f"{text}; {CLAIMED}"
    hidden = _hidden(rule, [x for x in each if x.batch != line.batch], place)
    return Reason(rule.name, state, f"{model}: {text}{_rests(line, found.base, place)}{hidden}", cell.case.record.id)


def _whole(cases: Sequence[Case]) -> list[Case]:
    """One die of several is left out where figures of the whole card are there."""
    cards = {c.device for c in cases if c.scope != DIE and c.value is not None}
    return [c for c in cases if c.scope != DIE or c.device not in cards]


def _lines(found: Comparison, place: int) -> list[Line]:
    """The lines of the configuration in which most batch sizes can be compared."""
    groups: dict[str, list[Line]] = {}
    for line in found.lines:
        groups.setdefault(line.title, []).append(line)
    return max(groups.values(), key=lambda lines: sum(_cell(line, place) is not None for line in lines), default=[])


def _wanted(rule: SpeedRatio, lines: Sequence[Line], place: int) -> Line | None:
    """The line of the best batch sizes (of the tables' best, where not both have logs), or the only one there is;
    else the one at the rule's batch size."""
    if rule.batch == "best":
        found = [x for x in lines if x.best]
        both = [x for x in found if _cell(x, place) is not None]
        return next(iter([*both, *found]), lines[0] if len(lines) == 1 else None)
    return next((x for x in lines if not x.best and x.batch == rule.batch), None)


def _cell(line: Line, place: int) -> Cell | None:
    cell = line.cells[place]
    return cell if cell is not None and cell.ratio is not None and cell.ratio.value is not None else None


def _why(line: Line, place: int) -> str:
    cell = line.cells[place]
    return (cell.ratio.reason if cell is not None and cell.ratio is not None else None) or "one of the two is missing"


def _claimed(line: Line) -> bool:
    return any(cell is not None and cell.case.claimed for cell in line.cells)


def _check(rule: SpeedRatio, cell: Cell) -> tuple[str, str]:
    assert cell.ratio is not None
    return check(Limit(rule.name, rule.at_least, _times, upper=False, judge_by=rule.judge_by), cell.ratio)


def _every(rule: SpeedRatio, model: str | None, lines: Sequence[Line], place: int) -> Reason:
    """The rule at each batch size: the worst state counts, a batch size that one of the two lacks is named."""
    if not lines:  # the rule lets batch sizes differ
        text = f"{model}: no batch size stands for itself where batch sizes may differ"
        return Reason(rule.name, "not_shown", text)
    states: dict[str, list[str]] = {}
    record = None
    for line in lines:
        cell = _cell(line, place)
        if cell is None:
            states.setdefault("not_shown", []).append(f"batch {line.batch}: {_why(line, place)}")
            continue
        state, text = _check(rule, cell)
        short = f"batch {line.batch} {text.partition(',')[0]}"
        if state == "passed" and _claimed(line):
            state, short = "not_shown", f"{short} ({CLAIMED})"
        states.setdefault(state, []).append(short)
        record = record or cell.case.record.id
    worst = next(s for s in ("failed", "not_shown", "passed") if s in states)
    text = f"{model}: limit {_times(rule.at_least)} at every batch size; " + ", ".join(states[worst])
    return Reason(rule.name, worst, text, record)


def _rests(line: Line, base: int, place: int) -> str:
    """Both figures with their batch sizes, and all that must be said of them."""
    parts = []
    for cell in (line.cells[place], line.cells[base]):
        if cell is not None:
            about = [f"batch {cell.case.batch}", *cell.notes]
            parts.append(f"{cell.case.device} {cell.case.value:,.6g} ({', '.join(about)})")
    return f": {' over '.join(parts)}"


def _hidden(rule: SpeedRatio, lines: Sequence[Line], place: int) -> str:
    """Where the same ratio falls short at other batch sizes."""
    short, slower = [], []
    for line in lines:
        cell = _cell(line, place)
        value = cell.ratio.value if cell is not None and cell.ratio is not None else None
        if value is not None and value < 1:
            slower.append(f"batch {line.batch} ({_times(value)})")
        elif value is not None and value < rule.at_least:
            short.append(f"batch {line.batch} ({_times(value)})")
    said = [f"{rule.device} is slower than {rule.over} at {', '.join(slower)}"] if slower else []
    said += [f"it falls short of {_times(rule.at_least)} at {', '.join(short)}"] if short else []
    return f". What this hides: {'; '.join(said)}" if said else ""


def _times(value: float) -> str:
    return f"{value:.4g}×"
