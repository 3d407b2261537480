"""Stage: latency and throughput of a candidate at every batch size, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.core import child
from assay.core.engine import Candidate
from assay.core.errors import AssayError
from assay.core.record import Figure, Record, withheld
from assay.core.workload import StopRule, Workload
from assay.job.context import Context, Data
from assay.job.keys import stage_key
from assay.job.stages.under_way import portable
from assay.job.trial import Measured, Trial, measure_candidate
from assay.judge.derive import speedup
from assay.measure.raw import save_raw

FEED_ROWS = 32
CONFIRM = "confirm"


BASELINE_ROLE = "baseline"


@dataclass(frozen=True)
class Baselines:
    """What speed-ups are over: the run's reference (PyTorch, run eagerly), and torch.compile."""

    eager: Sequence[Record] = ()
    compiled: Sequence[Record] = ()

    def figures(self, record: Record) -> dict[str, Figure]:
        """The speed-ups over each at the same batch and scenario, where there is one."""
        found = {}
        for name, baseline in (("speedup.eager", self.eager), ("speedup.torch_compile", self.compiled)):
            for base in baseline:
                if all(base.conditions.get(k) == record.conditions.get(k) for k in ("batch", "scenario")):
                    found[name] = speedup(record, base)
                    break
        return found


def measure(
    ctx: Context, candidate: Candidate, data: Data, baselines: Baselines, role: str | None = None
) -> list[Record]:
    """Measure at every batch size asked for, with the speed-ups over ``baselines``; ``role`` is kept in the
    Records' details."""
    stage = f"measure-{candidate.engine}-{candidate.options.precision}"
    workloads = [
        Workload(scenario, batch, StopRule(max_s=ctx.request.effort.measure_s), seed=ctx.request.seed)
        for batch in ctx.batches(data.signature)
        for scenario in ("latency", "offline")
    ]
    ctx.progress.stage("measure", candidate.label)
    found, unchanged = _saved(ctx, stage, (candidate, data, workloads), baselines, role)
    ctx.done(_summary(found), unchanged=unchanged)
    return found


def confirm(ctx: Context, candidate: Candidate, data: Data, batch: int, baselines: Baselines) -> list[Record]:
    """Measure the chosen configuration afresh: these figures are published, not those it was chosen by.

    A winner is, among others, the luckiest of its measurements; the fresh run has no such luck.
    """
    workloads = [
        Workload(scenario, batch, StopRule(max_s=ctx.request.effort.confirm_s), seed=ctx.request.seed + 1)
        for scenario in ("latency", "offline")
    ]
    ctx.progress.stage("confirm", f"{candidate.label}, batch {batch}")
    found, unchanged = _saved(ctx, CONFIRM, (candidate, data, workloads), baselines)
    ctx.done(_summary(found), unchanged=unchanged)
    _warn_if_moved(ctx, candidate, found)
    return found


def _warn_if_moved(ctx: Context, candidate: Candidate, confirmed: Sequence[Record]) -> None:
    """Say so when the fresh run and the one the choice rests on do not agree within their intervals."""
    for fresh in confirmed:
        for before in ctx.folder.current():
            same = all(before.conditions.get(k) == fresh.conditions.get(k) for k in ("batch", "scenario"))
            mine = before.kind == "measure" and before.subject.get("candidate") == candidate.digest
            if mine and same and _disjoint(before.figures.get("throughput"), fresh.figures.get("throughput")):
                ctx.warn(
                    f"{candidate.label}, batch {fresh.conditions['batch']}, {fresh.conditions['scenario']}: chosen at "
                    f"{before.value('throughput'):.4g} samples/s, the fresh run gave {fresh.value('throughput'):.4g}; "
                    "the machine was not quiet, or the first figure was luck"
                )


def _disjoint(a: Figure | None, b: Figure | None) -> bool:
    if a is None or b is None or a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.high < b.low or b.high < a.low


