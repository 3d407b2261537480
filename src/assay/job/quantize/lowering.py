"""One file in a lower precision: converted, controlled where that was asked, and opened to be scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact
from assay.core.dataset import Task
from assay.core.engine import Attestation, BuildOptions, OpenOptions, Session
from assay.core.errors import BadInput
from assay.core.sample import Sample
from assay.core.table import resolve
from assay.core.tensors import Array, Signature
from assay.job.context import batched
from assay.job.opening import engine, engine_for, precision_of
from assay.job.progress import Progress, Silent
from assay.measure.accuracy import Evaluation, evaluate_session
from assay.precision import METHODS
from assay.precision.control import Controlled, Judging, control
from assay.precision.job import Calibration, Job, Lowered
from assay.precision.openvino_ir import ir_precision

RANKING_ROWS = 16
BATCH = 32


@dataclass(frozen=True)
class Lowering:
    """What to make of ``source`` and where: ``path`` is the file to write, ``work`` a folder for scratch files."""

    source: Artifact
    signature: Signature
    precision: str
    method: str
    path: Path
    work: Path
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Control:
    """``max_drop`` (a fraction) must hold for ``task`` on ``samples``."""

    max_drop: float
    samples: Sequence[Sample]
    task: Task

    def __post_init__(self) -> None:
        count = len(self.samples)
        if self.max_drop > 0 and self.max_drop * count < 1 and self.task.name == "classification":
            one = f"one sample is {1 / max(count, 1):.2%}"
            raise BadInput(
                f"{count} accuracy-control samples cannot show a drop of {self.max_drop:.2%}: {one}",
                remedy=f"--control DATA with at least {int(1 / self.max_drop + 0.999)} samples",
            )

    @property
    def relative(self) -> bool:
        """Whether a drop is a share of the source's score rather than a difference of fractions."""
        return self.task.name != "classification"


@dataclass(frozen=True)
class LoweredFile:
    """``how`` is the library with its version and settings, ``layers`` what was lowered before any was put back."""

    artifact: Artifact
    how: dict[str, Any]
    layers: int
    controlled: Controlled | None = None


class Scorer:
    """Opens artifacts on one engine (``name`` None: the one ``source`` is for), scores and runs them."""

    def __init__(self, name: str | None, device: str, source: Artifact, folder: Path) -> None:
        self._engine = engine(name) if name else engine_for(source)
        self._device = device
        self._folder = folder
        self._builds = 0

    @property
    def engine_name(self) -> str:
        return self._engine.name

    def open(self, artifact: Artifact) -> Session:
        """In the precision the file is written in; an IR that is quantised opens as int8."""
        precision = file_precision(artifact)
        if artifact.format not in self._engine.opens:
            self._builds += 1
            options = BuildOptions(precision, self._device)
            artifact = self._engine.build(artifact, options, self._folder / f"built-{self._builds}")
        return self._engine.open(artifact, OpenOptions(precision=precision, device=self._device))

    def evaluate(self, artifact: Artifact, samples: Sequence[Sample], task: Task) -> Evaluation:
        with self.open(artifact) as session:
            return evaluate_session(session, samples, task, BATCH)

    def score(self, artifact: Artifact, samples: Sequence[Sample], task: Task) -> float:
        """The task's primary figure, negated where lower is better.  Raises BadInput where it has no value."""
        found = self.evaluate(artifact, samples, task)
        value = found.figures[found.primary].value
        if value is None:
            raise BadInput(f"{found.primary} has no value: {found.figures[found.primary].reason}")
        return value if task.higher_is_better else -value

    def outputs(self, artifact: Artifact, rows: Sequence[Sample]) -> dict[str, Array]:
        """Every output on ``rows``, flattened and concatenated along the batch."""
        import numpy as np

        with self.open(artifact) as session:
            size = session.signature.static_batch or len(rows)
            results = [session.run(feed) for feed in batched(rows, size, session.signature)]
        return {name: np.concatenate([r[name].reshape(-1) for r in results]) for name in results[0]}

    def attest(self, artifact: Artifact) -> Attestation:
        with self.open(artifact) as session:
            return session.attest()


def file_precision(artifact: Artifact) -> str:
    """The precision an ONNX file or an IR opens as."""
    return precision_of(artifact.path) if artifact.format == "onnx" else ir_precision(artifact.path)


def convert(asked: Lowering) -> Lowered:
    """Raises what the method raises: BadInput, NotAvailable, EngineFailed."""
    job = Job(asked.source, asked.signature, asked.precision, asked.work, asked.calibration)
    found: Lowered = resolve(METHODS, asked.method, "method")(job)
    return found


def write(
    asked: Lowering, lowered: Lowered, wanted: Control | None, scorer: Scorer, progress: Progress | None = None
) -> LoweredFile:
    """The file at ``asked.path``, with as few layers put back as ``wanted`` needs; see precision/control.py."""
    asked.path.parent.mkdir(parents=True, exist_ok=True)
    if wanted is None:
        return LoweredFile(lowered.write(asked.path), lowered.how, len(lowered.layers))
    samples = wanted.samples
    rows = samples[:: max(1, len(samples) // RANKING_ROWS)][:RANKING_ROWS]  # neighbours may be of one class
    judging = Judging(
        lambda a: scorer.score(a, wanted.samples, wanted.task),
        lambda a: scorer.outputs(a, rows),
        wanted.relative,
        (progress or Silent()).note,
    )
    found = control(asked.source, lowered, asked.path, wanted.max_drop, judging)
    return LoweredFile(found.artifact, lowered.how, len(lowered.layers), found)


def lower_file(asked: Lowering, wanted: Control | None, engine_name: str | None, device: str) -> LoweredFile:
    """Convert and write in one go: what a child process of a run is given to do."""
    asked.work.mkdir(parents=True, exist_ok=True)
    return write(asked, convert(asked), wanted, Scorer(engine_name, device, asked.source, asked.work))
