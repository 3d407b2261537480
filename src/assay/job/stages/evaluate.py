"""Stage: dataset accuracy of a candidate, paired with the reference's on the same samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.core.engine import Candidate
from assay.core.errors import AssayError, BadInput, EngineFailed
from assay.core.record import Figure, Record
from assay.job.context import Context, Data
from assay.job.drawing import some_of
from assay.job.evaluate.through import Passed, Work, evaluate_through
from assay.job.keys import stage_key
from assay.job.last_words import Word
from assay.job.stages.in_flight import InFlight
from assay.job.stages.under_way import fatal_on, under_way
from assay.measure.predictions import PairedResult, compare_predictions, read_predictions, save_predictions
from assay.pipeline import Flow, ShardStore

EVALUATION_BATCH = 32


def evaluate(ctx: Context, candidate: Candidate, reference: Candidate, data: Data) -> Record:
    """Score every sample, or as many drawn ones as the effort allows; keep each prediction; pair with the reference's.

    The reference must have been evaluated first.  Data that cannot give an accuracy make a
    skipped Record with the reason.  An engine that took an earlier run of this folder along while it was evaluated is
    tried apart first; where it still dies that is a failed Record, and of the reference EngineFailed.
    """
    is_reference = candidate.digest == reference.digest
    stage = "evaluate-reference" if is_reference else f"evaluate-{candidate.engine}-{candidate.options.precision}"
    ctx.progress.stage("evaluate", f"{candidate.label}{' (reference)' if is_reference else ''}")
    data = some_of(data, ctx.request.effort.max_samples, ctx.request.seed)
    conditions = _conditions(ctx, data)
    key = stage_key("evaluate", ctx.environment, candidate.digest, reference.digest, conditions)
    saved = ctx.folder.finished(stage, key)
    unchanged = saved is not None
    if saved is None:
        why = fatal_on(ctx, stage, candidate, data)
        if why is None:
            with under_way(ctx, stage, (candidate,)) as word:
                paired = None if is_reference else reference
                record = _evaluate(ctx, candidate, data, (conditions, key, word), paired)
        elif is_reference:
            raise _no_reference(ctx, candidate, why)
        else:
            subject = candidate.subject(ctx.model.name)
            record = Record("evaluate", subject, "failed", {}, conditions, ctx.environment, reason=why)
            key = f"{key} not evaluated"
        saved = ctx.folder.save(stage, key, {}, [record])
    record = ctx.folder.records_of(saved)[0]
    ctx.done(record.reason or _summary(record), unchanged=unchanged)
    return record


def _no_reference(ctx: Context, candidate: Candidate, why: str) -> EngineFailed:
    if candidate.artifact.module is not None:
        other = f"assay export {ctx.request.model} -o model.onnx, and run model.onnx: its reference is ONNX Runtime's"
    elif candidate.artifact.format == "onnx":
        other = "give the PyTorch model that the file was made from: its reference is PyTorch's"
    else:
        other = "give the ONNX file or the PyTorch model that it was made from"
    return EngineFailed(
        f"{candidate.label}, which every accuracy of this run is compared with, cannot be evaluated: {why}",
        remedy=f"{other}; or another version of {candidate.engine}; or leave --data out, for all but the accuracy",
    )


def _conditions(ctx: Context, data: Data) -> dict[str, Any]:
    reader = data.reader
    return {
        "data": data.name,
        "synthetic": not data.real,
        "samples": None if reader is None else len(reader),
        "available": None if reader is None else data.drawn_from or len(reader),
        "task": data.task.name if data.task else None,
        "transform": None if data.transform is None else dict(data.transform.to_json()),
        "weights": ctx.model.weights,
        "identity": data.identity,
    }


def _evaluate(
    ctx: Context,
    candidate: Candidate,
    data: Data,
    what: tuple[Mapping[str, Any], str, Word],
    reference: Candidate | None,
) -> Record:
    conditions, key, word = what
    subject = candidate.subject(ctx.model.name)
    common: dict[str, Any] = {"conditions": conditions, "environment": ctx.environment}
    if data.not_evaluated or data.task is None:
        return Record("evaluate", subject, status="skipped", reason=data.not_evaluated or "no task", **common)
    total = conditions["samples"]
    work = Work(candidate, data.signature, data, data.task, total, EVALUATION_BATCH, max_failures=None)
    work = replace(work, watched=InFlight(word.at).around)
    folder = ctx.folder.path / "samples" / f"shards-{key[:12]}"
    try:
        found = evaluate_through(work, lambda flow: _store(folder, flow), lambda n: ctx.progress.advance(n, total))
    except AssayError as error:
        if reference is None:
            raise  # without the reference there is nothing to judge accuracy by: the data or the task is wrong
        return Record("evaluate", subject, status="failed", reason=error.message, **common)
    record = _record(ctx, (work, found), reference, common)
    found.store.remove()
    return record


def _store(folder: Path, flow: Flow) -> ShardStore:
    """Shards that a killed run left are gone on with; the folder's name says what they are of."""
    return ShardStore(folder, {"batch": flow.batch, "samples_per_shard": flow.samples_per_shard})


def _record(ctx: Context, done: tuple[Work, Passed], reference: Candidate | None, common: dict[str, Any]) -> Record:
    work, found = done
    subject = work.candidate.subject(ctx.model.name)
    if found.outcome.failures:
        return _unscored(found, subject, reference is None, common)
    raw = save_predictions(ctx.folder.path, f"predictions-{work.candidate.digest[:12]}", found.scored)
    figures: dict[str, Figure] = dict(found.figures)
    details = found.details(work) | {"higher_is_better": work.data.better}
    if reference is None:
        details["reference"] = True
    else:
        try:
            paired = _paired(ctx, found, reference)
        except AssayError as error:
            why = error.message
            return Record("evaluate", subject, status="failed", reason=why, raw=raw, details=details, **common)
        figures["accuracy.drop"] = paired.drop
        details |= paired.to_json()
    return Record("evaluate", subject, figures=figures, raw=raw, details=details, **common)


def _unscored(found: Passed, subject: dict[str, Any], is_reference: bool, common: dict[str, Any]) -> Record:
    """A figure over the survivors alone would mislead, so there is none."""
    outcome = found.outcome
    name, why = outcome.failures[0]
    text = f"{len(outcome.failures)} of {outcome.read} samples could not be scored; the first, {name}: {why}"
    if is_reference:
        raise BadInput(text, remedy="give data and labels that belong to this model, or leave --data out")
    counts = {"read": outcome.read, "scored": outcome.scored, "failed": len(outcome.failures)}
    return Record("evaluate", subject, status="failed", reason=text, details={"counts": counts}, **common)


def _paired(ctx: Context, found: Passed, reference: Candidate) -> PairedResult:
    path = ctx.folder.path / "samples" / f"predictions-{reference.digest[:12]}.jsonl.gz"
    return compare_predictions(read_predictions(path), found.scored)


def _summary(record: Record) -> str:
    primary = str(record.details.get("primary"))
    value = record.value(primary)
    scored = "done" if value is None else f"{primary} {value:.4f}"
    return f"{scored} on {record.details.get('counts', {}).get('scored', '?')} samples"
