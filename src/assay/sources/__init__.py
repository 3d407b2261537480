"""Where a model comes from: every MODEL form of INTERFACE.md becomes a ``core.model.Model``.

A source is one file with a function of the protocol ``options.Source`` and one line in a table
below.  The light code here only decides which source is meant.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput, UnknownName, suggest
from assay.core.model import Model
from assay.core.table import load, resolve
from assay.sources.options import Architecture, SourceOptions
from assay.sources.registry import create_model, is_registered, list_models, register_model, registered_names

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "FILES",
    "SCHEMES",
    "SourceOptions",
    "create_model",
    "from_module",
    "is_complete",
    "list_models",
    "register_model",
    "resolve_model",
]

SCHEMES: dict[str, str] = {
    "timm": "assay.sources.timm:open_source",
    "torchvision": "assay.sources.torchvision:open_source",
    "http": "assay.sources.remote:open_http",
    "https": "assay.sources.remote:open_http",
    "grpc": "assay.sources.remote:open_grpc",
}
FILES: dict[str, str] = {
    ".py": "assay.sources.python_file:open_source",
    ".pt": "assay.sources.archive:open_source",
    ".pth": "assay.sources.archive:open_source",
    ".pth.tar": "assay.sources.archive:open_source",
    ".pt2": "assay.sources.archive:open_source",
    ".safetensors": "assay.sources.checkpoint:open_source",
    ".onnx": "assay.sources.onnx_file:open_source",
    ".xml": "assay.sources.openvino_ir:open_source",
    ".plan": "assay.sources.engine_file:open_tensorrt",
    ".om": "assay.sources.engine_file:open_ascend",
}
COMPLETE = frozenset({".pt2", ".onnx", ".xml", ".plan", ".om"})
"""Files that hold code and weights, so that no others can be given for them."""
REGISTERED = "assay.sources.registered:open_source"

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+_-]*):(.*)$", re.DOTALL)
_PY_NAME = re.compile(r"^(.+\.py):([^/\\]*)$")
_FORMS = "timm:NAME, torchvision:NAME, FILE.py:NAME, a file, a bundle or http://HOST:PORT/v2/models/NAME"


def resolve_model(spec: str, options: SourceOptions) -> Model:
    """Find out what MODEL ``spec`` is and open it.

    Raises BadInput (UnknownName with near names, UntrustedCode) for anything wrong with what was
    asked, NotAvailable for a library, download or server that cannot be had here.
    """
    found = open_spec(spec, options)
    if isinstance(found, Model):
        if found.artifact.format == "source":  # a checkpoint, which made use of both
            return found
        if options.arch is not None:
            raise BadInput(f"--arch belongs to a checkpoint; {spec} is not one", remedy="leave --arch away")
        if options.weights is not None:
            raise BadInput(
                f"--weights belongs to an architecture in PyTorch; {spec} brings its own", remedy="leave --weights away"
            )
        return found
    finished: Model = load("assay.sources.finish:finish")(found, options)
    return finished


def is_complete(spec: str) -> bool:
    """Whether MODEL brings everything it needs: no ``--weights`` can belong to it."""
    return _suffix(Path(spec)) in COMPLETE or "://" in spec


def from_module(module: nn.Module, name: str, example: Any, options: SourceOptions) -> Model:
    """A module in memory, with the weights it has; see sources/python_object.py for ``example``."""
    model: Model = load("assay.sources.python_object:from_module")(module, name, example, options)
    return model


def open_spec(spec: str, options: SourceOptions) -> Architecture | Model:
    """The table entry that ``spec`` belongs to, called.  Same errors as ``resolve_model``."""
    if not spec.isascii() and spec != spec.encode(errors="replace").decode():
        raise BadInput(
            f"the name {spec!r} is not UTF-8: the libraries that open models cannot be given it",
            remedy="rename the file",
        )
    spec = spec.strip()
    if not spec:
        raise BadInput("no MODEL was given", remedy=f"give one of {_FORMS}")
    source = load(REGISTERED) if is_registered(spec) else _source_of(spec)
    found: Architecture | Model = source(spec, options)
    return found


def check_spec(spec: str) -> None:
    """Raises BadInput or UnknownName for a MODEL that no source can open; files are looked for, not opened."""
    if not is_registered(spec):
        _source_of(spec)


def _source_of(spec: str) -> Any:
    user_file = _PY_NAME.match(spec)
    if user_file or Path(spec).exists():
        path = Path(user_file[1]) if user_file else Path(spec)
        _require_file(path)
        return resolve(FILES, _suffix(path), "kind of model file")
    scheme = _SCHEME.match(spec)
    if scheme:
        if not scheme[2].strip("/"):
            raise BadInput(f"{spec!r} names no model", remedy=f"write {scheme[1]}:NAME")
        return resolve(SCHEMES, scheme[1], "model source")
    path = Path(spec)
    if "/" in spec or _suffix(path) in FILES:
        _require_file(path)
    raise _unknown(spec)


def _suffix(path: Path) -> str:
    """The longest suffix of the table that fits, else the last one as it stands."""
    name = path.name.lower()
    known = [s for s in FILES if name.endswith(s)]
    return max(known, key=len) if known else path.suffix.lower() or path.name


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if (path / "manifest.json").is_file():
        raise BadInput(
            f"{path} is a bundle or a run's folder, and this starts from a model",
            remedy="give the MODEL it was made from; bench, verify, evaluate, predict, inspect, serve and check take "
            "what it made",
        )
    if path.is_dir():
        raise BadInput(f"{path} is a folder, not a model file", remedy=f"give one of {_FORMS}")
    folder = path.parent
    if not folder.is_dir():
        raise BadInput(f"there is no file {path}: the folder {folder} does not exist")
    near = suggest(path.name, [p.name for p in folder.iterdir() if p.is_file()])
    hint = f"did you mean {' or '.join(str(folder / n) for n in near)}?" if near else "check the path"
    raise BadInput(f"there is no file {path}", remedy=hint)


def _unknown(spec: str) -> BadInput:
    """``spec`` is neither a path nor a scheme: what it could have been."""
    near = load("assay.sources.registry:near_names")(spec)
    exact = [n for n in near if n.partition(":")[2] == spec]
    if Path(spec).suffix and not exact:
        return BadInput(f"there is no file {spec}", remedy=f"known kinds of file: {', '.join(FILES)}")
    if near:
        return BadInput(f"there is no model {spec!r}", remedy=f"did you mean {' or '.join(near)}?")
    if registered_names():
        return UnknownName("registered model", spec, registered_names())
    return BadInput(f"there is no model {spec!r}", remedy=f"give one of {_FORMS}")
