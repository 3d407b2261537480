"""``assay run --tune``: the settings of each candidate searched before the run compares and measures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from assay.core import clock
from assay.core.engine import Candidate
from assay.job.context import Context
from assay.job.pace import Pace
from assay.job.tune.request import Shares, Tuning
from assay.job.tune.search import search_in, set_space
from assay.job.tune.trials import Scene, Trials, family_of
from assay.search.halving import Found
from assay.search.objective import parse_objective
from assay.search.standing import Standing


def tuned(ctx: Context, scene: Scene, candidates: Sequence[Candidate]) -> list[Candidate]:
    """``candidates`` with the best settings found for each within ``ctx.request.tune_s`` (None: as they are).

    The winner's batch size joins those the run measures at.  The reference keeps its settings, since speed-ups
    are over it; so does a candidate nothing of which could be measured.
    """
    if ctx.request.tune_s is None or not candidates:
        return list(candidates)
    if ctx.objects.module is not None:
        ctx.warn("settings were not searched: a live module cannot be opened in processes of its own")
        return list(candidates)
    figure = ctx.request.policy.objective.figure
    tuning = Tuning(
        parse_objective(figure.removeprefix("latency.")), ctx.request.tune_s, shares=Shares(search=0.85, finals=1.0)
    )
    started_s = clock.now()
    pace = Pace(started_s + tuning.budget_s)
    with Trials(ctx, scene, tuning.objective, pace.ends_s, pace=pace) as trials:
        trials.prepare()
        set_space(trials, candidates, tuning)
        ends = (started_s + tuning.shares.search * tuning.budget_s, started_s + tuning.budget_s)
        searched = search_in(ctx, trials, tuning, ends)
        for text in pace.cut:
            ctx.warn(f"left out, since the time for it was over: {text}")
        if not searched.finals.order:
            ctx.warn("no setting could be measured: the candidates are tried as they are")
            return list(candidates)
        winner = searched.finals.order[0]
        batches = tuple(sorted({*ctx.request.batches, winner.point.batch}))
        ctx.request = replace(ctx.request, batches=batches)
        best = _best_of_each(searched.found, winner)
        if trials.mapped.bases[winner.point.family].digest == scene.reference.digest:
            ctx.warn(f"the reference keeps its settings, since speed-ups are over it; the best found: {winner.point}")
        return [_with_settings(c, trials, best, (batches, scene)) for c in candidates]


def _best_of_each(found: Found, winner: Standing) -> dict[str, Standing]:
    """Per family the best standing; the finals' winner for its own."""
    best: dict[str, Standing] = {}
    for standing in (winner, *found.standings):
        if standing.eligible:
            best.setdefault(standing.point.family, standing)
    return best


def _with_settings(
    candidate: Candidate, trials: Trials, best: dict[str, Standing], where: tuple[tuple[int, ...], Scene]
) -> Candidate:
    batches, scene = where
    standing = best.get(family_of(candidate))
    if standing is None or candidate.digest == scene.reference.digest:
        return candidate
    made = trials.mapped.candidate(standing.point)
    if not made.options.buckets:
        return made
    return replace(made, options=replace(made.options, buckets=batches))
