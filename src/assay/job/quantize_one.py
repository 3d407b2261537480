"""``assay quantize``: one file in a lower precision, scored on samples that had no part in making it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.core import clock
from assay.core.artifact import Artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions, Session
from assay.core.errors import AssayError, BadInput, UnknownName
from assay.core.model import Model
from assay.core.record import Figure, Record
from assay.core.sample import Sample
from assay.core.table import resolve
from assay.core.tensors import Array, Signature
from assay.core.verdict import Reason, Verdict, combine
from assay.graph.signature import read_signature
from assay.job.calibrating import Sets, Split, split_sets
from assay.job.context import batched
from assay.job.opening import engine, engine_for, precision_of
from assay.job.progress import Progress
from assay.job.request import Objects
from assay.job.user_code import user_transform
from assay.measure.accuracy import Evaluation, compare_predictions, evaluate_session
from assay.measure.environment import environment
from assay.precision import DEFAULT, FOR, METHODS
from assay.precision.control import Controlled, Judging, control
from assay.precision.job import Calibration, Job, Lowered
from assay.precision.openvino_ir import ir_precision
from assay.sources import SourceOptions, resolve_model

RANKING_ROWS = 16
BATCH = 32


@dataclass(frozen=True)
class Quantize:
    """``max_drop`` is a fraction, None without accuracy control; ``engine`` None is the one the file is for."""

    model: str
    out: Path
    precision: str = "int8"
    method: str | None = None
    max_drop: float | None = None
    engine: str | None = None
    device: str = "cpu"
    preprocess: str | None = None
    sets: Sets = field(default_factory=lambda: Sets(None))


@dataclass(frozen=True)
class Quantized:
    """``opens_as`` is the precision to open the file with; ``verdict`` is None where no limit was asked for."""

    artifact: Artifact
    opens_as: str
    record: Record
    verdict: Verdict | None
    controlled: Controlled | None
    warnings: tuple[str, ...]


def quantize_one(asked: Quantize, source: SourceOptions, progress: Progress) -> Quantized:
    """Everything that can be wrong is found before the first conversion; see docs/precision.md."""
    method = _method(asked)
    started = clock.now()
    with tempfile.TemporaryDirectory(prefix="assay-quantize-") as folder:
        model = resolve_model(asked.model, replace(source, out_dir=Path(folder)))
        artifact = model.artifact
        if artifact.format not in ("onnx", "openvino"):
            raise BadInput(
                f"quantize takes an ONNX file or an OpenVINO IR; {asked.model} is {artifact.format}",
                remedy=f"assay export {asked.model} -o model.onnx",
            )
        judge = _Judge(asked, artifact, Path(folder))
        signature = judge.signature
        progress.stage("data", asked.sets.data or "none")
        split = _split(asked, model, signature)
        progress.done(", ".join(f"{name} {row['count']}" for name, row in split.to_json().items()))
        judge.split = split
        _check_control(asked, split)
        progress.stage("convert", f"{asked.precision} by {method}")
        seed = asked.sets.seed
        calibration = Calibration(split.calibration, split.sources["calibration"], seed, split.synthetic_calibration)
        job = Job(artifact, signature, asked.precision, Path(folder), calibration)
        lowered: Lowered = resolve(METHODS, method, "method")(job)
        progress.done(f"{len(lowered.layers)} layers by {lowered.how['library']} {lowered.how['version']}")
        controlled, made = _write(asked, artifact, lowered, judge, progress)
        found = _Found(asked, model, method, lowered, controlled, made)
        return _report(found, judge, clock.now() - started)


@dataclass(frozen=True)
class _Found:
    asked: Quantize
    model: Model
    method: str
    lowered: Lowered
    controlled: Controlled | None
    made: Artifact


def _method(asked: Quantize) -> str:
    if asked.precision not in DEFAULT:
        raise UnknownName("precision to convert to", asked.precision, DEFAULT)
    method = asked.method or DEFAULT[asked.precision]
    if method not in METHODS:
        raise UnknownName("method", method, METHODS)
    if method not in FOR[asked.precision]:
        raise BadInput(f"{method} does not make {asked.precision}; these do: {', '.join(FOR[asked.precision])}")
    if asked.precision == "int8" and asked.sets.data is None and asked.sets.calibration is None:
        raise BadInput(
            "int8 needs samples to calibrate with",
            remedy=f"assay quantize {asked.model} --precision int8 --data DATA (or --calibration synthetic)",
        )
    if asked.precision == "int8" and asked.sets.data == "synthetic" and asked.sets.calibration is None:
        raise BadInput(
            "int8 calibrated on random values fits nothing that the model will see", remedy="--calibration synthetic"
        )
    return method


def _split(asked: Quantize, model: Model, signature: Signature) -> Split:
    objects = Objects(preprocess=user_transform(asked.preprocess) if asked.preprocess else None)
    return split_sets(asked.sets, model, signature, objects)


def _check_control(asked: Quantize, split: Split) -> None:
    if asked.max_drop is None:
        return
    if split.data.task is None:
        raise BadInput(f"--max-drop needs an accuracy: {split.data.not_evaluated}", remedy="give --data with targets")
    count = len(split.control)
    if asked.max_drop > 0 and asked.max_drop * count < 1 and split.data.task.name == "classification":
        one = f"one sample is {1 / max(count, 1):.2%}"
        raise BadInput(
            f"{count} accuracy-control samples cannot show a drop of {asked.max_drop:.2%}: {one}",
            remedy=f"--control DATA with at least {int(1 / asked.max_drop + 0.999)} samples",
        )


class _Judge:
    """Opens artifacts on the engine asked for; scores and runs them on the split's samples."""

    split: Split

    def __init__(self, asked: Quantize, source: Artifact, folder: Path) -> None:
        self._engine = engine(asked.engine) if asked.engine else engine_for(source)
        self._device = asked.device
        self._folder = folder
        self._builds = 0
        with self.open(source) as session:
            self.signature = session.signature if source.format != "onnx" else read_signature(source.path)

    def open(self, artifact: Artifact) -> Session:
        """In the precision the file is written in; an IR that is quantised opens as int8."""
        precision = self.precision(artifact)
        if artifact.format not in self._engine.opens:
            self._builds += 1
            options = BuildOptions(precision, self._device)
            artifact = self._engine.build(artifact, options, self._folder / f"built-{self._builds}")
        return self._engine.open(artifact, OpenOptions(precision=precision, device=self._device))

    @property
    def engine_name(self) -> str:
        return self._engine.name

    def precision(self, artifact: Artifact) -> str:
        if artifact.format == "onnx":
            return precision_of(artifact.path)
        return ir_precision(artifact.path)

    def evaluate(self, artifact: Artifact, samples: Sequence[Sample]) -> Evaluation:
        task = self.split.data.task
        assert task is not None
        with self.open(artifact) as session:
            return evaluate_session(session, samples, task, BATCH)

    def score(self, artifact: Artifact) -> float:
        found = self.evaluate(artifact, self.split.control)
        value = found.figures[found.primary].value
        task = self.split.data.task
        assert task is not None
        if value is None:
            raise BadInput(f"{found.primary} has no value: {found.figures[found.primary].reason}")
        return value if task.higher_is_better else -value

    def outputs(self, artifact: Artifact) -> dict[str, Array]:
        """Every output on the first control samples, concatenated along the batch."""
        import numpy as np

        rows = list(self.split.control[:RANKING_ROWS])
        with self.open(artifact) as session:
            size = session.signature.static_batch or len(rows)
            results = [session.run(feed) for feed in batched(rows, size, session.signature)]
        return {name: np.concatenate([r[name].reshape(-1) for r in results]) for name in results[0]}

    def relative(self) -> bool:
        found = self.split.data.task
        return found is not None and found.name != "classification"

    def attest(self, artifact: Artifact) -> Attestation:
        with self.open(artifact) as session:
            return session.attest()


