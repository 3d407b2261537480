"""Stage: the exported graph in int8, made from samples on which nothing is evaluated."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from typing import Any

from assay.core import child, clock
from assay.core.artifact import Artifact
from assay.core.errors import AssayError, BadInput, NotAvailable, UnknownName
from assay.core.record import Figure, Record
from assay.job.context import Context, Data, Exported
from assay.job.keys import stage_key
from assay.job.opening import default_engines, engine
from assay.job.quantize.calibrating import described
from assay.job.quantize.held_out import HeldOut, hold_out
from assay.job.quantize.lowering import Control, LoweredFile, Lowering, lower_file
from assay.job.request import Objects, RunRequest
from assay.job.stages.in_time import QUANTIZE, time_limit
from assay.precision import DEFAULT, FOR
from assay.precision.job import Calibration

INT8 = "int8"
_LIBRARIES = {"nncf": ("nncf", "pip install 'assay[quantize]'")}


def check_int8(request: RunRequest, objects: Objects, precision: str | None) -> None:
    """What cannot be, before the export.  ``precision`` is the one a given file is written in, None for a module.

    Raises BadInput for int8 without samples and for ``--max-drop`` without an accuracy, UnknownName for a method.
    """
    asked = request.int8
    if asked.method is not None and asked.method not in FOR[INT8]:
        raise UnknownName("method for int8", asked.method, FOR[INT8])
    without = request.data in (None, "synthetic") and objects.data is None
    if asked.control is not None and asked.max_drop is None:
        raise BadInput("--control holds the samples that --max-drop is controlled on", remedy="--max-drop 0.5%")
    if asked.max_drop is not None and without:
        what = "no data were given" if request.data is None else "synthetic data give none"
        raise BadInput(f"--max-drop needs an accuracy, and {what}", remedy="--data DATA with targets")
    named = request.precisions is not None and INT8 in request.precisions
    if named and precision in (None, "fp32") and without and asked.calibration is None:
        what = "no data were given" if request.data is None else "random values fit nothing that the model will see"
        raise BadInput(
            f"int8 needs samples to calibrate with: {what}", remedy="--data DATA, or --calibration synthetic"
        )


def quantize(ctx: Context, exported: Exported, data: Data) -> tuple[Exported, Data]:
    """``exported`` with its int8 file, or with the reason why there is none; and the data left for evaluation.

    Raises BadInput where the samples cannot be divided as they were asked to be.
    """
    if not _spanned(ctx.request, exported):
        return exported, data
    reason = _not_tried(ctx, exported, data)
    if reason is not None:
        return replace(exported, not_lowered={INT8: reason}), data
    ctx.progress.stage("quantize", f"int8 by {_method(ctx.request)}")
    try:
        sets = hold_out(ctx, data, exported.signature)
        record, made, unchanged = _made(ctx, exported, sets)
    except BadInput as error:
        if _insists(ctx.request):
            raise
        ctx.progress.done(f"not tried: {error.message}")
        return replace(exported, not_lowered={INT8: error.message}), data
    if made is None:
        ctx.done(f"failed: {record.reason}", unchanged=unchanged)
        ctx.warn(f"int8 could not be made: {record.reason}")
        return replace(exported, not_lowered={INT8: str(record.reason)}), data
    ctx.done(_summary(record), unchanged=unchanged)
    if sets.note:
        ctx.warn(sets.note)
    return replace(exported, lowered={INT8: made}), sets.evaluation


def _spanned(request: RunRequest, exported: Exported) -> bool:
    """Whether any engine × precision of the run could use the file."""
    if exported.precision != "fp32" or (request.precisions is not None and INT8 not in request.precisions):
        return False
    return any(_reads_it(name) for name in request.engines or default_engines(request.device))


def _reads_it(name: str) -> bool:
    found = engine(name)
    return INT8 in found.precisions and "onnx" in found.reads


def _asked(request: RunRequest) -> bool:
    named = request.precisions is not None and INT8 in request.precisions
    return named or request.int8.calibration is not None


def _insists(request: RunRequest) -> bool:
    return _asked(request) or (request.int8.max_drop is not None and request.int8.insist)


def _method(request: RunRequest) -> str:
    return request.int8.method or DEFAULT[INT8]


def int8_not_planned(request: RunRequest) -> str | None:
    """Why a run would not try int8, as far as that can be told before anything is opened."""
    library, install = _LIBRARIES.get(_method(request), (None, ""))
    if library is not None and importlib.util.find_spec(library) is None:
        return f"{library} is not installed: {install}"
    if request.data == "synthetic" and request.int8.calibration is None:
        return "random values fit nothing that the model will see; --calibration synthetic tries it all the same"
    return None


def _not_tried(ctx: Context, exported: Exported, data: Data) -> str | None:
    request = ctx.request
    if exported.onnx is None:
        return "there is no ONNX file of this model to quantise"
    try:
        _control_engine(request)
    except NotAvailable as error:
        return error.message
    why = int8_not_planned(request)
    if why is not None or request.int8.calibration is not None:
        return why
    if data.reader is None:
        return "no samples to calibrate with: give --data DATA, or type --calibration synthetic"
    if data.task is None and not _asked(request):
        return f"what it costs in accuracy could not be shown ({data.not_evaluated}); --precision int8 tries it"
    return None


def _made(ctx: Context, exported: Exported, sets: HeldOut) -> tuple[Record, Artifact | None, bool]:
    """The Record, the file unless it failed, and whether both are the last run's."""
    assert exported.onnx is not None
    settings = ctx.request.int8
    where = _control_engine(ctx.request)
    conditions = {
        "precision": INT8,
        "method": _method(ctx.request),
        "max_drop": settings.max_drop,
        "engine": where if settings.max_drop is not None else None,
        "source": exported.onnx.sha256,
        "seed": ctx.request.seed,
    }
    key = stage_key("quantize", ctx.environment, conditions, sets.identity, ctx.request.effort.budget_s)
    saved = ctx.folder.finished("quantize", key)
    unchanged = saved is not None
    if saved is None:
        record, artifact = _lower(ctx, exported, sets, conditions)
        result = {"artifact": artifact.to_json(ctx.folder.path)} if artifact else {}
        saved = ctx.folder.save("quantize", key, result, [record])
    made = saved.result.get("artifact")
    return ctx.folder.records_of(saved)[0], Artifact.from_json(made, ctx.folder.path) if made else None, unchanged


