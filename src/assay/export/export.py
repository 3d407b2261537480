"""From a PyTorch module to an ONNX file that was compared with it.

``export_model`` reads as the order of work: what goes in, what PyTorch gives, which exporter, what
it wrote, the passes, the proof, the file.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.core import clock
from assay.core.artifact import Artifact
from assay.core.compare import Measures
from assay.core.errors import AssayError, BadInput, ExportFailed, StorageFailed
from assay.core.model import Model
from assay.core.table import resolve
from assay.core.tensors import Array, Signature
from assay.core.units import Seconds
from assay.export.choose import Attempt, attempts
from assay.export.custom_ops import load_custom_ops
from assay.export.finish import check_inputs, declare, strip_prefix
from assay.export.flatten import wrap
from assay.export.inputs import plan_inputs
from assay.export.no_params import strip_weights
from assay.export.options import EXPORTERS, ExportOptions, check_options
from assay.export.prove import DimProof, Trial, make_trials, prove, vacuous
from assay.export.reference import Reference, batch_axes
from assay.export.remember import Remembered
from assay.export.request import CustomOps, Exporter, ExportRequest
from assay.graph.arithmetic import RunOnnx
from assay.graph.check import opset_of, problems
from assay.graph.external_data import onnx_artifact, save_model
from assay.graph.quiet import quiet
from assay.graph.signature import load_model, read_signature
from assay.graph.simplify import KEPT, PassResult, find_pass, simplify

_LOGGERS = ("torch", "onnxscript", "onnx_ir", "onnx")
_INSIDE_TORCH = "/site-packages/torch/"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Exported:
    """What came out, and the evidence.

    ``opset_asked`` is None where nobody asked.  ``comparison`` holds the measures against PyTorch
    per output, over all trials; ``proofs`` one entry per free dim.  ``notes`` say what was decided,
    ``warnings`` what weakens the evidence; ``log`` is what the exporter printed.
    """

    artifact: Artifact
    signature: Signature
    exporter: str
    why: str
    opset_asked: int | None
    opset_obtained: int
    proofs: tuple[DimProof, ...]
    passes: tuple[PassResult, ...]
    comparison: Mapping[str, Measures]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: Seconds
    log: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "artifact": self.artifact.to_json(),
            "signature": self.signature.to_json(),
            "exporter": self.exporter,
            "why": self.why,
            "opset_asked": self.opset_asked,
            "opset_obtained": self.opset_obtained,
            "free_dims": [p.to_json() for p in self.proofs],
            "passes": [p.to_json() for p in self.passes],
            "comparison": {n: m.to_json() for n, m in self.comparison.items()},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class _Job:
    """Everything an attempt needs."""

    options: ExportOptions
    reference: Reference
    trials: tuple[Trial, ...]
    axes: Mapping[str, int | None]
    custom: CustomOps
    run: RunOnnx


@dataclass(frozen=True)
class _Made:
    """What one attempt wrote and showed; ``path`` is still in the temporary folder."""

    path: Path
    opset: int
    proofs: tuple[DimProof, ...]
    passes: tuple[PassResult, ...]
    comparison: Mapping[str, Measures]
    notes: tuple[str, ...]
    traced: tuple[str, ...]
    log: str


def export_model(model: Model, options: ExportOptions, out_path: Path, run: RunOnnx) -> Exported:
    """Export ``model`` to ``out_path`` and compare the file with PyTorch.

    Raises BadInput for options, shapes and names that cannot be right; ExportFailed when the
    exporter fails, misses the opset, fixes a dim that was to be free, or the file gives other
    outputs than PyTorch; StorageFailed when the folder cannot be written.  Nothing is left at
    ``out_path`` then.
    """
    started = clock.now()
    check_options(options)
    for name in options.passes:
        find_pass(name)
    module = opened_module(model)
    notes = [f"{file} ran code when it was opened" for file in model.runs_code]
    custom = load_custom_ops(options.custom_ops)
    if custom.path is not None:
        notes.append(f"{custom.path} ran code: it translates custom operators")
    notes += [f"{name} ran code: it is a user's pass" for name in options.passes if ".py:" in name]
    tries = attempts(options, module, custom)
    with _workspace(out_path) as folder:
        reference = Reference(module, plan_inputs(model, options, module))
        trials = make_trials(reference, options)
        axes, said = output_axes_of(reference, trials)
        job = _Job(options, reference, trials, axes, custom, Remembered(run))
        made, attempt, more = _attempt_all(job, tries, Path(folder))
        save_model(load_model(made.path, external_data=True), out_path, options.external_data_threshold)
    return Exported(
        artifact=onnx_artifact(out_path, parents=(model.artifact.sha256,)),
        signature=read_signature(out_path),
        exporter=attempt.exporter,
        why=attempt.why,
        opset_asked=options.opset,
        opset_obtained=made.opset,
        proofs=made.proofs,
        passes=made.passes,
        comparison=made.comparison,
        notes=tuple(dict.fromkeys([*notes, *said, *more, *made.notes])),
        warnings=_warnings(job, made),
        seconds=clock.now() - started,
        log=made.log,
    )


def opened_module(model: Model) -> Any:
    if model.artifact.module is None:
        raise BadInput(
            f"{model.spec} is of format {model.artifact.format} and opens as no PyTorch module: it cannot be exported",
            remedy="give a PyTorch model; an ONNX file needs no export",
        )
    module = model.artifact.module()
    if getattr(module, "training", False):
        with contextlib.suppress(NotImplementedError):  # an exported program has one mode only
            module.eval()
    return module


def _workspace(out_path: Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder beside the target: fails before the long run when nothing can be written there."""
    if out_path.is_dir():
        raise BadInput(f"{out_path} is a folder", remedy=f"-o {out_path / 'model.onnx'}")
    try:
        out_path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=f".{out_path.name}-", dir=out_path.parent)
    except OSError as error:
        raise StorageFailed(
            f"nothing can be written to {out_path.parent}: {error.strerror or error}",
            remedy="choose another folder with -o",
        ) from None


