"""Before a leader may win: its outputs against the reference's, and its accuracy where the data are real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.core.engine import Candidate
from assay.core.record import Record
from assay.core.units import Seconds
from assay.job.context import Context
from assay.job.folder import RunFolder, Saved
from assay.job.last_words import Ended, Word
from assay.job.opening import engine
from assay.job.stages.evaluate import evaluate
from assay.job.stages.verify import verify
from assay.job.tune.tail import LEAST_SCORED, REPORT_S, ROWS, Tail
from assay.job.tune.trials import Trials
from assay.job.tune.verdict import essential_failure, policy_for
from assay.search.objective import Objective
from assay.search.space import Point
from assay.search.standing import Standing


@dataclass(frozen=True)
class Proved:
    """``winner`` None: none of the leaders passed; ``refused`` says why each that was tried did not, ``unproved``
    what kept the first from being tried at all."""

    winner: Standing | None
    refused: tuple[str, ...]
    unproved: str | None = None


def prove(ctx: Context, order: Sequence[Standing], objective: Objective, tail: Tail) -> Proved:
    """The first of ``order`` that passes.  None is begun whose proof would not end within the budget, on as few rows
    and samples as it takes; what is not on all samples is said."""
    policy, refused, pace = policy_for(ctx.request.policy, objective), [], tail.pace
    first, until_s = order[0].point, pace.ends_s - tail.after_s()
    least_s = tail.compare_s(ROWS[-1]) + tail.score_s(min(tail.samples, LEAST_SCORED), first)
    if not pace.fits(f"the proof of {first}", least_s, pace.ends_s - REPORT_S):
        return Proved(None, (), pace.cut[-1])
    ctx = _on_fewer(ctx, tail, tail.scored(until_s - tail.compare_s(ROWS[-1]), first))
    if tail.samples:
        evaluate(ctx, tail.trials.scene.reference, tail.trials.scene.reference, tail.trials.scene.data)
    for number, found in enumerate(order):
        more = f"{len(order) - number} more leaders, to be compared"
        if number and not pace.fits(more, pace.known("proof"), until_s):
            refused.append(pace.cut[-1])
            break
        with pace.timed("proof"):
            _one(ctx, found.point, tail, until_s)
        why = essential_failure(tail.trials.mapped.candidate(found.point), ctx.folder.current(), policy)
        if why is None:
            return Proved(found, tuple(refused))
        refused.append(f"{found.point}: {why}")
        ctx.progress.note(f"{found.point} may not win: {why}")
    return Proved(None, tuple(refused))


def _one(ctx: Context, point: Point, tail: Tail, until_s: Seconds) -> None:
    """Its Records: the comparison, on as many rows as time allows, and the accuracy."""
    scene, candidate = tail.trials.scene, tail.trials.mapped.candidate(point)
    rows = tail.rows(until_s - tail.score_s(tail.samples, point) / 2)
    own = context_of(ctx, candidate, point.batch, ctx.request.effort.confirm_s, rows)
    verify(own, scene.exported, _other(tail.trials, candidate), candidate, scene.data)
    if candidate.digest != scene.reference.digest:
        evaluate(own, candidate, scene.reference, scene.data)


def _on_fewer(ctx: Context, tail: Tail, samples: int | None) -> Context:
    """The accuracy on ``samples`` drawn samples, where it has to be fewer than there are."""
    asked = ctx.request.effort.max_samples
    if samples is None or (asked is not None and asked <= samples):
        return ctx
    tail.pace.cut.append(f"the accuracy is on {samples} of {tail.samples} samples: more would not have fit")
    return replace(ctx, request=replace(ctx.request, effort=replace(ctx.request.effort, max_samples=samples)))


def _other(trials: Trials, candidate: Candidate) -> Candidate:
    """What the candidate is compared with: the reference, with the candidate's threads where both are modules, since
    they are open in one process; where that is the candidate itself, another engine's file in its precision, else the
    reference in another form of its graph."""
    reference = trials.scene.reference
    if candidate.artifact.module is None or reference.artifact.module is None:
        return reference
    alike = replace(reference, options=replace(reference.options, threads=candidate.options.threads))
    if alike.digest != candidate.digest:
        return alike
    precision = candidate.options.precision
    others = [c for c in trials.mapped.bases.values() if c.artifact.module is None]
    forms = [(), *getattr(engine(reference.engine), "tuned_options", ())]
    form = next((f for f in forms if f != candidate.options.provider_options), ())
    twin = replace(alike, options=replace(alike.options, provider_options=form))
    return next((c for c in others if c.options.precision == precision), twin)


def context_of(ctx: Context, candidate: Candidate, batch: int, confirm_s: Seconds, rows: int = ROWS[0]) -> Context:
    """The context for one configuration: at its batch size, its stages kept under names of their own."""
    effort = replace(ctx.request.effort, confirm_s=confirm_s, verify_samples=rows)
    request = replace(ctx.request, batches=(batch,), effort=effort)
    return replace(ctx, request=request, folder=Named(ctx.folder, f"{candidate.digest[:12]}-b{batch}"))


class Named(RunFolder):
    """The same folder; stages saved here carry a suffix, so that two settings of one engine do not overwrite each
    other's."""

    def __init__(self, folder: RunFolder, suffix: str) -> None:
        self._folder, self._suffix = folder, suffix
        self.path, self.log, self.notes = folder.path, folder.log, folder.notes
        self.ended = folder.ended

    def finished(self, stage: str, key: str) -> Saved | None:
        return self._folder.finished(f"{stage}-{self._suffix}", key)

    def save(self, stage: str, key: str, result: Mapping[str, Any], records: Iterable[Record]) -> Saved:
        return self._folder.save(f"{stage}-{self._suffix}", key, result, records)

    def begin(self, stage: str, what: str, candidates: Sequence[str]) -> Word:
        return self._folder.begin(f"{stage}-{self._suffix}", what, candidates)

    def ended_in(self, stage: str) -> Ended | None:
        return self._folder.ended_in(f"{stage}-{self._suffix}")

    def append(self, record: Record) -> Record:
        return self._folder.append(record)

    def current(self) -> list[Record]:
        return self._folder.current()

    def records_of(self, saved: Saved) -> list[Record]:
        return self._folder.records_of(saved)
