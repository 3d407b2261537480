"""``assay quantize``: one file in a lower precision, scored on samples that had no part in making it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.core import clock
from assay.core.artifact import Artifact
from assay.core.errors import AssayError, BadInput, UnknownName
from assay.core.model import Model
from assay.core.record import Figure, Record
from assay.core.tensors import Signature
from assay.core.verdict import Reason, Verdict, combine
from assay.graph.signature import read_signature
from assay.job.folder import check_folder
from assay.job.progress import Progress
from assay.job.quantize.calibrating import Sets, Split, split_sets
from assay.job.quantize.lowering import Control, LoweredFile, Lowering, Scorer, convert, file_precision, write
from assay.job.request import Objects
from assay.job.user_code import user_transform
from assay.measure.accuracy import compare_predictions
from assay.measure.environment import environment
from assay.precision import DEFAULT, FOR, METHODS
from assay.precision.control import Controlled
from assay.precision.job import Calibration
from assay.sources import SourceOptions, resolve_model


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
    check_folder(asked.out)
    started = clock.now()
    with tempfile.TemporaryDirectory(prefix="assay-quantize-") as folder:
        work = Path(folder)
        model = resolve_model(asked.model, replace(source, out_dir=work))
        artifact = model.artifact
        if artifact.format not in ("onnx", "openvino"):
            raise BadInput(
                f"quantize takes an ONNX file or an OpenVINO IR; {asked.model} is {artifact.format}",
                remedy=f"assay export {asked.model} -o model.onnx",
            )
        scorer = Scorer(asked.engine, asked.device, artifact, work)
        with scorer.open(artifact) as session:
            signature = session.signature if artifact.format != "onnx" else read_signature(artifact.path)
        progress.stage("data", asked.sets.data or "none")
        split = _split(asked, source, model, signature)
        counts = (len(split.calibration), len(split.control), len(split.evaluation))
        progress.done("{} calibration, {} control and {} evaluation samples".format(*counts))
        wanted = _control(asked, split)
        progress.stage("convert", f"{asked.precision} by {method}")
        seed = asked.sets.seed
        calibration = Calibration(
            tuple(split.calibration), split.sources["calibration"], seed, split.synthetic_calibration
        )
        lowering = Lowering(artifact, signature, asked.precision, method, _target(asked, artifact), work, calibration)
        lowered = convert(lowering)
        progress.done(f"{len(lowered.layers)} layers by {lowered.how['library']} {lowered.how['version']}")
        if wanted is not None:
            drop = f"drop of at most {wanted.max_drop:.2%} on {len(wanted.samples)} samples"
            progress.stage("control", drop)
        made = write(lowering, lowered, wanted, scorer, progress)
        if made.controlled is not None:
            found = made.controlled
            progress.done(f"{len(found.reverted)} of {found.layers} layers put back, drop {found.chosen.drop:.2%}")
        return _report(_Found(asked, model, method, split, made), scorer, clock.now() - started)


@dataclass(frozen=True)
class _Found:
    asked: Quantize
    model: Model
    method: str
    split: Split
    file: LoweredFile


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


def _split(asked: Quantize, source: SourceOptions, model: Model, signature: Signature) -> Split:
    objects = Objects(preprocess=user_transform(asked.preprocess) if asked.preprocess else None)
    return split_sets(replace(asked.sets, ranges=source.ranges), model, signature, objects)


def _control(asked: Quantize, split: Split) -> Control | None:
    if asked.max_drop is None:
        return None
    if split.data.task is None:
        raise BadInput(f"--max-drop needs an accuracy: {split.data.not_evaluated}", remedy="give --data with targets")
    return Control(asked.max_drop, split.control, split.data.task)


def _target(asked: Quantize, source: Artifact) -> Path:
    path = asked.out / ("model.onnx" if source.format == "onnx" else "model.xml")
    if path.exists() and source.path.exists() and path.samefile(source.path):
        raise BadInput(f"{path} is the source itself", remedy="-o another folder")
    return path


def _report(found: _Found, scorer: Scorer, seconds: float) -> Quantized:
    asked, made = found.asked, found.file.artifact
    opens_as = file_precision(made)
    figures = {
        "quantize.seconds": Figure(seconds, "s"),
        "artifact.bytes": Figure(made.size_bytes, "B"),
        "source.bytes": Figure(found.model.artifact.size_bytes, "B"),
    }
    warnings: list[str] = []
    details: dict[str, Any] = {"how": dict(found.file.how), "layers": found.file.layers}
    details |= {"sets": found.split.to_json(), "opens_as": opens_as}
    if found.file.controlled is not None:
        details["control"] = found.file.controlled.to_json()
    reasons: list[Reason] = []
    try:
        attestation = scorer.attest(made)
        details["attestation"] = attestation.to_json()
        warnings += attestation.check(None, asked.precision)
    except AssayError as error:
        # The file is made; that nothing here runs it as asked is said, not hidden.
        warnings.append(f"{scorer.engine_name} does not run this file in {asked.precision} here: {error.message}")
    try:
        figures |= _evaluated(found, scorer, details)
    except AssayError as error:
        warnings.append(f"not evaluated: {error.message}")
    drop = figures.get("accuracy.drop")
    if asked.max_drop is not None:
        reasons.append(_reason(asked.max_drop, drop))
    not_checked = () if drop is not None else (f"accuracy: {found.split.data.not_evaluated or 'the file did not run'}",)
    record = Record(
        "quantize",
        {"model": found.model.name, "artifact": made.sha256, "format": made.format, "precision": asked.precision},
        figures=figures,
        conditions=_conditions(found, scorer),
        environment=environment(),
        warnings=tuple(warnings),
        details=details,
    )
    reasons = [replace(r, record=record.id) for r in reasons]
    verdict = combine(reasons, not_checked) if reasons else None
    return Quantized(made, opens_as, record, verdict, found.file.controlled, tuple(warnings))


def _evaluated(found: _Found, scorer: Scorer, details: dict[str, Any]) -> Mapping[str, Figure]:
    """Source and result on the evaluation samples, paired."""
    samples, task = found.split.evaluation, found.split.data.task
    if task is None or not samples:
        return {}
    before = scorer.evaluate(found.model.artifact, samples, task)
    after = scorer.evaluate(found.file.artifact, samples, task)
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


def _conditions(found: _Found, scorer: Scorer) -> dict[str, Any]:
    asked = found.asked
    return {
        "precision": asked.precision,
        "method": found.method,
        "max_drop": asked.max_drop,
        "engine": scorer.engine_name,
        "device": asked.device,
        "source": found.model.artifact.sha256,
        "seed": asked.sets.seed,
    }
