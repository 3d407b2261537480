"""Stage: the model under torch.compile, measured like a candidate so that speed-ups are not over eager mode alone.

It is never chosen unless ``--engine torch_compile`` makes it a candidate: it ships nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from assay.core.engine import Candidate, OpenOptions
from assay.core.record import Record
from assay.job.context import Context, Data, Exported
from assay.job.keys import stage_key
from assay.job.opening import engine, make_candidate, with_signature
from assay.job.request import BASELINE
from assay.job.stages.measure import BASELINE_ROLE, Baselines, measure
from assay.job.stages.verify import verify

PRECISION = "fp32"
_STAGE = f"baseline-{BASELINE}"


def compiled_baseline(
    ctx: Context, exported: Exported, reference: Candidate, data: Data, eager: Sequence[Record]
) -> list[Record]:
    """Its Records of speed; none, with a Record that says why, where there is no such baseline.

    Nothing at all without a PyTorch module or without an eager baseline, and where engines were named.
    The first process compiles, in a child with a time limit; those after it find the code in the
    compiler's own cache.
    """
    if ctx.request.engines is not None or not eager or reference.artifact.module is None:
        return []
    ctx.progress.stage("baseline", f"{BASELINE} {PRECISION}")
    why = _why_not(ctx, reference)
    if why is not None:
        _skip(ctx, why)
        ctx.progress.done(f"skipped: {why}")
        return []
    ctx.progress.done("compiled and measured next")
    free = exported.signature.static_batch is None
    buckets = tuple(sorted(ctx.batches(exported.signature))) if free else ()
    options = OpenOptions(PRECISION, ctx.request.device, buckets=buckets, threads=ctx.request.threads)
    artifact = with_signature(ctx.model.artifact, exported.signature)
    candidate = make_candidate(artifact, BASELINE, options, ctx.device_name)
    found = measure(ctx, candidate, data, Baselines(eager), BASELINE_ROLE)
    if not any(r.status == "ok" for r in found):
        ctx.warn(f"{BASELINE} gave no baseline: {found[0].reason}")
        return []
    _not_evaluated(ctx, candidate)
    verify(ctx, exported, reference, candidate, data)
    return found


def _why_not(ctx: Context, reference: Candidate) -> str | None:
    found = engine(BASELINE)
    if not ctx.request.compiled:
        return "it compiles for minutes and was left out (--quick or --no-compile)"
    if reference.artifact.format not in found.reads:
        return f"{BASELINE} reads {', '.join(found.reads)}, not {reference.artifact.format}"
    return found.unavailable(ctx.request.device, PRECISION)


def _skip(ctx: Context, reason: str) -> None:
    key = stage_key("build", ctx.environment, _STAGE, reason)
    if ctx.folder.finished(_STAGE, key) is None:
        subject = {
            "model": ctx.model.name,
            "engine": BASELINE,
            "precision": PRECISION,
            "device": ctx.request.device,
        }
        record = Record(
            "build",
            subject,
            status="skipped",
            reason=reason,
            environment=ctx.environment,
            details={"role": BASELINE_ROLE},
        )
        ctx.folder.save(_STAGE, key, {}, [record])


def _not_evaluated(ctx: Context, candidate: Candidate) -> None:
    """No speed stands without an accuracy state."""
    stage, reason = f"evaluate-{BASELINE}", "a baseline for speed, no candidate: only its outputs are compared"
    key = stage_key("evaluate", ctx.environment, candidate.digest, reason)
    if ctx.folder.finished(stage, key) is None:
        record = Record(
            "evaluate",
            candidate.subject(ctx.model.name),
            status="skipped",
            reason=reason,
            environment=ctx.environment,
            details={"role": BASELINE_ROLE},
        )
        ctx.folder.save(stage, key, {}, [record])