def _saved(
    ctx: Context,
    stage: str,
    work: tuple[Candidate, Data, list[Workload]],
    baselines: Baselines,
    role: str | None = None,
) -> tuple[list[Record], bool]:
    """The Records, and whether they are the last run's."""
    candidate, data, workloads = work
    kind = CONFIRM if stage == CONFIRM else "measure"
    against = [r.id for r in (*baselines.eager, *baselines.compiled)]
    settings = [w.conditions() for w in workloads]
    key = stage_key(kind, ctx.environment, candidate.digest, data.name, data.identity, settings, against, role)
    saved = ctx.folder.finished(stage, key)
    unchanged = saved is not None
    if saved is None:
        told = {"role": role} if role else {}
        records = [
            replace(r, kind=kind, figures={**r.figures, **baselines.figures(r)}, details={**r.details, **told})
            for r in _measure(ctx, candidate, data, workloads)
        ]
        saved = ctx.folder.save(stage, key, {}, records)
    return ctx.folder.records_of(saved), unchanged


def _measure(ctx: Context, candidate: Candidate, data: Data, workloads: list[Workload]) -> list[Record]:
    feeds = {w.batch: data.feeds(w.batch, FEED_ROWS) for w in workloads}
    common = data.conditions
    try:
        measured = run_trial(ctx, candidate, Trial(tuple(workloads), feeds))
    except AssayError as error:
        return [
            Record(
                "measure",
                candidate.subject(ctx.model.name, w.batch),
                status="failed",
                reason=error.message,
                conditions={**w.conditions(), **common},
                environment=ctx.environment,
            )
            for w in workloads
        ]
    return [_record(ctx, candidate, w, measured, common) for w in workloads]


def run_trial(ctx: Context, candidate: Candidate, trial: Trial) -> Measured:
    """In a child process where the candidate can be opened from files or a name; else in this one."""
    given = portable(ctx, candidate)
    if given is None:
        found = measure_candidate(candidate, None, trial)
        return replace(
            found, peak_rss=withheld("B", "measured in the caller's process: its memory is not the model's alone")
        )
    outcome = child.run(
        "assay.job.trial:measure_candidate",
        {**given, "trial": trial},
        child.Limits(timeout_s=ctx.request.effort.build_timeout_s),
    )
    found = outcome.value
    assert isinstance(found, Measured)
    return found


def _record(
    ctx: Context, candidate: Candidate, workload: Workload, measured: Measured, common: Mapping[str, Any]
) -> Record:
    key = (workload.scenario, workload.batch)
    if key in measured.refused:
        return Record(
            "measure",
            candidate.subject(ctx.model.name, workload.batch),
            status="failed",
            reason=measured.refused[key],
            conditions={**workload.conditions(), **common},
            environment=ctx.environment,
        )
    found = measured.measurements[key]
    name = f"{candidate.digest[:12]}-{workload.scenario}-b{workload.batch}-seed{workload.seed}"
    raw = save_raw(ctx.folder.path, name, found)
    figures: dict[str, Figure] = {**found.figures, "memory.peak": measured.peak_rss}
    if key in measured.padding:
        figures["padding.share"] = Figure(measured.padding[key], "fraction")
    return Record(
        "measure",
        candidate.subject(ctx.model.name, workload.batch),
        figures=figures,
        conditions={**workload.conditions(), **common, "parallelism": measured.parallelism},
        environment={**ctx.environment, **measured.environment},
        label=found.label,
        warnings=found.warnings,
        raw=raw,
        details={"label_reason": found.label_reason, "warmup_calls": found.warmup_calls},
    )


def _summary(records: Sequence[Record]) -> str:
    failed = [r for r in records if r.status != "ok"]
    if failed:
        return f"failed: {failed[0].reason}"
    offline = [r for r in records if r.conditions.get("scenario") == "offline"]
    best = max((r.value("throughput") or 0.0 for r in offline), default=0.0)
    return f"up to {best:.1f} samples/s"