def _lower(
    ctx: Context, exported: Exported, sets: HeldOut, conditions: dict[str, Any]
) -> tuple[Record, Artifact | None]:
    assert exported.onnx is not None
    subject: dict[str, Any] = {"model": ctx.model.name, "precision": INT8}
    common: dict[str, Any] = {"conditions": conditions, "environment": ctx.environment}
    started = clock.now()
    calibration = sets.calibration.samples()
    given = Calibration(calibration, sets.calibration.source, ctx.request.seed, not sets.calibration.data.real)
    details: dict[str, Any] = {"sets": {"calibration": described(calibration, given.source)}}
    control = _control(ctx, sets)
    if control is not None and sets.control is not None:
        details["sets"]["control"] = described(control.samples, sets.control.source)
    asked = Lowering(
        source=exported.onnx,
        signature=exported.signature,
        precision=INT8,
        method=conditions["method"],
        path=ctx.folder.artifacts / INT8 / "model.onnx",
        work=ctx.folder.artifacts / INT8 / "work",
        calibration=given,
    )
    try:
        made = _run(ctx, asked, control)
    except AssayError as error:
        return Record("quantize", subject, status="failed", reason=error.message, details=details, **common), None
    finally:
        shutil.rmtree(asked.work, ignore_errors=True)
    details |= {"how": made.how, "layers": made.layers}
    if made.controlled is not None:
        details["control"] = made.controlled.to_json()
    figures = {
        "quantize.seconds": Figure(clock.now() - started, "s"),
        "artifact.bytes": Figure(made.artifact.size_bytes, "B"),
        "source.bytes": Figure(exported.onnx.size_bytes, "B"),
    }
    subject |= {"artifact": made.artifact.sha256, "format": made.artifact.format}
    return Record("quantize", subject, figures=figures, details=details, **common), made.artifact


def _control(ctx: Context, sets: HeldOut) -> Control | None:
    drop = ctx.request.int8.max_drop
    if drop is None or sets.control is None:
        return None
    task = sets.evaluation.task
    if task is None:
        raise BadInput(f"--max-drop needs an accuracy: {sets.evaluation.not_evaluated}", remedy="--data with targets")
    return Control(drop, sets.control.samples(), task)


def _run(ctx: Context, asked: Lowering, control: Control | None) -> LoweredFile:
    """In a child process, which a crash of the library ends alone; in this one for a caller's own metric."""
    arguments: dict[str, Any] = {
        "asked": asked,
        "wanted": control,
        "engine_name": _control_engine(ctx.request),
        "device": ctx.request.device,
    }
    if control is not None and ctx.objects.metric is not None:
        return lower_file(**arguments)
    limits = child.Limits(timeout_s=time_limit(ctx, QUANTIZE), log=ctx.folder.artifacts / "quantize.log")
    found: LoweredFile = child.run("assay.job.quantize.lowering:lower_file", arguments, limits).value
    return found


def _control_engine(request: RunRequest) -> str:
    """The first engine of the run that can score the file.  Raises NotAvailable where there is none."""
    for name in request.engines or default_engines(request.device):
        if _reads_it(name) and engine(name).unavailable(request.device, "fp32") is None:
            return name
    raise NotAvailable(f"no engine of this run takes a quantised file on {request.device}")


def _summary(record: Record) -> str:
    control, details = record.details.get("control"), record.details
    text = f"{details['layers']} layers by {details['how']['library']} {details['how']['version']}, "
    text += f"{details['sets']['calibration']['count']} samples of {details['sets']['calibration']['source']}"
    if control:
        back, drop = len(control["reverted"]), control["chosen"]["drop"]
        text += f"; {back} put back, drop {drop:.2%} on {details['sets']['control']['count']} control samples"
    return text
