"""The verdict on a tuned configuration: the gate's limits, and those the objective names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assay.core.engine import Candidate
from assay.core.record import Record
from assay.core.verdict import Reason, Verdict, combine
from assay.judge.accuracy import LIMIT as ACCURACY
from assay.judge.evidence import why_missing
from assay.judge.gate import judge
from assay.judge.limits import Limit as JudgedLimit
from assay.judge.limits import check
from assay.judge.policy import AccuracyPolicy, Policy
from assay.judge.tolerance import LIMIT as NUMERIC
from assay.search.halving import Found
from assay.search.objective import Limit, Objective, show

DROP = "accuracy.drop"


def policy_for(policy: Policy, objective: Objective) -> Policy:
    """The run's policy; a drop that the objective names replaces its own and is required."""
    limit = objective.limit(DROP)
    if limit is None:
        return policy
    accuracy = replace(policy.accuracy, max_drop=limit.value, kind=AccuracyPolicy.kind, required=True)
    return replace(policy, accuracy=accuracy)


def essential_failure(candidate: Candidate, records: Sequence[Record], policy: Policy) -> str | None:
    """Why a configuration may not win at all: its numbers or accuracy are not in order, or it contradicts itself."""
    for reason in judge(candidate.digest, records, policy).reasons:
        essential = reason.limit in (NUMERIC, ACCURACY) or reason.limit.startswith("self")
        if essential and reason.state != "passed":
            return f"{reason.limit}: {reason.text}"
    return None


def verdict_on(candidate: Candidate, batch: int, records: Sequence[Record], held: tuple[Policy, Objective]) -> Verdict:
    """``held`` are the policy and the objective the configuration is held to, at the batch size it won with."""
    policy, objective = held
    found = judge(candidate.digest, records, policy_for(policy, objective))
    reasons = list(found.reasons)
    for limit in objective.limits:
        if limit.figure != DROP:
            reasons.append(_reason(limit, candidate, batch, (objective.scenario, records)))
    asked = {limit.figure for limit in objective.limits}
    left = [t for t in found.not_checked if not any(t.startswith(f"{figure} (") for figure in asked)]
    return combine(reasons, left, candidate.digest)


def _reason(limit: Limit, candidate: Candidate, batch: int, where: tuple[str, Sequence[Record]]) -> Reason:
    """By the fresh run where there is one, else by the longest trial."""
    scenario, records = where
    record = None
    for kind in ("measure", "confirm"):
        for r in records:
            mine = r.kind == kind and r.subject.get("candidate") == candidate.digest
            if mine and r.conditions.get("scenario") == scenario and r.conditions.get("batch") == batch:
                record = r
    figure = record.figures.get(limit.figure) if record is not None and record.status == "ok" else None
    if figure is None or figure.value is None:
        return Reason(limit.figure, "not_shown", f"{limit.text}: {why_missing(record, limit.figure)}")
    judged = JudgedLimit(limit.figure, limit.value, lambda value: show(limit.figure, value), limit.upper)
    state, text = check(judged, figure)
    assert record is not None
    return Reason(limit.figure, state, f"batch {batch}, {scenario}: {text}", record.id)


def nothing_won(found: Found, refused: Sequence[str], objective: Objective, unproved: str | None = None) -> Verdict:
    """No configuration may be chosen: what stood in the way.  ``unproved``: there was no time to prove the best."""
    reasons = [Reason("objective", "failed", text) for text in refused]
    if unproved is not None:
        reasons.append(Reason("objective", "not_shown", f"the best so far stands unproved. Left out: {unproved}"))
    broken = [s for s in found.standings if s.broken]
    if broken and not found.leaders:
        near = broken[0]
        text = f"no configuration that was tried holds every limit; for example {near.point}: {'; '.join(near.broken)}"
        reasons.append(Reason("objective", "failed", text))
    if not reasons:
        seen = list(dict.fromkeys(s.reason for s in found.standings if s.reason))
        text = seen[0] if seen else "the budget was spent before anything could be measured"
        reasons.append(Reason(objective.figure, "not_shown", f"nothing could be measured: {text}"))
    return combine(reasons, ())
