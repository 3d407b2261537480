"""Stage: the exported graph in fp16 and bf16, for engines that run a file in the precision it is written in.

Which those are, and on which kinds of device they have the kernels, an engine says in ``converted_on``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.core import child, clock
from assay.core.artifact import Artifact
from assay.core.errors import AssayError
from assay.core.record import Figure, Record
from assay.job.context import Context, Exported
from assay.job.keys import stage_key
from assay.job.opening import default_engines, engine
from assay.job.quantize.lowering import LoweredFile, Lowering
from assay.job.request import CANDIDATE_PRECISIONS, RunRequest
from assay.job.stages.in_time import QUANTIZE, time_limit
from assay.precision import DEFAULT

_KINDS = {"cuda": "CUDA", "npu": "Ascend", "gpu": "GPU"}


@dataclass(frozen=True)
class Planned:
    """An engine × precision that takes a converted file; ``reason`` says why it is not tried here, None if it is."""

    engine: str
    precision: str
    reason: str | None = None


def plan_conversions(request: RunRequest, native: str) -> list[Planned]:
    """What the request spans of a graph written in ``native``; opens nothing."""
    found = []
    for name in request.engines or default_engines(request.device):
        for kind, precisions in getattr(engine(name), "converted_on", {}).items():
            wanted = request.precisions or CANDIDATE_PRECISIONS
            found += [
                Planned(name, p, _why_not(name, kind, request.device))
                for p in precisions
                if p in wanted and native == "fp32"
            ]
    return found


def _why_not(name: str, kind: str, device: str) -> str | None:
    called = _KINDS.get(kind, kind)
    if device.partition(":")[0] != kind:
        why = f"{name} has kernels for it on {kind}; --device {kind} where there is one"
        return f"not tried: no {called} device ({why})"
    why_not = engine(name).unavailable(device, "fp32")
    return None if why_not is None else f"not tried: no {called} device ({why_not})"


def convert(ctx: Context, exported: Exported) -> Exported:
    """``exported`` with a file for each engine × precision that takes one, or with the reason why there is none."""
    if exported.onnx is None:
        return exported
    planned = plan_conversions(ctx.request, exported.precision)
    reasons = {(p.engine, p.precision): p.reason for p in planned if p.reason is not None}
    files: dict[tuple[str, str], Artifact] = {}
    wanted = [p for p in planned if p.reason is None]
    for precision in dict.fromkeys(p.precision for p in wanted):
        made, why = _made(ctx, exported.onnx, exported, precision)
        for p in _of(wanted, precision):
            if made is not None:
                files[p.engine, precision] = made
            else:
                reasons[p.engine, precision] = str(why)
    return replace(exported, converted=files, not_converted=reasons)


def _of(planned: Sequence[Planned], precision: str) -> list[Planned]:
    return [p for p in planned if p.precision == precision]


def _made(ctx: Context, source: Artifact, exported: Exported, precision: str) -> tuple[Artifact | None, str | None]:
    """The file, made once for all engines, or why there is none."""
    method, stage = DEFAULT[precision], f"convert-{precision}"
    ctx.progress.stage("convert", f"{precision} by {method}")
    key = stage_key("convert", ctx.environment, source.sha256, precision, method)
    saved = ctx.folder.finished(stage, key)
    unchanged = saved is not None
    if saved is None:
        record, artifact = _lowered(ctx, source, exported, precision)
        result = {"artifact": artifact.to_json(ctx.folder.path)} if artifact else {}
        saved = ctx.folder.save(stage, key, result, [record])
    record, made = ctx.folder.records_of(saved)[0], saved.result.get("artifact")
    if made is None:
        ctx.done(f"failed: {record.reason}", unchanged=unchanged)
        ctx.warn(f"{precision} could not be made: {record.reason}")
        return None, record.reason
    ctx.done(f"{record.details['layers']} layers", unchanged=unchanged)
    return Artifact.from_json(made, ctx.folder.path), None


def _lowered(ctx: Context, source: Artifact, exported: Exported, precision: str) -> tuple[Record, Artifact | None]:
    """In a child process, which a crash of the library ends alone."""
    folder, started = ctx.folder.artifacts / precision, clock.now()
    method, work = DEFAULT[precision], folder / "work"
    asked = Lowering(source, exported.signature, precision, method, folder / "model.onnx", work)
    subject: dict[str, Any] = {"model": ctx.model.name, "precision": precision}
    conditions = {"precision": precision, "method": method, "max_drop": None, "source": source.sha256}
    limits = child.Limits(timeout_s=time_limit(ctx, QUANTIZE), log=ctx.folder.artifacts / f"convert-{precision}.log")
    arguments = {"asked": asked, "wanted": None, "engine_name": None, "device": ctx.request.device}
    try:
        made: LoweredFile = child.run("assay.job.quantize.lowering:lower_file", arguments, limits).value
    except AssayError as error:
        why = error.message
        return Record(
            "quantize", subject, "failed", reason=why, conditions=conditions, environment=ctx.environment
        ), None
    finally:
        shutil.rmtree(work, ignore_errors=True)
    subject |= {"artifact": made.artifact.sha256, "format": made.artifact.format}
    figures = {
        "quantize.seconds": Figure(clock.now() - started, "s"),
        "artifact.bytes": Figure(made.artifact.size_bytes, "B"),
        "source.bytes": Figure(source.size_bytes, "B"),
    }
    details = {"how": made.how, "layers": made.layers}
    return Record(
        "quantize", subject, figures=figures, conditions=conditions, environment=ctx.environment, details=details
    ), made.artifact
