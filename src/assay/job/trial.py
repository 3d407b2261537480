"""What runs in a child process of its own: building one engine file, measuring one candidate."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact
from assay.core.dataset import Item, Scored
from assay.core.engine import BuildOptions, Candidate, Session
from assay.core.errors import AssayError, EngineFailed
from assay.core.record import Figure
from assay.core.tensors import Array, Feed
from assay.core.workload import Workload
from assay.engines.buckets import BucketedSession
from assay.job.opening import engine, open_candidate
from assay.measure.accelerator import Watch
from assay.measure.environment import moment
from assay.measure.footprint import peak_rss
from assay.measure.latency import Measurement, measure_latency
from assay.measure.selfcheck import self_check
from assay.measure.throughput import measure_throughput
from assay.pipeline import Flow, Stages, Windows, sliding
from assay.pipeline.batch_work import Worker
from assay.pipeline.reading import Batch
from assay.pipeline.stopwatch import Stopwatch
from assay.sources import SourceOptions, resolve_model

Case = tuple[str, int]


@dataclass(frozen=True)
class Opening:
    """How to get a PyTorch module again in another process."""

    spec: str
    options: SourceOptions


@dataclass(frozen=True)
class Trial:
    """Workloads and, per batch size, the feeds they use."""

    workloads: tuple[Workload, ...]
    feeds: Mapping[int, Sequence[Feed]]


@dataclass(frozen=True)
class Measured:
    """What a trial found, per (scenario, batch); ``refused`` says why a case gave nothing, ``padding`` which
    part of the rows a session with buckets ran was padding."""

    measurements: Mapping[Case, Measurement]
    refused: Mapping[Case, str]
    peak_rss: Figure
    parallelism: int
    environment: Mapping[str, Any] = field(default_factory=dict)
    padding: Mapping[Case, float] = field(default_factory=dict)


def build_file(engine_name: str, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
    """Build one engine file (see Engine.build)."""
    out_dir.mkdir(parents=True, exist_ok=True)
    return engine(engine_name).build(artifact, options, out_dir)


def measure_candidate(candidate: Candidate, opening: Opening | None, trial: Trial) -> Measured:
    """Open the candidate, press it with every workload, say what it took."""
    candidate = with_module(candidate, opening) if opening else candidate
    measurements: dict[Case, Measurement] = {}
    refused: dict[Case, str] = {}
    padding: dict[Case, float] = {}
    with open_candidate(candidate) as session:
        for workload in trial.workloads:
            case = (workload.scenario, workload.batch)
            before = session.padding if isinstance(session, BucketedSession) else None
            try:
                with Watch(candidate.options.device) as watch:
                    pressed = _press(session, trial.feeds[workload.batch], workload)
                measurements[case] = watch.beside(pressed)
            except AssayError as error:
                refused[case] = error.message
            if before is not None and isinstance(session, BucketedSession):
                padding[case] = session.padding.since(before).share
        return Measured(measurements, refused, peak_rss(), session.parallelism, moment(), padding)


def try_out(candidate: Candidate, opening: Opening | None, feeds: Sequence[Feed]) -> None:
    """Open the candidate and do with it what a comparison does: every feed once, then the last in several ways.
    For finding out whether that ends at all."""
    with open_candidate(with_module(candidate, opening) if opening else candidate) as session:
        for feed in feeds:
            session.run(feed)
        if feeds:
            self_check(session, feeds[-1], math.inf)


def try_batches(candidate: Candidate, opening: Opening | None, batches: Sequence[Sequence[Item]], slide: bool) -> None:
    """Open the candidate and do with it what an evaluation does: all ``batches`` (of prepared samples) at a time.
    ``slide``: each sample in windows.  For finding out whether that ends at all."""
    with open_candidate(with_module(candidate, opening) if opening else candidate) as session:
        infer: Callable[[Feed], Mapping[str, Array]] = lambda feed: session.run(feed)  # noqa: E731
        signature = session.signature
        if slide:
            infer, signature = sliding(infer, signature, Windows())
        widest = signature.static_batch or max(map(len, batches), default=1)
        flow = Flow(max(1, sum(map(len, batches))), widest)
        stages = Stages(_nothing, lambda item, rows: item.content, infer, _unscored, signature)
        watch, permits = Stopwatch(), threading.Semaphore(max(1, len(batches)))
        with ThreadPoolExecutor(max(1, len(batches))) as pool:
            done = [pool.submit(Worker(stages, flow, watch, permits).work, Batch(0, 0, [*b])) for b in batches]
        for each in done:
            each.result()


def _nothing(start: int, stop: int) -> Iterator[Item]:
    return iter(())


def _unscored(ids: Sequence[str], outputs: Mapping[str, Any], targets: Sequence[Any]) -> list[Scored]:
    return [Scored(id, {}) for id in ids]


def _press(session: Session, feeds: Sequence[Feed], workload: Workload) -> Measurement:
    if workload.scenario == "latency":
        return measure_latency(session, feeds, workload)
    return measure_throughput(session, feeds, workload)


def with_module(candidate: Candidate, opening: Opening) -> Candidate:
    """The candidate with its module rebuilt here; it must be the very same one."""
    model = resolve_model(opening.spec, opening.options)
    if model.artifact.sha256 != candidate.artifact.sha256:
        raise EngineFailed(
            f"{opening.spec} gave another model when it was made again (weights or code differ)",
            remedy="make its construction deterministic, for example by seeding it",
        )
    artifact = replace(candidate.artifact, module=model.artifact.module)
    return replace(candidate, artifact=artifact)
