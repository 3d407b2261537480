"""The choice: the fastest configuration that passes, and why the others lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assay.core.engine import PRECISIONS, Candidate
from assay.core.record import Figure, Record
from assay.core.units import format_bytes, format_rate, format_seconds
from assay.core.verdict import Verdict
from assay.judge.accuracy import LIMIT as ACCURACY
from assay.judge.evidence import latest, of_candidate, speeds, throughputs, verified_batches, why_missing
from assay.judge.gate import judge
from assay.judge.policy import ObjectivePolicy, Policy
from assay.judge.tolerance import LIMIT as NUMERIC


@dataclass(frozen=True)
class Row:
    """One configuration in the ranking.  ``reason`` says why it won or lost."""

    candidate: str
    label: str
    batch: int | None
    state: str
    figure: Figure | None
    reason: str
    won: bool = False


@dataclass(frozen=True)
class Choice:
    """``candidate`` and ``batch`` are None when nothing may be chosen; ``rows`` are ranked, best first.

    ``state`` is the winner's: ``not_shown`` when no configuration passes every limit but one fails
    none of them and has its numbers and its accuracy in order (a longer run may show the rest).
    """

    candidate: str | None
    batch: int | None
    state: str
    objective: str
    rows: tuple[Row, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class _Entry:
    candidate: Candidate
    batch: int
    figure: Figure
    verdict: Verdict

    @property
    def value(self) -> float:
        assert self.figure.value is not None
        return self.figure.value


def choose(records: Sequence[Record], policy: Policy, candidates: Sequence[Candidate]) -> Choice:
    """Rank every candidate at every batch size measured, by the policy's objective.

    A candidate that failed a limit, or whose numbers or accuracy are not in order, never wins.
    Configurations whose intervals overlap the fastest one's are tied: the higher precision, then the
    simpler options, then the smaller batch is taken, and that is said.
    """
    lost: list[Row] = []
    entries: list[_Entry] = []
    for candidate in candidates:
        verdict = judge(candidate.digest, records, policy)
        own = of_candidate(records, candidate.digest)
        if reason := _barred(verdict):
            lost.append(Row(candidate.digest, candidate.label, None, verdict.state, None, reason))
            continue
        found, refused = _entries(candidate, own, policy.objective, verdict)
        entries += found
        lost += refused
    passing = [e for e in entries if e.verdict.passed]
    eligible = passing or entries
    ranked = sorted(eligible, key=lambda e: _rank(e, policy.objective))
    rows = _rows(ranked, policy.objective)
    if passing:
        shown = [e for e in entries if not e.verdict.passed]
        lost += [_row(e, f"not every limit could be shown: {_first(e.verdict)}") for e in shown]
    name = f"{'maximize' if policy.objective.maximize else 'minimize'} {policy.objective.figure}"
    winner = next((r for r in rows if r.won), None)
    every = (*rows, *lost)
    texts = tuple(f"{r.label}{f', batch {r.batch}' if r.batch else ''}: {r.reason}" for r in every)
    if winner is None:
        return Choice(None, None, "failed", name, every, texts or ("there are no candidates",))
    return Choice(winner.candidate, winner.batch, winner.state, name, every, texts)


def _barred(verdict: Verdict) -> str | None:
    """Why a candidate may not be chosen at all."""
    for reason in verdict.reasons:
        essential = reason.limit in (NUMERIC, ACCURACY)
        if reason.state == "failed" or (essential and reason.state != "passed"):
            return f"{reason.limit}: {reason.text}"
    return None


def _entries(
    candidate: Candidate, own: Sequence[Record], objective: ObjectivePolicy, verdict: Verdict
) -> tuple[list[_Entry], list[Row]]:
    verify = latest(own, "verify")
    compared = verified_batches(verify) if verify is not None else set()
    found, refused = [], []
    for batch, record in _measured(own, objective).items():
        figure = record.figures.get(objective.figure) if record.status == "ok" else None
        reason = None
        if figure is None or figure.value is None:
            reason = f"no {objective.figure}: {why_missing(record, objective.figure)}"
        elif batch not in compared:
            reason = f"its outputs were not compared at batch {batch}"
        if reason is None and figure is not None:
            found.append(_Entry(candidate, batch, figure, verdict))
        else:
            refused.append(Row(candidate.digest, candidate.label, batch, verdict.state, figure, str(reason)))
    if not found and not refused:
        reason = f"no {objective.figure} was measured"
        refused.append(Row(candidate.digest, candidate.label, objective.batch, verdict.state, None, reason))
    return found, refused


def _measured(own: Sequence[Record], objective: ObjectivePolicy) -> dict[int, Record]:
    if objective.figure == "throughput":
        found = throughputs(own)
    else:
        found = {batch: r for (scenario, batch), r in speeds(own).items() if scenario == "latency"}
    return {b: r for b, r in found.items() if objective.batch in (None, b)}


def _rank(entry: _Entry, objective: ObjectivePolicy) -> float:
    return -entry.value if objective.maximize else entry.value


def _rows(ranked: list[_Entry], objective: ObjectivePolicy) -> list[Row]:
    """Rows with the winner first, each with its reason."""
    if not ranked:
        return []
    top = ranked[0]
    tied = [e for e in ranked if _overlap(e.figure, top.figure)]
    winner = min(tied, key=lambda e: (_simplicity(e), _rank(e, objective)))
    show = _SHOW[objective.figure.partition(".")[0]]
    why, worse = ("the best", "larger") if objective.figure == "memory.peak" else ("the fastest", "slower")
    first = f"{why}: {show(winner.value)}"
    if winner is not top:
        label = f"{top.candidate.label}, batch {top.batch}"
        first = f"tied with {why} ({label}: {show(top.value)}, intervals overlap), and simpler: {show(winner.value)}"
    elif len(tied) > 1:
        first += f"; tied with {len(tied) - 1} more whose intervals overlap, and the simplest of them"
    rows = [_row(winner, first, won=True)]
    for entry in ranked:
        if entry is not winner:
            word = "tied, but less simple" if entry in tied else worse
            rows.append(_row(entry, f"{word}: {show(entry.value)} against {show(winner.value)}"))
    return rows


def _row(entry: _Entry, reason: str, won: bool = False) -> Row:
    c = entry.candidate
    return Row(c.digest, c.label, entry.batch, entry.verdict.state, entry.figure, reason, won)


def _simplicity(entry: _Entry) -> tuple[int, int, int]:
    """Higher precision, fewer options set by hand, smaller batch."""
    options = entry.candidate.options
    set_by_hand = sum(x is not None for x in (options.threads, options.streams))
    set_by_hand += (options.instances > 1) + len(options.provider_options)
    return PRECISIONS.index(options.precision), set_by_hand, entry.batch


def _overlap(a: Figure, b: Figure) -> bool:
    """Whether two intervals share a point; a figure without an interval is a point."""
    (a_low, a_high), (b_low, b_high) = _span(a), _span(b)
    return a_low <= b_high and b_low <= a_high


def _span(figure: Figure) -> tuple[float, float]:
    assert figure.value is not None
    low = figure.value if figure.low is None else figure.low
    return low, figure.value if figure.high is None else figure.high


def _first(verdict: Verdict) -> str:
    return next((f"{r.limit}: {r.text}" for r in verdict.reasons if r.state != "passed"), "")


def _samples(value: float) -> str:
    return f"{format_rate(value)} samples/s"


_SHOW = {"throughput": _samples, "latency": format_seconds, "memory": format_bytes}