def _write(
    asked: Quantize, source: Artifact, lowered: Lowered, judge: _Judge, progress: Progress
) -> tuple[Controlled | None, Artifact]:
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / ("model.onnx" if source.format == "onnx" else "model.xml")
    if path.exists() and source.path.exists() and path.samefile(source.path):
        raise BadInput(f"{path} is the source itself", remedy="-o another folder")
    if asked.max_drop is None:
        return None, lowered.write(path)
    progress.stage("control", f"drop of at most {asked.max_drop:.2%} on {len(judge.split.control)} samples")
    judging = Judging(judge.score, judge.outputs, judge.relative(), progress.note)
    found = control(source, lowered, path, asked.max_drop, judging)
    progress.done(f"{len(found.reverted)} of {found.layers} layers put back, drop {found.chosen.drop:.2%}")
    return found, found.artifact


def _report(found: _Found, judge: _Judge, seconds: float) -> Quantized:
    asked, made = found.asked, found.made
    opens_as = judge.precision(made)
    figures = {
        "quantize.seconds": Figure(seconds, "s"),
        "artifact.bytes": Figure(made.size_bytes, "B"),
        "source.bytes": Figure(found.model.artifact.size_bytes, "B"),
    }
    warnings: list[str] = []
    details: dict[str, Any] = {"how": dict(found.lowered.how), "layers": len(found.lowered.layers)}
    details |= {"sets": judge.split.to_json(), "opens_as": opens_as}
    if found.controlled is not None:
        details["control"] = found.controlled.to_json()
    reasons: list[Reason] = []
    try:
        attestation = judge.attest(made)
        details["attestation"] = attestation.to_json()
        warnings += attestation.check(None, asked.precision)
    except AssayError as error:
        # The file is made; that nothing here runs it as asked is said, not hidden.
        warnings.append(f"{judge.engine_name} does not run this file in {asked.precision} here: {error.message}")
    try:
        figures |= _evaluated(found, judge, details)
    except AssayError as error:
        warnings.append(f"not evaluated: {error.message}")
    drop = figures.get("accuracy.drop")
    if asked.max_drop is not None:
        reasons.append(_reason(asked.max_drop, drop))
    not_checked = () if drop is not None else (f"accuracy: {judge.split.data.not_evaluated or 'the file did not run'}",)
    record = Record(
        "quantize",
        {"model": found.model.name, "artifact": made.sha256, "format": made.format, "precision": asked.precision},
        figures=figures,
        conditions=_conditions(found, judge),
        environment=environment(),
        warnings=tuple(warnings),
        details=details,
    )
    reasons = [replace(r, record=record.id) for r in reasons]
    verdict = combine(reasons, not_checked) if reasons else None
    return Quantized(made, opens_as, record, verdict, found.controlled, tuple(warnings))


