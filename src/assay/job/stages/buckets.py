"""Stage: static batch sizes are kept only where they are shown to change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from assay.core.engine import Candidate
from assay.core.errors import AssayError
from assay.core.record import Figure, Record
from assay.core.sample import digest, stack
from assay.engines.buckets import BucketedSession, BucketProof, padded_share
from assay.job.context import Context, Data, Exported
from assay.job.keys import stage_key
from assay.job.opening import open_candidate
from assay.judge.tolerance import tolerance


def prove_buckets(ctx: Context, exported: Exported, candidates: Sequence[Candidate], data: Data) -> list[Candidate]:
    """The candidates; one whose buckets could not be shown harmless gets a free batch instead, and that is said."""
    return [_proved(ctx, exported, c, data) if c.options.buckets else c for c in candidates]


def _proved(ctx: Context, exported: Exported, candidate: Candidate, data: Data) -> Candidate:
    sizes = candidate.options.buckets
    rows = list(data.samples(max(sizes)))
    conditions = {
        "buckets": list(sizes),
        "samples": len(rows),
        "samples_sha256": digest(rows),
        **data.conditions,
    }
    stage = f"buckets-{candidate.engine}-{candidate.options.precision}"
    ctx.progress.stage("buckets", f"{candidate.label}, {', '.join(map(str, sizes))}")
    key = stage_key("buckets", ctx.environment, candidate.digest, conditions, exported.depth)
    saved = ctx.folder.finished(stage, key)
    unchanged = saved is not None
    if saved is None:
        feed = stack(rows, exported.signature)
        saved = ctx.folder.save(stage, key, {}, [_prove(ctx, exported, candidate, feed, conditions)])
    record = ctx.folder.records_of(saved)[0]
    if record.status == "ok":
        padding = record.value("padding.share") or 0.0
        ctx.done(f"harmless; {padding:.0%} padding if every size is as likely", unchanged=unchanged)
        return candidate
    ctx.done(f"disabled: {record.reason}", unchanged=unchanged)
    ctx.warn(f"{candidate.label} runs without buckets: {record.reason}")
    return replace(candidate, options=replace(candidate.options, buckets=()))


def _prove(
    ctx: Context, exported: Exported, candidate: Candidate, feed: dict[str, Any], conditions: dict[str, Any]
) -> Record:
    subject = candidate.subject(ctx.model.name)
    common: dict[str, Any] = {"conditions": conditions, "environment": ctx.environment}
    try:
        with open_candidate(candidate) as session:
            assert isinstance(session, BucketedSession)
            proof = session.prove(feed)
    except AssayError as error:
        return Record("buckets", subject, status="failed", reason=error.message, **common)
    limit = tolerance(candidate.options.precision, exported.depth).max_relative_rms or 0.0
    reason = _objection(proof, limit)
    worst = proof.worst()
    figures = {"padding.share": Figure(padded_share(candidate.options.buckets), "fraction")}
    if worst is not None:
        figures["numeric.relative_rms"] = Figure(worst[2], "ratio")
    details = {
        "differing": [{"bucket": size, "output": name} for size, name in proof.differing],
        "between": {
            str(size): {name: m.to_json() for name, m in outputs.items()} for size, outputs in proof.between.items()
        },
        "limit": limit,
    }
    status = "failed" if reason else "ok"
    return Record("buckets", subject, status, figures, reason=reason, details=details, **common)


def _objection(proof: BucketProof, limit: float) -> str | None:
    if proof.differing:
        size, name = proof.differing[0]
        more = f" (and {len(proof.differing) - 1} more)" if len(proof.differing) > 1 else ""
        return f"in the bucket of {size} the padding changes output {name!r} of real rows{more}"
    worst = proof.worst()
    if worst is not None and not worst[2] <= limit:
        size, name, error = worst
        return (
            f"output {name!r} in the bucket of {size} differs from that in the smallest by a relative rms "
            f"error of {error:.2g}, limit {limit:.2g}"
        )
    return None
