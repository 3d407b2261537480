"""What replicas need of the machine that deploys them, sent through Ray's object store: bundles, model files with the
files beside them, and the FILE.py of a user's code.

A name that is resolved anywhere (``timm:resnet18``, a server's URL) stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.core.artifact import digest_file
from assay.core.errors import BadInput, StorageFailed
from assay.graph.external_data import companions
from assay.job.building import NOTE
from assay.job.packed import bundle_folder
from assay.job.serve.options import Serving

Contents = Mapping[str, npt.NDArray[np.uint8]]
"""Every file's bytes, by its place below the folder."""
CODE = ".py:"


@dataclass(frozen=True)
class Files:
    """What a text of a Serving names: ``root`` is a folder and ``paths`` the files below it that are needed.

    ``place`` is that text for somebody to whom ``root`` is the current folder; ``code`` says that it is a FILE.py.
    """

    root: Path
    paths: tuple[Path, ...]
    place: str
    code: bool = False

    def read(self) -> Contents:
        """Raises StorageFailed for a file that cannot be read."""
        try:
            return {self._name(path): np.fromfile(path, np.uint8) for path in self.paths}
        except OSError as error:
            raise StorageFailed(f"{error.filename} cannot be read: {error.strerror}") from error

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def files_of(text: str) -> Files | None:
    """None for what names no file here.  Raises BadInput for a model whose companions are missing."""
    if os.path.isdir(text):  # noqa: PTH112 - Path raises for a name too long
        folder = bundle_folder(text) or Path(text)
        paths = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())
        return Files(folder, tuple(paths), ".")
    head, colon, name = text.rpartition(CODE)
    if colon and "/" not in name:
        path = Path(f"{head}.py")
        return Files(path.parent, (path,), f"{path.name}:{name}", code=True) if path.is_file() else None
    if not os.path.isfile(text):  # noqa: PTH113
        return None
    path = Path(text)
    return Files(path.parent, (path, *_beside(path)), path.name)


def _beside(path: Path) -> tuple[Path, ...]:
    """Weights that lie beside a graph, and the note that says what an engine file was built for."""
    note = path.with_name(NOTE)
    more = (note,) if note.is_file() else ()
    if path.suffix.lower() == ".onnx":
        return (*companions(path), *more)
    weights = path.with_suffix(".bin")
    return (weights, *more) if path.suffix.lower() == ".xml" and weights.is_file() else more


@dataclass(frozen=True)
class Sent:
    """Files on their way: ``contents`` refers to them in the object store, ``digests`` are their sha256.

    ``code`` is where a user's FILE.py lies on the machine it was sent from, None for all else.
    """

    contents: Any
    digests: Mapping[str, str]
    place: str
    code: str | None = None

    def placed(self, folder: Path, get: Callable[[Any], Contents]) -> str:
        """The text by which a replica finds them, written below ``folder``.  Raises BadInput for a file that arrived
        as another one, StorageFailed where it cannot be written.

        Code that lies at its own place here too (a disk that is shared) stays there: it may import what is beside it.
        """
        if self.code is not None:
            path = Path(self.code)
            if path.is_file() and digest_file(path) == self.digests[path.name]:
                return f"{path.parent / self.place}"
        for name, content in get(self.contents).items():
            path = folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                content.tofile(path)
            except OSError as error:
                raise StorageFailed(f"{path} cannot be written: {error.strerror}") from error
            if digest_file(path) != self.digests.get(name):
                raise BadInput(f"{name} did not arrive as it was sent: its sha256 is {digest_file(path)}")
        return str(folder) if self.place == "." else f"{folder / self.place}"


def sent(models: tuple[Serving, ...], put: Callable[[Contents], Any]) -> dict[str, Sent]:
    """Everything on this machine that the models name, by the text that names it; ``put`` gives a reference."""
    found: dict[str, Sent] = {}
    for text in dict.fromkeys(text for model in models for text in _texts(model)):
        files = files_of(text)
        if files is None:
            continue
        contents = files.read()
        digests = {name: sha256(content.data).hexdigest() for name, content in contents.items()}
        code = str(files.paths[0].resolve()) if files.code else None
        found[text] = Sent(put(contents), digests, files.place, code)
    return found


def moved(model: Serving, places: Mapping[str, str]) -> Serving:
    """``model`` with every text replaced by the one that holds here."""
    new = {name: places.get(text, text) for name in _NAMING if (text := getattr(model, name)) is not None}
    return replace(model, **new, told=model.told or model.source)


_NAMING = ("source", "preprocess", "triton_config")


def _texts(model: Serving) -> list[str]:
    return [text for name in _NAMING if (text := getattr(model, name)) is not None]
