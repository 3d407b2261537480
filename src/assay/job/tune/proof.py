"""Before a leader may win: its outputs against the reference's, and its accuracy where the data are real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.core import clock
from assay.core.engine import Candidate
from assay.core.record import Record
from assay.core.units import Seconds
from assay.job.context import Context
from assay.job.folder import RunFolder, Saved
from assay.job.opening import engine
from assay.job.stages.evaluate import evaluate
from assay.job.stages.verify import verify
from assay.job.tune.given import CHECK_ROWS
from assay.job.tune.trials import Trials
from assay.job.tune.verdict import essential_failure, policy_for
from assay.search.objective import Objective
from assay.search.standing import Standing

ROWS = (8, 4, 2)
"""How many different rows the winner is compared on: as many as the time left allows."""


@dataclass(frozen=True)
class Proved:
    """``winner`` None: none of the leaders passed; ``refused`` says why each that was tried did not."""

    winner: Standing | None
    refused: tuple[str, ...]


def prove(ctx: Context, trials: Trials, order: Sequence[Standing], objective: Objective, until_s: Seconds) -> Proved:
    """The first of ``order`` that passes.  After ``until_s`` nothing further is begun, except the first."""
    policy, refused = policy_for(ctx.request.policy, objective), []
    scene = trials.scene
    exported, data, reference = scene.exported, scene.data, scene.reference
    if data.task is not None:
        evaluate(ctx, reference, reference, data)
    for number, found in enumerate(order):
        if number and clock.now() > until_s:
            refused.append(f"{len(order) - number} more leaders were not compared: the budget was spent")
            break
        candidate = trials.mapped.candidate(found.point)
        own = context_of(ctx, candidate, found.point.batch, ctx.request.effort.confirm_s, _rows(trials, until_s))
        verify(own, exported, _other(trials, candidate), candidate, data)
        if candidate.digest != reference.digest:
            evaluate(own, candidate, reference, data)
        why = essential_failure(candidate, ctx.folder.current(), policy)
        if why is None:
            return Proved(found, tuple(refused))
        refused.append(f"{found.point}: {why}")
        ctx.progress.note(f"{found.point} may not win: {why}")
    return Proved(None, tuple(refused))


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


def _rows(trials: Trials, until_s: Seconds) -> int:
    """A comparison takes about twice as long as the reference's own part of it, for as many rows."""
    given = trials.given
    took_s = given.known.took_s if given is not None and given.known is not None else 0.0
    left = max(0.0, until_s - clock.now())
    return next((rows for rows in ROWS if 2 * took_s * rows / CHECK_ROWS <= left), ROWS[-1])


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

    def finished(self, stage: str, key: str) -> Saved | None:
        return self._folder.finished(f"{stage}-{self._suffix}", key)

    def save(self, stage: str, key: str, result: Mapping[str, Any], records: Iterable[Record]) -> Saved:
        return self._folder.save(f"{stage}-{self._suffix}", key, result, records)

    def append(self, record: Record) -> Record:
        return self._folder.append(record)

    def current(self) -> list[Record]:
        return self._folder.current()

    def records_of(self, saved: Saved) -> list[Record]:
        return self._folder.records_of(saved)
