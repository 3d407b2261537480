"""Which stages of a run with a budget may still begin: each has its share, so that something gets measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from assay.core.engine import Candidate
from assay.core.record import Record
from assay.core.units import Seconds, format_seconds
from assay.job.context import Context

SHARES = {"build": 0.35, "verify": 0.55, "evaluate": 0.75, "measure": 1.0}
"""Until which part of what the export left a stage may go on.  The first of each stage only waits for the end."""
QUANTIZE = 1 / 3
"""The part of what is left that int8 may take: every other candidate needs the rest."""
T = TypeVar("T")


def in_time(ctx: Context, label: str, stage: str, share: float | None = None) -> bool:
    """Whether another ``stage`` would end within its ``share`` (None: that of a run), taking as long as the last."""
    known = ctx.pace.known(stage, -1.0)
    if known < 0:
        return ctx.pace.fits(f"{stage} of {label}", 0.0)
    return ctx.pace.fits(f"{stage} of {label}", known, ctx.pace.at(SHARES[stage] if share is None else share))


def why_not(ctx: Context, stage: str) -> str:
    """Why the last stage that was asked for was left out, in words."""
    budget = format_seconds(ctx.request.effort.budget_s or 0.0)
    known = ctx.pace.known(stage)
    if not known or ctx.out_of_time():
        return f"the budget of {budget} was spent before this {stage}"
    return f"left out for the budget of {budget}: this {stage} takes about {format_seconds(known)}"


def candidate_in_time(ctx: Context, candidate: Candidate, stage: str) -> bool:
    """The same of a candidate, with a Record that says so where it is left out."""
    if in_time(ctx, candidate.label, stage):
        return True
    reason = why_not(ctx, stage)
    record = Record(stage, candidate.subject(ctx.model.name), status="skipped", reason=reason)
    ctx.folder.save(f"{stage}-{candidate.engine}-{candidate.options.precision}", "out of time", {}, [record])
    ctx.warn(f"{candidate.label}: {reason}")
    return False


def one_of_each_first(ctx: Context, found: Sequence[tuple[str, T]]) -> list[T]:
    """With a budget, one of each engine before the second of any, since the last ones may be left out; without, as
    they are.  ``found`` are pairs of the engine's name and whatever it is."""
    if math.isinf(ctx.pace.ends_s):
        return [thing for _, thing in found]
    seen: dict[str, int] = {}
    ranks = []
    for name, _ in found:
        ranks.append(seen.setdefault(name, 0))
        seen[name] += 1
    return [found[i][1] for i in sorted(range(len(found)), key=lambda i: ranks[i])]


def time_limit(ctx: Context, share: float) -> Seconds:
    """For a child process: ``share`` of what is left of the budget, at most the time any build may take."""
    return min(ctx.request.effort.build_timeout_s, max(1.0, share * ctx.pace.left()))
