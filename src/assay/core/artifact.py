"""Artifact: any file that was made or given, with its digest and its parents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput

FORMATS = (
    "source",  # a PyTorch module, described by a small JSON file; ``module`` gives it
    "torchscript",
    "exported",  # torch.export's program (.pt2)
    "aoti",  # an ahead-of-time compiled package (.pt2)
    "onnx",
    "openvino",  # IR: model.xml with model.bin beside it
    "tensorrt",
    "ascend",
    "remote",  # a model on a running server
    "null",
)
RUNS_CODE = frozenset({"torchscript", "exported", "aoti", "tensorrt", "ascend"})


@dataclass(frozen=True)
class Artifact:
    """A file (with the files that belong to it) and where it comes from.

    ``path`` is the file that is opened; ``companions`` are further files it needs
    (external data, ``.bin``).  ``sha256`` covers all of them.  ``built_for`` says which
    device and library versions a compiled file is tied to.  ``module`` is present on
    formats that open as a ``torch.nn.Module`` and returns it (the import happens then).
    """

    path: Path
    format: str
    sha256: str
    parents: tuple[str, ...] = ()
    built_for: Mapping[str, str] = field(default_factory=dict)
    companions: tuple[Path, ...] = ()
    runs_code: bool = False
    module: Callable[[], Any] | None = field(default=None, compare=False, repr=False)

    @property
    def short(self) -> str:
        return self.sha256[:12]

    @property
    def size_bytes(self) -> int:
        return sum(p.stat().st_size for p in (self.path, *self.companions) if p.exists())

    def to_json(self, root: Path | None = None) -> dict[str, Any]:
        """Everything but the module; paths relative to ``root`` where they lie below it."""
        return {
            "path": _relative(self.path, root),
            "format": self.format,
            "sha256": self.sha256,
            "parents": list(self.parents),
            "built_for": dict(self.built_for),
            "companions": [_relative(p, root) for p in self.companions],
            "runs_code": self.runs_code,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], root: Path | None = None) -> Artifact:
        base = root or Path()
        return cls(
            path=base / data["path"],
            format=data["format"],
            sha256=data["sha256"],
            parents=tuple(data["parents"]),
            built_for=dict(data["built_for"]),
            companions=tuple(base / p for p in data["companions"]),
            runs_code=bool(data["runs_code"]),
        )


def file_artifact(
    path: Path,
    format: str,
    *,
    parents: tuple[str, ...] = (),
    companions: tuple[Path, ...] = (),
    built_for: Mapping[str, str] | None = None,
) -> Artifact:
    """An Artifact for files that exist; digests them.  Raises BadInput for a missing file."""
    for part in (path, *companions):
        if not part.is_file():
            raise BadInput(f"there is no file {part}")
    return Artifact(
        path=path,
        format=format,
        sha256=digest_files((path, *companions)),
        parents=parents,
        built_for=built_for or {},
        companions=companions,
        runs_code=format in RUNS_CODE,
    )


def digest_file(path: Path) -> str:
    """sha256 of one file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(paths: tuple[Path, ...]) -> str:
    """One file: its sha256.  Several: the sha256 over their names and digests, in order."""
    if len(paths) == 1:
        return digest_file(paths[0])
    sha = hashlib.sha256()
    for path in paths:
        sha.update(f"{path.name}\0{digest_file(path)}\n".encode())
    return sha.hexdigest()


def digest_json(value: Any) -> str:
    """sha256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _relative(path: Path, root: Path | None) -> str:
    if root is not None and path.is_relative_to(root):
        return path.relative_to(root).as_posix()
    return str(path)
