"""The main job.  This file is the only place where the order of the stages lives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay._version import __version__
from assay.bundle.manifest import write_manifest
from assay.core import clock
from assay.core.engine import Candidate
from assay.core.errors import EXIT_NOT_AVAILABLE, BadInput
from assay.core.model import Model
from assay.core.record import Record
from assay.core.verdict import Verdict
from assay.job.context import Context, Data, Exported
from assay.job.dataset import check_data, kept, open_data
from assay.job.folder import RunFolder, read_about, write_json
from assay.job.opening import check_device, known_engines, reference_candidate, written_in
from assay.job.pictures import save_pictures
from assay.job.progress import Progress, Silent
from assay.job.request import BASELINE, Objects, RunRequest
from assay.job.stages.baseline import compiled_baseline
from assay.job.stages.buckets import prove_buckets
from assay.job.stages.build import build
from assay.job.stages.choose import best_json, choose, judge
from assay.job.stages.convert import convert
from assay.job.stages.evaluate import evaluate
from assay.job.stages.export import export
from assay.job.stages.in_time import candidate_in_time, one_of_each_first
from assay.job.stages.measure import Baselines, confirm, measure
from assay.job.stages.quantize import check_int8, quantize
from assay.job.stages.report import drop_bundle, pack, report
from assay.job.stages.verify import verify
from assay.job.tune.run import tuned
from assay.job.tune.trials import Scene
from assay.measure.environment import device_name, environment
from assay.sources import from_module, resolve_model


@dataclass(frozen=True)
class RunResult:
    """What a run came to.  ``missing`` lists what was asked for by name and is not available here."""

    folder: Path
    verdict: Verdict
    best: dict[str, Any] | None
    records: tuple[Record, ...]
    missing: tuple[str, ...]
    warnings: tuple[str, ...]
    bundle: Path | None
    about: dict[str, Any]

    @property
    def exit_code(self) -> int:
        nothing_built = not any(r.kind == "verify" for r in self.records)
        if self.missing and (self.verdict.passed or nothing_built):
            return EXIT_NOT_AVAILABLE
        return self.verdict.exit_code


def run(request: RunRequest, objects: Objects | None = None, progress: Progress | None = None) -> RunResult:
    """Export → verify → build → evaluate → measure → choose → judge → report → pack, into one folder.

    A folder that already holds this run is resumed: stages whose key is unchanged are skipped.
    Raises BadInput, NotAvailable, StorageFailed and friends before the long part wherever possible.
    """
    objects = kept(objects or Objects())
    progress = progress or Silent()
    if request.engines is not None:
        known_engines(request.engines)
    check_device(request.engines, request.device)
    with RunFolder(request.out) as folder:
        progress.stage("open", request.model)
        model = open_model(request, objects, folder.artifacts)
        progress.done(f"{model.name}: {model.weights}")
        ctx = Context(
            request, objects, folder, progress, model, environment(), device_name(request.device), clock.now()
        )
        for text in (*folder.notes, *model.warnings, *another_run(folder.path, model)):
            ctx.warn(text)
        return _run(ctx)


def another_run(folder: Path, model: Model) -> list[str]:
    """Say so when the folder holds another model's run: its Records stay, but the reports will be this one's."""
    file = folder / "run.json"
    if not file.is_file():
        return []
    try:
        before = read_about(file)
    except BadInput as error:
        return [f"{error.message}; it is written anew"]
    if (before.get("model"), before.get("spec")) == (model.name, model.spec):
        return []
    return [f"{folder} held a run of {before.get('model')} ({before.get('spec')}); its reports are replaced"]


def open_model(request: RunRequest, objects: Objects, artifacts: Path) -> Model:
    options = request.source_options(artifacts)
    if objects.module is not None:
        return from_module(objects.module, request.model, objects.example, options)
    return resolve_model(request.model, options)


def _run(ctx: Context) -> RunResult:
    check_data(ctx.request, ctx.objects, ctx.model)
    check_int8(ctx.request, ctx.objects, written_in(ctx.model))
    exported = export(ctx)
    data = open_data(ctx.request, ctx.objects, ctx.model, exported.signature)
    for text in data.warnings:
        ctx.warn(text)
    exported, data = quantize(ctx, exported, data)
    exported = convert(ctx, exported)
    ctx.pace.share_out()
    found = (ctx.model, exported.onnx, exported.signature)
    reference = reference_candidate(*found, ctx.device_name, ctx.request.threads)
    ctx.reference = reference.label
    candidates = tuned(ctx, Scene(exported, data, reference), build(ctx, exported))
    candidates = prove_buckets(ctx, exported, candidates, data)
    for candidate in one_of_each_first(ctx, [(c.engine, c) for c in candidates]):
        if candidate_in_time(ctx, candidate, "verify"):
            with ctx.pace.timed("verify"):
                verify(ctx, exported, _compared_with(candidate, reference, candidates), candidate, data)
    healthy = [c for c in candidates if _ran(ctx, c)]
    if healthy:
        with ctx.pace.timed("evaluate"):
            evaluate(ctx, reference, reference, data)
    scored = [c for c in healthy if c.digest == reference.digest]
    others = [(c.engine, c) for c in healthy if c.digest != reference.digest]
    for candidate in one_of_each_first(ctx, others):
        if candidate_in_time(ctx, candidate, "evaluate"):
            with ctx.pace.timed("evaluate"):
                evaluate(ctx, candidate, reference, data)
            scored.append(candidate)
    baselines = _measure_all(ctx, exported, scored or healthy, reference, data)
    choice = choose(ctx, candidates)
    confirmed: list[Record] = []
    chosen = next((c for c in candidates if c.digest == choice.candidate), None)
    if chosen is not None and choice.batch is not None:
        confirmed = confirm(ctx, chosen, data, choice.batch, baselines)
    verdict = judge(ctx, exported, choice, candidates)
    if chosen is None:
        drop_bundle(ctx)
    best = best_json(choice, candidates, confirmed)
    about = about_run(ctx, best)
    save_pictures(ctx.folder.path, ctx.folder.current(), data.reader, ctx.model.labels)
    report(ctx, verdict, about)
    bundle = pack(ctx, chosen, exported, data, verdict) if chosen is not None else None
    write_json(ctx.folder.path / "run.json", about)
    write_manifest(
        ctx.folder.path, {"schema": "assay.run/1", "command": ctx.request.command, "created": clock.timestamp()}
    )
    return RunResult(
        ctx.folder.path,
        verdict,
        best,
        tuple(ctx.folder.current()),
        tuple(ctx.missing),
        tuple(ctx.warnings),
        bundle,
        about,
    )


def _compared_with(candidate: Candidate, reference: Candidate, candidates: list[Candidate]) -> Candidate:
    """The reference; for the reference itself another engine's candidate in its precision, where there is one.

    Comparing a file with itself on one engine would show nothing.
    """
    if candidate.digest != reference.digest:
        return reference
    precision = candidate.options.precision
    others = [c for c in candidates if c.engine != candidate.engine and c.options.precision == precision]
    return others[0] if others else reference


def _measure_all(
    ctx: Context, exported: Exported, candidates: list[Candidate], reference: Candidate, data: Data
) -> Baselines:
    """The baselines first, since the others' speed-ups are over them: the reference, then torch.compile."""
    baselines = Baselines()
    for candidate in sorted(candidates, key=lambda c: _measured_early(c, reference)):
        is_reference = candidate.digest == reference.digest
        if not candidate_in_time(ctx, candidate, "measure"):
            continue
        with ctx.pace.timed("measure"):
            found = measure(ctx, candidate, data, baselines)
        if is_reference:
            compiled = compiled_baseline(ctx, exported, reference, data, found) if not ctx.out_of_time() else []
            baselines = Baselines(found, compiled)
        elif (candidate.engine, candidate.options.precision) == (BASELINE, "fp32"):
            baselines = replace(baselines, compiled=found)
    return baselines


def _measured_early(candidate: Candidate, reference: Candidate) -> int:
    if candidate.digest == reference.digest:
        return 0
    return 1 if (candidate.engine, candidate.options.precision) == (BASELINE, "fp32") else 2


def _ran(ctx: Context, candidate: Candidate) -> bool:
    """Whether the candidate could be compared at all; how it fared is for the judge."""
    return any(
        r.kind == "verify" and r.status == "ok" and r.subject.get("candidate") == candidate.digest
        for r in ctx.folder.current()
    )


def about_run(ctx: Context, best: dict[str, Any] | None) -> dict[str, Any]:
    """What ``run.json`` says of a run or a tuning; ``best`` is what was chosen, None where nothing was."""
    model = ctx.model
    return {
        "schema": "assay.run/1",
        "assay": __version__,
        "command": ctx.request.command,
        "model": model.name,
        "spec": model.spec,
        "weights": model.weights,
        "randomised": model.randomised,
        "runs_code": list(model.runs_code),
        "warnings": list(ctx.warnings),
        "missing": list(ctx.missing),
        "environment": dict(ctx.environment),
        "device": ctx.request.device,
        "best": best,
        "records": [r.id for r in ctx.folder.current()],
    }
