"""Stage: is a candidate the same model as the reference, and did it run as asked?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assay.core.engine import Candidate
from assay.core.errors import AssayError, WrongPrecision
from assay.core.record import Record
from assay.core.sample import digest
from assay.job.arithmetic import arithmetic_of, quantised_of
from assay.job.compare_two import compare_with_truth, self_check_feed, verify_details
from assay.job.context import Context, Data, Exported, batched
from assay.job.keys import stage_key
from assay.job.opening import open_candidate
from assay.job.request import VERIFY_BATCHES
from assay.job.stages.under_way import fatal, hopeless, under_way
from assay.judge.classes import classify
from assay.judge.tolerance import tolerance
from assay.measure.selfcheck import self_check


def verify(ctx: Context, exported: Exported, reference: Candidate, candidate: Candidate, data: Data) -> Record:
    """Compare on real samples at every batch size; attest precision and provider."""
    rows = list(data.samples(ctx.request.effort.verify_samples))
    static = exported.signature.static_batch
    batches = (static,) if static else tuple(sorted({*VERIFY_BATCHES, *ctx.request.batches}))
    key = stage_key(
        "verify",
        ctx.environment,
        reference.digest,
        candidate.digest,
        digest(rows),
        batches,
        exported.depth,
        "file and engine",
    )
    stage = f"verify-{candidate.engine}-{candidate.options.precision}"
    ctx.progress.stage("verify", candidate.label)
    saved = ctx.folder.finished(stage, key)
    unchanged = saved is not None
    if saved is None:
        conditions = {
            "run_reference": ctx.reference,
            "batches": list(batches),
            "samples": len(rows),
            "samples_sha256": digest(rows),
            **data.conditions,
        }
        feeds = {b: batched(rows, b, exported.signature) for b in batches}
        record, whole = _beside_suspects(ctx, exported, (reference, candidate), feeds, (stage, conditions))
        saved = ctx.folder.save(stage, key if whole else f"{key} tried apart", {}, [record])
    record = ctx.folder.records_of(saved)[0]
    ctx.done(record.reason or str(record.details["class"]), unchanged=unchanged)
    for text in record.warnings:
        ctx.warn(f"{candidate.label}: {text}")
    return record


def _beside_suspects(
    ctx: Context,
    exported: Exported,
    pair: tuple[Candidate, Candidate],
    feeds: Mapping[int, Any],
    at: tuple[str, dict[str, Any]],
) -> tuple[Record, bool]:
    """The comparison, and whether it is what was asked for: a candidate that took an earlier run along is tried apart
    first, and where it is still fatal neither it nor what it would be compared with is run here."""
    reference, candidate = pair
    stage, conditions = at
    dead = hopeless(ctx, candidate) or fatal(ctx, candidate, feeds)
    other = None
    if reference.digest != candidate.digest:
        other = hopeless(ctx, reference) or fatal(ctx, reference, feeds)
    if other is not None and candidate.label == ctx.reference:
        reference = candidate  # the run's reference stands by itself, as where there is no other engine
    elif other is not None:
        dead = dead or f"{reference.label}, which it is compared with, cannot be run: {other}"
    conditions["reference"] = f"{reference.engine} {reference.options.precision}"
    conditions["reference_candidate"] = reference.digest
    if dead is not None:
        return _not_compared(ctx, candidate, dead, conditions), False
    if other is not None:
        return _verify(ctx, exported, (reference, candidate), feeds, conditions), False
    with under_way(ctx, stage, (candidate, reference)):
        return _verify(ctx, exported, (reference, candidate), feeds, conditions), True


def _verify(
    ctx: Context,
    exported: Exported,
    pair: tuple[Candidate, Candidate],
    feeds: Mapping[int, Any],
    conditions: Mapping[str, Any],
) -> Record:
    reference, candidate = pair
    subject = candidate.subject(ctx.model.name)
    alone = reference.digest == candidate.digest
    try:
        with (
            arithmetic_of(reference.artifact, exported.signature) as exact,
            quantised_of(candidate, [*exported.lowered.values(), ctx.model.artifact, exported.onnx]) as own,
            open_candidate(reference) as first,
            open_candidate(candidate) as second,
        ):
            attestation = second.attest()
            warnings = attestation.check(None, candidate.options.precision)
            result, split = compare_with_truth((first, second), feeds, exact, candidate.options.precision, own)
            allowed = tolerance(candidate.options.precision, exported.depth)
            judged = classify(result, allowed, split)
            limit = judged.detectable or allowed.max_relative_rms or 0.0
            checks = self_check(second, self_check_feed(feeds, second), limit)
    except AssayError as error:
        kind = "ran in another precision than asked" if isinstance(error, WrongPrecision) else "could not be compared"
        return _not_compared(ctx, candidate, f"{kind}: {error.message}", conditions)
    inconsistent = [f"self-consistency, {f.name}: {f.text}" for f in checks.failed]
    return Record(
        "verify",
        subject,
        figures=result.figures(),
        conditions=conditions,
        environment=ctx.environment,
        warnings=(*warnings, *result.warnings, *inconsistent),
        details={
            **verify_details(result, judged, allowed, split),
            **({"class": "reference"} if alone else {}),
            "attestation": attestation.to_json(),
            "self_check": checks.to_json(),
        },
    )


def _not_compared(ctx: Context, candidate: Candidate, reason: str, conditions: Mapping[str, Any]) -> Record:
    subject = candidate.subject(ctx.model.name)
    given: dict[str, Any] = {"conditions": conditions, "environment": ctx.environment}
    return Record("verify", subject, status="failed", reason=reason, **given)
