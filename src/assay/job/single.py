"""One MODEL, ready to be opened on one engine: what every verb but ``run`` starts from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from assay.core.artifact import Artifact
from assay.core.engine import BuildOptions, Candidate, Engine
from assay.core.errors import BadInput
from assay.core.model import Model
from assay.core.tensors import Signature
from assay.export.export import export_model
from assay.export.module_signature import module_signature
from assay.export.options import ExportOptions
from assay.graph.rounding import rounding_depth
from assay.graph.signature import read_signature
from assay.job.open_request import OpenRequest
from assay.job.opening import (
    OnnxRunner,
    engine,
    engine_for,
    make_candidate,
    open_candidate,
    precision_of,
    with_signature,
)
from assay.job.packed import bundle_folder, packed_model
from assay.measure.environment import device_name
from assay.sources import SourceOptions, resolve_model


@dataclass(frozen=True)
class Wanted:
    """``engine`` None is the one the file is for (PyTorch modules: torch).

    ``precision_option`` is how a precision is asked for where the MODEL was given, for the message that it is due.
    """

    spec: str
    engine: str | None = None
    opened: OpenRequest = field(default_factory=OpenRequest)
    export: ExportOptions = field(default_factory=ExportOptions)
    precision_option: str = "--precision {}"


@dataclass(frozen=True)
class Prepared:
    """``depth`` is the rounding depth of the graph, 0 where it is not known."""

    model: Model
    candidate: Candidate
    signature: Signature
    depth: int


def prepare(wanted: Wanted, source: SourceOptions, naming: Signature | None = None) -> Prepared:
    """Resolve, export and build as far as the engine needs; files go to ``source.out_dir``.

    ``naming`` names the inputs and outputs of a bare PyTorch module, which has none of its own.  A bundle's folder,
    or the run folder it lies in, is opened as it was proved.
    Raises BadInput, NotAvailable, ExportFailed or EngineFailed.
    """
    source.out_dir.mkdir(parents=True, exist_ok=True)
    folder = bundle_folder(wanted.spec)
    if folder is not None:
        if source.md5 is not None:
            raise BadInput("--md5 pins no bundle", remedy="--sha256 with the digest of its manifest.json")
        opened = packed_model(
            folder, wanted.engine, wanted.opened, trust=source.trust, digest=source.sha256, shapes=source.shapes
        )
        return Prepared(*opened, depth=0)
    model = resolve_model(wanted.spec, source)
    found = engine(wanted.engine) if wanted.engine else engine_for(model.artifact)
    check_written(found, model.artifact, wanted)
    options = wanted.opened.options
    device = device_name(options.device)
    artifact = model.artifact
    if artifact.format in found.opens and artifact.module is not None:
        signature = naming or module_signature(model, wanted.export)
        candidate = make_candidate(with_signature(artifact, signature), found.name, options, device)
        return Prepared(model, candidate, signature, 0)
    depth = 0
    if artifact.module is not None:
        export = wanted.export if wanted.export.ranges else replace(wanted.export, ranges=source.ranges)
        artifact = _exported(model, export, source.out_dir)
    if artifact.format == "onnx":
        depth = rounding_depth(artifact.path)
    if artifact.format in found.reads:
        asked = BuildOptions(precision=options.precision, device=options.device)
        artifact = found.build(artifact, asked, source.out_dir / found.name)
    elif artifact.format not in found.opens:
        raise BadInput(f"{found.name} opens {', '.join(found.opens)}; {wanted.spec} is {artifact.format}")
    candidate = make_candidate(artifact, found.name, options, device)
    if artifact.format == "onnx":
        return Prepared(model, candidate, read_signature(artifact.path), depth)
    with open_candidate(candidate) as session:
        return Prepared(model, candidate, session.signature, depth)


def check_written(found: Engine, artifact: Artifact, wanted: Wanted) -> None:
    """Before copies of it are made, so that it goes by the user's name for it.  Raises BadInput for a file in another
    precision than is due, under an engine that runs files as they are written."""
    check, precision = getattr(found, "check_written", None), wanted.opened.options.precision
    if check is not None and artifact.format == "onnx" and precision in found.precisions:
        typed = wanted.opened.precision is not None
        check(precision_of(artifact.path), precision, wanted.spec, wanted.precision_option, typed=typed)


def as_written(spec: str) -> OpenRequest:
    """How a MODEL of which no precision is asked is opened: a quantised (or half precision) ONNX file as it is written,
    anything else in fp32, a bundle as it was proved."""
    path = Path(spec)
    written = precision_of(path) if path.suffix.lower() == ".onnx" and path.is_file() else None
    return OpenRequest(precision=written)


def _exported(model: Model, options: ExportOptions, folder: Path) -> Artifact:
    runner = OnnxRunner()
    try:
        return export_model(model, options, folder / "model.onnx", runner).artifact
    finally:
        runner.close()


def file_model(path: Path) -> Artifact:
    """The Artifact of a file that is used as it is.  Raises BadInput for anything that is not one."""
    return resolve_model(str(path), SourceOptions(out_dir=path.parent)).artifact
