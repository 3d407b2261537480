"""Engines by name, Sessions for Candidates: the only place where the engine table is resolved."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from assay.core.artifact import Artifact
from assay.core.engine import Candidate, Engine, OpenOptions, Session
from assay.core.errors import AssayError, BadInput, NotAvailable
from assay.core.model import Model
from assay.core.table import resolve
from assay.core.tensors import Array, Feed, Signature
from assay.engines import ENGINES
from assay.engines.base import NOT_YET_RUN, devices_of, refuse_missing_index
from assay.engines.onnx_precision import graph_precision
from assay.graph.signature import load_model
from assay.job.request import ALWAYS_TRIED, NOT_CANDIDATES
from assay.measure.environment import device_name
from assay.sources import SourceOptions, resolve_model

_OPEN_BY_FORMAT = {
    "source": "torch",
    "torchscript": "torch",
    "exported": "torch",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "ascend": "ascend",
    "aoti": "torch_compile",
    "remote": "remote",
    "null": "null",
}


def engine(name: str) -> Engine:
    """The engine of that name.  Raises UnknownName with near names."""
    made: Engine = resolve(ENGINES, name, "engine")()
    return made


def harmless_options(name: str) -> frozenset[str]:
    """Provider options of an engine that are known to reach no file, library or address outside a bundle, and all that
    assay sets by itself.  An engine that is not in the table has none."""
    if name not in ENGINES:
        return frozenset()
    found = engine(name)
    own = (getattr(found, "shared_cores", ()), *getattr(found, "tuned_options", ()))
    return frozenset(getattr(found, "harmless_options", ())) | {key for options in own for key, _ in options}


def default_engines(device: str) -> tuple[str, ...]:
    """The engines a run tries when none is named: the usual three, and whatever else works on ``device``."""
    return tuple(n for n in ENGINES if n in ALWAYS_TRIED or (n not in NOT_CANDIDATES and _works(n, device)))


def _works(name: str, device: str) -> bool:
    found = engine(name)
    return any(found.unavailable(device, precision) is None for precision in found.precisions)


def check_device(names: tuple[str, ...] | None, device: str) -> None:
    """Before anything long: a device one too many of a kind that an engine of the run sees.  Raises BadInput."""
    if ":" not in device:
        return
    refused: BadInput | None = None
    for name in names or tuple(n for n in ENGINES if n not in NOT_CANDIDATES):
        try:
            refuse_missing_index(engine(name), device)
        except BadInput as error:
            refused = refused or error
        except (AssayError, ImportError, OSError):
            continue  # not installed: its absence is said where it is asked for
        else:
            if any(d.partition(":")[0] == device.partition(":")[0] for d in _seen(name)):
                return
    if refused is not None:
        raise refused


def _seen(name: str) -> tuple[str, ...]:
    try:
        return devices_of(engine(name))
    except (AssayError, ImportError, OSError):
        return ()


def hardware_status(found: Engine, device: str) -> str | None:
    """``not yet run on hardware`` where that is so of the engine, or of the engine on this kind of device."""
    status: str | None = getattr(found, "status", None)
    unproved = device.partition(":")[0] in getattr(found, "not_yet_run_on", ())
    return status or (f"{NOT_YET_RUN} ({device.partition(':')[0]})" if unproved else None)


def engine_for(artifact: Artifact) -> Engine:
    """The engine that opens a file as it is.  Raises NotAvailable when this build has none."""
    name = _OPEN_BY_FORMAT[artifact.format]
    if name not in ENGINES:
        raise NotAvailable(
            f"{artifact.path.name} needs the {name} engine, which this version of assay does not have",
            remedy="give the ONNX file or the PyTorch model it was built from",
        )
    return engine(name)


def with_signature(artifact: Artifact, signature: Signature) -> Artifact:
    """A module's artifact that also says what goes in and out (a module alone does not)."""
    return replace(artifact, built_for={**artifact.built_for, "signature": json.dumps(signature.to_json())})


def make_candidate(artifact: Artifact, name: str, options: OpenOptions, device_name: str) -> Candidate:
    return Candidate(artifact, name, engine(name).version(), options, device_name)


def open_candidate(candidate: Candidate) -> Session:
    """Open it; the engine says why where that is impossible here (NotAvailable)."""
    return engine(candidate.engine).open(candidate.artifact, candidate.options)


def precision_of(path: Path) -> str:
    """The precision an ONNX graph is written in."""
    return graph_precision(load_model(path))


def written_in(model: Model) -> str | None:
    """The precision of a given ONNX file; None for what has none of its own (a PyTorch module) or does not tell."""
    return precision_of(model.artifact.path) if model.artifact.format == "onnx" else None


def reference_candidate(
    model: Model, onnx: Artifact | None, signature: Signature, device_name: str, threads: int | None = None
) -> Candidate:
    """What everything is compared with: PyTorch fp32 where there is a module, else the file as it is written.

    ``threads`` are those of the candidates: PyTorch has one number of threads in a process, where both are open.
    """
    options = OpenOptions(precision="fp32", device="cpu", threads=threads)
    artifact = model.artifact
    if artifact.module is not None:
        return make_candidate(with_signature(artifact, signature), "torch", options, device_name)
    if onnx is not None:
        options = replace(options, precision=precision_of(onnx.path))
        return make_candidate(onnx, "onnxruntime", options, device_name)
    return make_candidate(artifact, engine_for(artifact).name, options, device_name)


@dataclass
class OnnxRunner:
    """Runs ONNX files on the CPU, for checks; keeps the sessions of the last few files open."""

    keep: int = 3

    def __post_init__(self) -> None:
        self._open: OrderedDict[tuple[Path, int, int], Session] = OrderedDict()

    def __call__(self, path: Path, feed: Feed) -> dict[str, Array]:
        found = path.stat()
        key = (path, found.st_mtime_ns, found.st_size)
        if key not in self._open:
            artifact = Artifact(path, "onnx", sha256="unchecked")
            self._open[key] = engine("onnxruntime").open(artifact, OpenOptions(precision=precision_of(path)))
            while len(self._open) > self.keep:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(key)
        return self._open[key].run(feed)

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


def known_engines(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check engine names before anything long starts.  Raises UnknownName or BadInput."""
    for name in names:
        engine(name)
    if not names:
        raise BadInput("no engine was named", remedy="--engine onnxruntime,openvino")
    return names


_MODULE_FILES = ("torchscript", "exported")
"""Formats of files that hold a PyTorch module: a bundle keeps the file, not how to load it."""


def open_packed(artifact: Artifact, options: OpenOptions, engine_name: str) -> Session:
    """Open what a bundle names; engine names are table keys, never import paths."""
    return engine(engine_name).open(with_module(artifact), options)


def with_module(artifact: Artifact) -> Artifact:
    """A TorchScript or exported program's file that says how to load its module; any other artifact as it is."""
    if artifact.module is not None or artifact.format not in _MODULE_FILES:
        return artifact
    found = resolve_model(str(artifact.path), SourceOptions(out_dir=artifact.path.parent))
    return replace(artifact, module=found.artifact.module)


def here(engine_name: str, device: str) -> dict[str, str]:
    """What this machine has, to compare a bundle with."""
    found = engine(engine_name)
    version = found.version() if found.unavailable(device) is None else "not available"
    return {"engine_version": version, "device_name": device_name(device)}