def output_axes_of(reference: Reference, trials: tuple[Trial, ...]) -> tuple[dict[str, int | None], list[str]]:
    """The batch axis of every output, from PyTorch at two batch sizes."""
    plan = reference.plan
    base = trials[0].reference
    if plan.batch_name is not None:
        other = next(t for t in trials if t.dim == plan.batch_name)
        return batch_axes(base, other.reference, (plan.batch, other.sizes[plan.batch_name])), []
    grown = {
        s.name: _one_more(trials[0].feed[s.name], s.batch_axis) if s.batch_axis is not None else trials[0].feed[s.name]
        for s in plan.specs
    }
    if all(s.batch_axis is None for s in plan.specs):
        return dict.fromkeys(base), ["no input has a batch axis, so neither has any output"]
    try:
        return batch_axes(base, reference.run(grown), (plan.batch, plan.batch + 1)), []
    except BadInput:
        return dict.fromkeys(base), [f"PyTorch does not accept a batch of {plan.batch + 1}: no output has a batch axis"]


def _one_more(array: Array, axis: int) -> Array:
    """The array with its last row along ``axis`` once more."""
    import numpy as np

    return np.concatenate([array, array.take([-1], axis)], axis)


def _attempt_all(job: _Job, tries: tuple[Attempt, ...], folder: Path) -> tuple[_Made, Attempt, list[str]]:
    """The first attempt that succeeds; the reasons of those before it become notes."""
    notes: list[str] = []
    for number, attempt in enumerate(tries):
        place = folder / str(number)
        place.mkdir()
        try:
            made = _attempt(job, attempt, place)
        except ExportFailed as error:
            notes.append(f"{attempt.exporter} was tried first: {error.message}")
            if number + 1 < len(tries):
                continue
            if len(tries) > 1:
                raise ExportFailed(
                    f"neither exporter could do it; {tries[0].exporter}: {notes[0].partition(': ')[2]}; "
                    f"{attempt.exporter}: {error.message}",
                    remedy=error.remedy,
                ) from error
            raise
        return made, replace(attempt, why=notes[-1] if notes else attempt.why), notes
    raise ExportFailed("no exporter was tried")


