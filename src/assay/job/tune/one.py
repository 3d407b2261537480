"""``assay tune``: the best configuration of a model on this machine within a budget, proved before it wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from assay.bundle.manifest import write_manifest
from assay.core import clock
from assay.core.engine import Candidate
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.core.verdict import Verdict
from assay.job.context import Context, Data
from assay.job.dataset import check_data, kept, open_data
from assay.job.folder import RunFolder, write_json
from assay.job.opening import check_device, known_engines, reference_candidate, written_in
from assay.job.pipeline import RunResult, about_run, another_run, open_model
from assay.job.progress import Progress, Silent
from assay.job.request import Objects
from assay.job.stages.build import build
from assay.job.stages.convert import convert
from assay.job.stages.export import export
from assay.job.stages.measure import Baselines, confirm
from assay.job.stages.quantize import check_int8, quantize
from assay.job.stages.report import report
from assay.job.tune.baselines import baselines, begin_compile
from assay.job.tune.front import Member, pareto
from assay.job.tune.proof import Proved, context_of, prove
from assay.job.tune.request import TuneRequest, Tuning
from assay.job.tune.search import Moments, Searched, search_in, set_space
from assay.job.tune.tail import Tail
from assay.job.tune.trials import Scene, Trials
from assay.job.tune.verdict import nothing_won, verdict_on
from assay.measure.environment import device_name, environment
from assay.search.standing import Standing

GAINS = {"torch_compile": "speedup.torch_compile", "eager": "speedup.eager"}


@dataclass(frozen=True)
class TuneResult(RunResult):
    """A run's result; ``tuned`` holds what the search came to (see ``docs/tune.md``)."""

    tuned: dict[str, Any] = field(default_factory=dict)


def tune(request: TuneRequest, objects: Objects | None = None, progress: Progress | None = None) -> TuneResult:
    """Export → build → search → finals → proof of the winner → baselines → fresh run → verdict → report.

    Everything is kept in the run folder; a second call with the same settings uses the trials that are there.
    Raises BadInput, NotAvailable, StorageFailed and friends before the long part wherever possible.
    """
    request = request.agreed()
    effort = replace(request.run.effort, budget_s=request.tuning.budget_s)
    run, progress, objects = replace(request.run, effort=effort), progress or Silent(), kept(objects or Objects())
    started_s = clock.now()
    if run.engines is not None:
        known_engines(run.engines)
    check_device(run.engines, run.device)
    with RunFolder(run.out) as folder:
        progress.stage("open", run.model)
        model = open_model(run, objects, folder.artifacts)
        progress.done(f"{model.name}: {model.weights}")
        ctx = Context(run, objects, folder, progress, model, environment(), device_name(run.device), started_s)
        for text in (*folder.notes, *model.warnings, *another_run(folder.path, model)):
            ctx.warn(text)
        return _tune(ctx, request.tuning)


def _tune(ctx: Context, tuning: Tuning) -> TuneResult:
    _refuse_drop(ctx, tuning)
    check_data(ctx.request, ctx.objects, ctx.model)
    check_int8(ctx.request, ctx.objects, written_in(ctx.model))
    exported = export(ctx)
    data = open_data(ctx.request, ctx.objects, ctx.model, exported.signature)
    for text in data.warnings:
        ctx.warn(text)
    exported, data = quantize(ctx, exported, data)
    exported = convert(ctx, exported)
    reference = reference_candidate(ctx.model, exported.onnx, exported.signature, ctx.device_name)
    ctx.reference = reference.label
    ctx.pace.share_out()
    with Trials(ctx, Scene(exported, data, reference), tuning.objective, ctx.pace.ends_s) as trials:
        trials.prepare()
        set_space(trials, build(ctx, exported, tuning.shares.build), tuning)
        tail = Tail(trials, tuning)
        moments = Moments(ctx.started_s, tuning.budget_s, clock.now())
        ends = (moments.at(tuning.shares.search), moments.at(tuning.shares.finals))
        searched = search_in(ctx, trials, tuning, ends, tail.reserve_s)
        _keep(ctx, searched)
        proved = _proved(tail, searched, moments)
    if proved.winner is None:
        verdict = nothing_won(searched.found, proved.refused, tuning.objective, proved.unproved)
        return _result(ctx, tuning, searched, (proved, [], verdict))
    published = _published(proved, tail, data)
    records = ctx.folder.current()
    verdict = verdict_on(proved.candidate, proved.winner.point.batch, records, (ctx.request.policy, tuning.objective))
    return _result(ctx, tuning, searched, (proved, published, verdict))


def _published(proved: _Won, tail: Tail, data: Data) -> list[Record]:
    """A fresh run of the winner; where none fits into the budget any more, its longest trial."""
    winner, ctx = proved.winner, proved.ctx
    assert winner is not None
    seconds = tail.confirm_for(winner.point)
    if seconds is not None:
        left = max(1.0, ctx.pace.left())
        effort = replace(ctx.request.effort, confirm_s=seconds, build_timeout_s=left)
        ctx = replace(ctx, request=replace(ctx.request, effort=effort))
        return confirm(ctx, proved.candidate, data, winner.point.batch, proved.baselines)
    ctx.pace.cut.append("a fresh run of the winner: the figures are those of its longest trial, by which it was chosen")
    trials = [r for r in ctx.folder.current() if r.id in winner.records and r.kind == "measure"]
    return [replace(r, figures={**r.figures, **proved.baselines.figures(r)}) for r in trials]