def _evaluated(found: _Found, judge: _Judge, details: dict[str, Any]) -> Mapping[str, Figure]:
    """Source and result on the evaluation samples, paired."""
    samples = judge.split.evaluation
    if judge.split.data.task is None or not samples:
        return {}
    before = judge.evaluate(found.model.artifact, samples)
    after = judge.evaluate(found.made, samples)
    paired = compare_predictions(before.scored, after.scored)
    details["source_figures"] = {name: figure.to_json() for name, figure in before.figures.items()}
    details["paired"] = paired.to_json()
    return {**after.figures, "accuracy.drop": paired.drop}


def _reason(limit: float, drop: Figure | None) -> Reason:
    if drop is None or drop.value is None:
        why = drop.reason if drop is not None else "there are no evaluation samples left"
        return Reason("accuracy.drop", "not_shown", f"the drop on samples of its own could not be measured: {why}")
    state = "passed" if drop.value <= limit else "failed"
    text = f"drop {drop.value:.2%} on {drop.n} evaluation samples, at most {limit:.2%} was asked for"
    return Reason("accuracy.drop", state, text)


def _conditions(found: _Found, judge: _Judge) -> dict[str, Any]:
    asked = found.asked
    return {
        "precision": asked.precision,
        "method": found.method,
        "max_drop": asked.max_drop,
        "engine": judge.engine_name,
        "device": asked.device,
        "source": found.model.artifact.sha256,
        "seed": asked.sets.seed,
    }