def _attempt(job: _Job, attempt: Attempt, folder: Path) -> _Made:
    """Export, check, compare, simplify, compare again."""
    raw, slim = folder / "raw.onnx", folder / "slim.onnx"
    traced, log = _export(job, attempt, raw)
    opset = opset_of(raw)
    if opset != attempt.opset:
        raise ExportFailed(
            f"opset {attempt.opset} was asked for, the {attempt.exporter} exporter wrote {opset}",
            remedy="--exporter torchscript" if attempt.exporter == "dynamo" else "--exporter dynamo",
        )
    model = load_model(raw, external_data=True)
    said = check_inputs(model, job.reference.plan)
    if job.reference.needs_wrapper:
        strip_prefix(model)
    declare(model, job.reference.plan, job.axes, job.trials)
    weights = strip_weights(model, _parameter_names(job.reference.module)) if not job.options.params else {}
    checked = folder / "checked.onnx"
    save_model(model, checked, job.options.external_data_threshold)
    found = problems(checked)
    if found:
        raise ExportFailed(f"the {attempt.exporter} exporter wrote an invalid file: {'; '.join(found)}")
    comparison, proofs, more = prove(checked, job.trials, job.reference, job.run, weights)
    passes, why = _passes(job)
    if not passes:
        notes = (*said, *more, *why, *_about_weights(weights))
        return _Made(checked, opset, proofs, (), comparison, notes, traced, log)
    present = set(read_signature(checked).input_names)
    feeds = [{n: a for n, a in t.feed.items() if n in present} for t in job.trials]
    result = simplify(checked, slim, passes, job.run, feeds, job.options.external_data_threshold)
    comparison, proofs, more = prove(slim, job.trials, job.reference, job.run)
    return _Made(slim, opset, proofs, result.passes, comparison, (*said, *more), traced, log)


def _export(job: _Job, attempt: Attempt, path: Path) -> tuple[tuple[str, ...], str]:
    """Run the exporter; what the tracer warned about in the user's code, and all it said."""
    reference, plan = job.reference, job.reference.plan
    wrapped = reference.needs_wrapper
    assert reference.names is not None
    request = ExportRequest(
        module=wrap(reference.module, plan.bindings) if wrapped else reference.module,
        example=reference.tensors(job.trials[0].feed),
        plan=plan,
        output_names=reference.names,
        output_axes=tuple(job.axes[n] for n in reference.names),
        opset=attempt.opset,
        constant_folding=job.options.constant_folding,
        custom=job.custom,
        varargs=wrapped,
    )
    exporter: Exporter = resolve(EXPORTERS, attempt.exporter, "exporter")
    with quiet(_LOGGERS) as chatter:
        try:
            exporter(request, path)
        except AssayError:
            raise
        except OSError as error:
            raise StorageFailed(f"{path.parent.parent} could not be written: {error.strerror or error}") from error
        except Exception as error:  # torch raises many kinds, and all mean the same here
            raise ExportFailed(
                f"the {attempt.exporter} exporter failed: {type(error).__name__}: {_gist(error)}",
                remedy="give the missing operator a translation with --custom-op FILE.py, or try the other exporter",
            ) from error
    traced = [w for w in chatter.warnings if w.startswith("TracerWarning") and _INSIDE_TORCH not in w]
    return tuple(f"the trace may hold for the example only: {w.partition(': ')[2]}" for w in traced), chatter.text


def _gist(error: Exception) -> str:
    """The root cause's message on one line: torch wraps the reason in pages of advice and colours."""
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    return " ".join(_COLOURS.sub("", str(root)).split())[:300]


def _passes(job: _Job) -> tuple[tuple[str, ...], list[str]]:
    if not job.options.passes:
        return (), []
    if not job.options.constant_folding:
        return (), [f"constant folding is off, so no pass was run ({', '.join(job.options.passes)})"]
    if not job.options.params:
        return (), [f"there are no weights in the file, so no pass was run ({', '.join(job.options.passes)})"]
    return job.options.passes, []


def _about_weights(weights: Mapping[str, Array]) -> list[str]:
    return [f"{len(weights)} weights are inputs of the file"] if weights else []


def _parameter_names(module: Any) -> set[str]:
    return {n for n, _ in module.named_parameters()} | {n for n, _ in module.named_buffers()}


def _warnings(job: _Job, made: _Made) -> tuple[str, ...]:
    found = [
        f"output {name!r} is the same for every input: comparing it shows nothing (vacuous); check the weights"
        for name in vacuous(job.trials, job.axes)
    ]
    lost = [p for p in made.passes if p.status != KEPT]
    found += [f"the pass {p.name} was {p.status.replace('_', ' ')}: {p.reason}" for p in lost]
    return (*found, *made.traced)
