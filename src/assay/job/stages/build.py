"""Stage: every available engine × precision becomes a candidate; what is not, a Record with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from assay.core import child, clock
from assay.core.artifact import Artifact
from assay.core.engine import BuildOptions, Candidate, Engine, OpenOptions
from assay.core.errors import AssayError, ChildFailed
from assay.core.record import Figure, Record
from assay.job.context import Context, Exported
from assay.job.keys import stage_key
from assay.job.opening import default_engines, engine, hardware_status, make_candidate, with_signature
from assay.job.request import CANDIDATE_PRECISIONS
from assay.job.stages.in_time import SHARES, in_time, one_of_each_first, time_limit, why_not

CHILD = "child"
"""What is known of the time in which a process of its own imports a library: no longer than the quickest build."""


@dataclass(frozen=True)
class Slot:
    """One engine × precision that could become a candidate; ``reason`` says why not."""

    engine: str
    precision: str
    asked: bool
    reason: str | None = None

    @property
    def name(self) -> str:
        return f"{self.engine}-{self.precision}"


def slots(ctx: Context, exported: Exported) -> Iterator[Slot]:
    """Every slot the request spans, with the reason where it cannot run here.

    A graph written in another precision than fp32 is run as it is written; so is a file that was
    made of it in a lower one.
    """
    request, native = ctx.request, exported.precision
    names = request.engines or default_engines(request.device)
    for name in names:
        found = engine(name)
        usual = CANDIDATE_PRECISIONS if native == "fp32" else (native,)
        wanted = request.precisions or tuple(p for p in usual if p in found.precisions)
        for precision in wanted:
            # Named as a pair; an engine or a precision named alone is missing only when nothing came of it.
            asked = request.engines is not None and request.precisions is not None
            in_file = precision == native or precision in exported.lowered or (name, precision) in exported.converted
            reason = exported.not_lowered.get(precision) if "onnx" in found.reads else None
            reason = reason or exported.not_converted.get((name, precision))
            if reason is None:
                reason = found.unavailable(request.device, "fp32" if in_file else precision)
            yield Slot(name, precision, asked, reason or not_done(found, precision))


def not_done(found: Engine, precision: str) -> str | None:
    """Why an engine has no candidate in ``precision`` anywhere; None where it has."""
    return None if precision in found.precisions else f"{found.name} does not do {precision}"


def nothing_to_read(found: Engine) -> str:
    """Why an engine has no candidate of a model of which there is no file that it reads."""
    return f"{found.name} reads {', '.join(found.reads)}, and there is no such file of this model"


def build(ctx: Context, exported: Exported, share: float = SHARES["build"]) -> list[Candidate]:
    """Build what can be built.  A vendor failure becomes a Record; the rest go on.

    With a budget nothing is begun that would take longer than ``share`` of it.
    """
    candidates: dict[Slot, Candidate] = {}
    wanted = list(slots(ctx, exported))
    for slot in one_of_each_first(ctx, [(s.engine, s) for s in wanted]):
        ctx.progress.stage("build", slot.name)
        reason = slot.reason
        if reason is None and _takes_time(ctx, exported, slot) and not in_time(ctx, slot.name, "build", share):
            reason = why_not(ctx, "build")
        candidate = None if reason else _build_one(ctx, exported, slot)
        if candidate is not None:
            candidates[slot] = candidate
        elif reason:
            _skip(ctx, slot, reason)
            ctx.progress.done(f"skipped: {reason}")
    found = [candidates[slot] for slot in wanted if slot in candidates]
    _note_missing(ctx, exported, found)
    return found


def _takes_time(ctx: Context, exported: Exported, slot: Slot) -> bool:
    """A module is opened as it is: there is nothing to build."""
    source = _source_of(ctx, exported, slot)
    return source is None or source.module is None


def _note_missing(ctx: Context, exported: Exported, candidates: list[Candidate]) -> None:
    """An engine or a precision that was named and gave no candidate at all is missing."""
    precisions, engines = {c.options.precision for c in candidates}, {c.engine for c in candidates}
    told = {word for text in ctx.missing for word in text.partition(":")[0].split()}
    for name in ctx.request.engines or ():
        if name not in engines and name not in told:
            why = engine(name).unavailable(ctx.request.device, "fp32") or "it gave no candidate; the report says why"
            ctx.missing.append(f"{name}: {why}")
    for precision in ctx.request.precisions or ():
        if precision not in precisions and precision not in told:
            untried = exported.not_lowered.get(precision)
            ctx.missing.append(f"{precision}: {untried}" if untried else f"no engine here runs {precision}")


def _skip(ctx: Context, slot: Slot, reason: str) -> None:
    if slot.asked:
        ctx.missing.append(f"{slot.engine} {slot.precision}: {reason}")
    key = stage_key("build", ctx.environment, slot.name, reason)
    if ctx.folder.finished(f"build-{slot.name}", key) is None:
        record = Record("build", _subject(ctx, slot), status="skipped", reason=reason, environment=ctx.environment)
        ctx.folder.save(f"build-{slot.name}", key, {}, [record])


def _build_one(ctx: Context, exported: Exported, slot: Slot) -> Candidate | None:
    found = engine(slot.engine)
    source = _source_of(ctx, exported, slot)
    if source is None:
        reason = nothing_to_read(found)
        _skip(ctx, slot, reason)
        ctx.progress.done(f"skipped: {reason}")
        return None
    status = hardware_status(found, ctx.request.device)
    if status:
        ctx.warn(f"{slot.engine} on {ctx.request.device}: {status}")
    options = _options(ctx, exported, slot)
    if source.module is not None:
        ctx.progress.done("the PyTorch module itself")
        return make_candidate(with_signature(source, exported.signature), slot.engine, options, ctx.device_name)
    key = stage_key(
        "build", ctx.environment, source.sha256, slot.name, ctx.request.device, ctx.device_name, found.version()
    )
    stage = f"build-{slot.name}"
    saved = ctx.folder.finished(stage, key)
    unchanged = saved is not None
    if saved is None:
        with ctx.pace.timed("build"):
            record, artifact = _build_file(ctx, slot, source)
        ctx.pace.learn(CHILD, min(ctx.pace.known("build"), ctx.pace.known(CHILD, math.inf)))
        result = {"artifact": artifact.to_json(ctx.folder.path)} if artifact else {}
        saved = ctx.folder.save(stage, key, result, [record])
    record = ctx.folder.records_of(saved)[0]
    if record.status != "ok":
        ctx.done(f"failed: {record.reason}", unchanged=unchanged)
        ctx.warn(f"{slot.engine} {slot.precision} could not be built: {record.reason}")
        return None
    ctx.done("built", unchanged=unchanged)
    artifact = Artifact.from_json(saved.result["artifact"], ctx.folder.path)
    return make_candidate(artifact, slot.engine, options, ctx.device_name)


def _build_file(ctx: Context, slot: Slot, source: Artifact) -> tuple[Record, Artifact | None]:
    """Build in a child process: a compiler that crashes or hangs is a failed Record, not the end of the run."""
    out_dir = ctx.folder.artifacts / slot.name
    log = ctx.folder.artifacts / f"{slot.name}.log"
    started = clock.now()
    try:
        outcome = child.run(
            "assay.job.trial:build_file",
            {
                "engine_name": slot.engine,
                "artifact": source,
                "options": BuildOptions(precision=slot.precision, device=ctx.request.device),
                "out_dir": out_dir,
            },
            child.Limits(timeout_s=time_limit(ctx, 0.5), log=log),
        )
    except AssayError as error:
        where = f" (log: {log.relative_to(ctx.folder.path)})" if isinstance(error, ChildFailed) else ""
        return (
            Record(
                "build",
                _subject(ctx, slot),
                status="failed",
                reason=f"{error.message}{where}",
                environment=ctx.environment,
            ),
            None,
        )
    made: Artifact = outcome.value
    figures = {
        "build.seconds": Figure(clock.now() - started, "s"),
        "artifact.bytes": Figure(made.size_bytes, "B"),
        "memory.peak": Figure(outcome.peak_rss_bytes, "B"),
    }
    subject = {**_subject(ctx, slot), "artifact": made.sha256, "format": made.format}
    return Record("build", subject, figures=figures, environment=ctx.environment), made


def _options(ctx: Context, exported: Exported, slot: Slot) -> OpenOptions:
    """How the slot's file is opened; buckets only where the engine has them and the batch is free."""
    has_buckets = getattr(engine(slot.engine), "has_buckets", False) and exported.signature.static_batch is None
    buckets = ctx.request.buckets if has_buckets else ()
    return OpenOptions(slot.precision, ctx.request.device, buckets=buckets, threads=ctx.request.threads)


def _source_of(ctx: Context, exported: Exported, slot: Slot) -> Artifact | None:
    found, lowered = engine(slot.engine), exported.lowered.get(slot.precision)
    converted = exported.converted.get((slot.engine, slot.precision))
    for artifact in (converted, lowered, ctx.model.artifact, exported.onnx):
        if artifact is not None and artifact.format in found.reads:
            return artifact
    return None


def _subject(ctx: Context, slot: Slot) -> dict[str, object]:
    return {
        "model": ctx.model.name,
        "engine": slot.engine,
        "precision": slot.precision,
        "device": ctx.request.device,
    }
