"""``assay evaluate``: one MODEL on one engine, scored over a dataset."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from assay.core.engine import OpenOptions
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.measure.accuracy import evaluate_session, save_predictions
from assay.measure.environment import environment
from assay.run.dataset import open_data
from assay.run.opening import open_candidate
from assay.run.progress import Progress
from assay.run.request import Objects, RunRequest
from assay.run.single import Wanted, prepare
from assay.run.user_code import user_transform
from assay.sources import SourceOptions


@dataclass(frozen=True)
class Evaluation:
    """What to evaluate; ``out`` receives the per-sample predictions."""

    model: str
    data: str
    labels: Path | None = None
    engine: str | None = None
    precision: str = "fp32"
    device: str = "cpu"
    batch: int = 32
    limit: int | None = None
    preprocess: str | None = None
    out: Path | None = None


def evaluate_one(asked: Evaluation, source: SourceOptions, progress: Progress) -> Record:
    """Raises BadInput where the data cannot give an accuracy (synthetic, no targets, randomised weights)."""
    with tempfile.TemporaryDirectory(prefix="assay-evaluate-") as folder:
        options = OpenOptions(precision=asked.precision, device=asked.device)
        progress.stage("open", asked.model)
        ready = prepare(Wanted(asked.model, asked.engine, options), replace(source, out_dir=Path(folder)))
        progress.done(f"{ready.candidate.label}; {ready.model.weights}")
        request = RunRequest(asked.model, Path(folder), data=asked.data, labels=asked.labels)
        objects = Objects(preprocess=user_transform(asked.preprocess) if asked.preprocess else None)
        data = open_data(request, objects, ready.model, ready.signature)
        if data.task is None or data.reader is None:
            raise BadInput(f"accuracy cannot be evaluated: {data.not_evaluated}")
        total = min(len(data.reader), asked.limit or len(data.reader))
        progress.stage("evaluate", f"{total} samples")
        with open_candidate(ready.candidate) as session:
            found = evaluate_session(
                session, data.samples(total), data.task, asked.batch, lambda n: progress.advance(n, total)
            )
        progress.done("done")
        raw = None
        if asked.out is not None:
            raw = save_predictions(asked.out.parent, asked.out.name, found.scored, exact_name=True)
        return Record(
            "evaluate",
            ready.candidate.subject(ready.model.name, asked.batch),
            figures=found.figures,
            conditions={"data": asked.data, "samples": total, "available": len(data.reader), "synthetic": False},
            environment=environment(),
            raw=raw,
            details={"counts": found.counts()},
        )