def _refuse_drop(ctx: Context, tuning: Tuning) -> None:
    """A drop that nothing can show would make the whole search for nothing."""
    limit = tuning.objective.limit("accuracy.drop")
    if limit is None or ctx.objects.data is not None:
        return
    if ctx.request.data in (None, "synthetic"):
        raise BadInput(
            f"{limit.text!r} needs an accuracy, and there are no real data", remedy="--data DATA with targets"
        )
    if ctx.model.randomised:
        raise BadInput(f"{limit.text!r} needs an accuracy, and the weights are randomised", remedy="--weights FILE")


@dataclass(frozen=True)
class _Won:
    """What the proof left: the winner (None: nobody) with its context, and what its gains are over."""

    ctx: Context
    winner: Standing | None
    mapped: Any
    refused: tuple[str, ...]
    baselines: Baselines = field(default_factory=Baselines)
    unproved: str | None = None

    @property
    def candidate(self) -> Candidate:
        assert self.winner is not None
        found: Candidate = self.mapped.candidate(self.winner.point)
        return found


def _proved(tail: Tail, searched: Searched, moments: Moments) -> _Won:
    """Compare and evaluate the leaders in their order until one passes; meanwhile torch.compile compiles."""
    trials, tuning = tail.trials, tail.tuning
    ctx, order = trials.ctx, searched.finals.order
    if not order:
        return _Won(ctx, None, searched.mapped, ())
    compiled_s = moments.at(tuning.shares.compiled)
    compiling = begin_compile(trials, order[0].point.batch, min(compiled_s, ctx.pace.ends_s - tail.after_s()))
    found: Proved = prove(ctx, order, tuning.objective, tail)
    if found.winner is None:
        return _Won(ctx, None, searched.mapped, found.refused, unproved=found.unproved)
    batch = found.winner.point.batch
    if compiling.candidate is not None and batch != order[0].point.batch:
        trials.worker(compiling.candidate.engine).end()
        compiling.why_not, compiling.order = "the batch size it was compiled for did not win", None
    ctx.progress.stage("baseline", f"PyTorch eager and compiled, batch {batch}")
    bases = baselines(tail, compiling, batch, compiled_s)
    ctx.progress.done("measured" if bases.compiled else "eager measured" if bases.eager else "none was measured")
    candidate = trials.mapped.candidate(found.winner.point)
    own = context_of(ctx, candidate, batch, tuning.confirm_s)
    return _Won(own, found.winner, searched.mapped, found.refused, bases)


def _keep(ctx: Context, searched: Searched) -> None:
    """The duels' Records, and one that says what was searched and what was not."""
    found = searched.found
    summary = Record(
        "search",
        {"model": ctx.model.name, "device": ctx.request.device},
        conditions={"configurations": len(searched.mapped.space), "trials": found.trials, "complete": found.complete},
        environment=ctx.environment,
        details={
            "left": [vars(item) for item in found.left],
            "finals": list(searched.finals.said),
            "leaders": [str(s.point) for s in searched.finals.order],
        },
    )
    ctx.folder.save("tune-search", "each time anew", {}, [*searched.finals.records, summary])


def _result(
    ctx: Context, tuning: Tuning, searched: Searched, outcome: tuple[_Won, list[Record], Verdict]
) -> TuneResult:
    proved, confirmed, verdict = outcome
    for text in ctx.pace.cut:
        ctx.warn(f"left out for the budget: {text}")
    best = _best(proved, confirmed) if proved.winner is not None else None
    front = pareto(ctx.folder.current(), tuning.objective.scenario)
    tuned = _tuned(ctx, tuning, searched, (best, front, proved.refused))
    about = {**about_run(ctx, best), "tuned": tuned}
    write_json(ctx.folder.path / "verdict.json", verdict.to_json())
    report(ctx, verdict, about)
    write_json(ctx.folder.path / "run.json", about)
    made = {"schema": "assay.run/1", "command": ctx.request.command, "created": clock.timestamp()}
    write_manifest(ctx.folder.path, made)
    records = tuple(ctx.folder.current())
    missing, warnings = tuple(ctx.missing), tuple(ctx.warnings)
    return TuneResult(ctx.folder.path, verdict, best, records, missing, warnings, None, about, tuned)


def _best(proved: _Won, confirmed: Sequence[Record]) -> dict[str, Any]:
    """The ``best`` of ``--json``: the chosen configuration with all its settings, and its published figures."""
    winner, candidate = proved.winner, proved.candidate
    assert winner is not None
    figures = {
        f"{r.conditions['scenario']}.{name}": figure.to_json() for r in confirmed for name, figure in r.figures.items()
    }
    return {
        "candidate": candidate.digest,
        "label": f"{candidate.label}, batch {winner.point.batch}",
        "engine": candidate.engine,
        "precision": candidate.options.precision,
        "batch": winner.point.batch,
        "options": candidate.options.to_json(),
        "figures": figures,
    }


def _tuned(
    ctx: Context,
    tuning: Tuning,
    searched: Searched,
    came: tuple[dict[str, Any] | None, Sequence[Member], Sequence[str]],
) -> dict[str, Any]:
    best, front, refused = came
    found = searched.found
    figures = (best or {}).get("figures", {})
    gains = {name: figures.get(f"{tuning.objective.scenario}.{figure}") for name, figure in GAINS.items()}
    return {
        "objective": tuning.objective.text,
        "budget_s": tuning.budget_s,
        "spent_s": round(clock.now() - ctx.started_s, 1),
        "configurations": len(searched.mapped.space),
        "tried": len(found.standings),
        "trials": found.trials,
        "complete": found.complete,
        "gains": gains,
        "front": [member.to_json() for member in front],
        "left": [vars(item) for item in found.left],
        "refused": list(refused),
        "finals": list(searched.finals.said),
        "so_far": str(found.best.point) if found.best is not None else None,
        "cut": list(ctx.pace.cut),
    }
