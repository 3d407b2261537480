"""Stages: choose the fastest candidate that passes, and judge it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from assay.core.engine import Candidate
from assay.core.record import Record
from assay.core.verdict import Reason, Verdict, combine
from assay.job.context import Context, Exported
from assay.job.folder import write_json
from assay.judge.choose import Choice
from assay.judge.choose import choose as pick
from assay.judge.gate import judge as gate


def choose(ctx: Context, candidates: Sequence[Candidate]) -> Choice:
    """Cheap and pure, so it is done anew on every run."""
    ctx.progress.stage("choose", f"among {len(candidates)} candidates")
    choice = pick(ctx.folder.current(), ctx.request.policy, candidates)
    winner = next((c for c in candidates if c.digest == choice.candidate), None)
    ctx.progress.done(f"{winner.label}, batch {choice.batch}" if winner else "none passes every limit")
    return choice


def judge(ctx: Context, exported: Exported, choice: Choice, candidates: Sequence[Candidate]) -> Verdict:
    """The verdict on the chosen candidate; when none passes, every candidate's failures.

    A precision that was considered and not tried stands among what was not checked.
    """
    records = ctx.folder.current()
    if choice.candidate is not None:
        verdict = gate(choice.candidate, records, ctx.request.policy)
    else:
        verdict = _none_passes(records, ctx, choice, candidates)
    untried = tuple(f"{precision}: not tried: {reason}" for precision, reason in exported.not_lowered.items())
    verdict = replace(verdict, not_checked=(*verdict.not_checked, *untried))
    write_json(ctx.folder.path / "verdict.json", verdict.to_json())
    return verdict


def _none_passes(records: list[Record], ctx: Context, choice: Choice, candidates: Sequence[Candidate]) -> Verdict:
    reasons: list[Reason] = []
    not_checked: list[str] = []
    for candidate in candidates:
        verdict = gate(candidate.digest, records, ctx.request.policy)
        reasons += [replace(r, text=f"{candidate.label}: {r.text}") for r in verdict.reasons]
        not_checked += verdict.not_checked
    if not candidates:
        reasons.append(Reason("candidates", "failed", "no engine could be built for this model"))
    if not any(r.state != "passed" for r in reasons):
        why = choice.reasons or ("no candidate has a speed that could be measured",)
        reasons += [Reason("objective", "not_shown", text) for text in dict.fromkeys(why)]
    return combine(reasons, tuple(dict.fromkeys(not_checked)))


def best_json(choice: Choice, candidates: Sequence[Candidate], confirmed: Sequence[Record]) -> dict[str, Any] | None:
    """The ``best`` of ``--json``: the chosen configuration and its published figures."""
    winner = next((c for c in candidates if c.digest == choice.candidate), None)
    if winner is None:
        return None
    figures = {
        f"{r.conditions['scenario']}.{name}": figure.to_json() for r in confirmed for name, figure in r.figures.items()
    }
    return {
        "candidate": winner.digest,
        "label": winner.label,
        "engine": winner.engine,
        "precision": winner.options.precision,
        "batch": choice.batch,
        "figures": figures,
    }
