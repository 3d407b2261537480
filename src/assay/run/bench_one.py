"""``assay bench``: one MODEL on one engine, pressed at every batch size in a process of its own."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from assay.core import child
from assay.core.engine import OpenOptions
from assay.core.record import Record
from assay.core.workload import StopRule, Workload
from assay.measure.environment import environment
from assay.run.dataset import open_data
from assay.run.progress import Progress
from assay.run.request import Objects, RunRequest
from assay.run.single import Prepared, Wanted, prepare
from assay.run.stages.measure import FEED_ROWS
from assay.run.trial import Measured, Opening, Trial
from assay.sources import SourceOptions


@dataclass(frozen=True)
class Bench:
    """What to measure; ``within`` is the relative half-width at which a measurement may stop early."""

    model: str
    data: str | None = None
    scenario: str = "latency"
    engine: str | None = None
    precision: str = "fp32"
    device: str = "cpu"
    threads: int | None = None
    batches: tuple[int, ...] = (1, 8)
    duration_s: float = 3.0
    within: float = 0.02


def bench_one(asked: Bench, source: SourceOptions, progress: Progress) -> list[Record]:
    """One Record per batch size."""
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as folder:
        options = OpenOptions(precision=asked.precision, device=asked.device, threads=asked.threads)
        here = replace(source, out_dir=Path(folder))
        progress.stage("open", asked.model)
        ready = prepare(Wanted(asked.model, asked.engine, options), here)
        progress.done(ready.candidate.label)
        request = RunRequest(asked.model, Path(folder), data=asked.data, seed=source.seed)
        data = open_data(request, Objects(), ready.model, ready.signature)
        stop = StopRule(max_s=asked.duration_s, within=asked.within)
        workloads = tuple(Workload(asked.scenario, b, stop, seed=source.seed) for b in asked.batches)
        feeds = {b: data.feeds(b, FEED_ROWS) for b in asked.batches}
        progress.stage("measure", f"{asked.scenario}, batch {', '.join(map(str, asked.batches))}")
        measured = _in_child(ready, Opening(asked.model, here), Trial(workloads, feeds))
        progress.done("done")
        return [_record(ready, w, measured, {"data": data.name, "real_data": data.real}) for w in workloads]


def _in_child(ready: Prepared, opening: Opening, trial: Trial) -> Measured:
    artifact = ready.candidate.artifact
    portable = replace(ready.candidate, artifact=replace(artifact, module=None))
    arguments = {"candidate": portable, "opening": opening if artifact.module else None, "trial": trial}
    found = child.run("assay.run.trial:measure_candidate", arguments).value
    assert isinstance(found, Measured)
    return found


def _record(ready: Prepared, workload: Workload, measured: Measured, data: dict[str, object]) -> Record:
    case = (workload.scenario, workload.batch)
    subject = ready.candidate.subject(ready.model.name, workload.batch)
    conditions = {**workload.conditions(), **data}
    if case in measured.refused:
        return Record("measure", subject, status="failed", reason=measured.refused[case], conditions=conditions)
    found = measured.measurements[case]
    return Record(
        "measure",
        subject,
        figures={**found.figures, "memory.peak": measured.peak_rss},
        conditions=conditions,
        environment={**environment(), **measured.environment},
        label=found.label,
        warnings=found.warnings,
        details={"label_reason": found.label_reason, "warmup_calls": found.warmup_calls},
    )
