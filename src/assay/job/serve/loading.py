"""Where served models come from: those named on the command line, and those found in a watched folder."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.bundle.manifest import NAME, manifest_digest
from assay.core.artifact import digest_file
from assay.core.errors import BadInput
from assay.core.tensors import Signature
from assay.job.serve.opening import Guards, Identity, open_served
from assay.job.serve.options import Batching, ServeRequest, Serving
from assay.serve.dtypes import WIRE
from assay.serve.models import ModelParts
from assay.serve.repository import Repository
from assay.serve.triton_config import read_triton_config
from assay.serve.triton_settings import TritonConfig, VersionPolicy

Event = Callable[[str, Mapping[str, Any]], None]

_UNFIT = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""What a URL and a folder can both be called: neither hidden nor `..`, and no option of a command."""
_VERSION = re.compile(r"[1-9][0-9]{0,17}")


class Models:
    """A ``serve.repository.Loader``: named sources first, then the folders below ``watch``."""

    def __init__(self, request: ServeRequest, event: Event) -> None:
        self._request = request
        self._event = event
        self._guards = Guards(request.most_pixels, request.check_goldens)
        self._named: dict[str, Serving] = {}
        for asked in request.models:
            name = served_name(asked)
            if name in self._named:
                raise BadInput(f"two models would be called {name!r}", remedy="--name gives each its own: A=FOLDER")
            self._named[name] = asked

    @property
    def named(self) -> tuple[str, ...]:
        """The names of the models on the command line, in their order."""
        return tuple(self._named)

    def names(self) -> Iterable[str]:
        return sorted({*self._named, *self._watched()})

    def versions(self, name: str) -> Mapping[str, str]:
        """Version -> key.  Raises BadInput for what is not there."""
        asked, folder = self._source(name)
        config = config_file(asked, folder)
        said = "" if config is None else digest_file(config) if config.is_file() else "missing"
        if folder is None:
            return {"1": asked.source + said}
        policy = VersionPolicy() if config is None else read_triton_config(config).version_policy
        return {version: manifest_digest(found) + said for version, found in bundles(folder, policy).items()}

    def open(self, name: str, version: str) -> ModelParts:
        asked, folder = self._source(name)
        identity = Identity(name, version, self.versions(name)[version])
        config = config_file(asked, folder)
        said = None if config is None else read_triton_config(config)
        if said is not None:
            for warning in said.warnings:
                self._event("warning", {"model": name, "message": warning})
            asked = configured(asked, said)
        found = None if folder is None else bundles(folder, said.version_policy if said else VersionPolicy())[version]
        parts = open_served(asked, found, identity, self._guards)
        if said is not None:
            try:
                check_tensors(said, parts.signature)
            except BadInput:
                parts.queue.close(0.0)
                parts.release()
                raise
        return parts

    def _source(self, name: str) -> tuple[Serving, Path | None]:
        asked = self._named.get(name)
        if asked is not None:
            given = Path(asked.source)
            return asked, given if given.is_dir() else None
        folder = self._watched().get(name)
        if folder is None:
            raise BadInput(f"there is no model {name!r} to load")
        return replace(self._request.defaults, source=str(folder), name=name), folder

    def _watched(self) -> dict[str, Path]:
        watch = self._request.watch
        if watch is None or not watch.is_dir():
            return {}
        return {
            child.name: child
            for child in sorted(watch.iterdir())
            if child.is_dir() and _NAME.fullmatch(child.name)
            if has_bundle(child)
        }


def has_bundle(folder: Path) -> bool:
    return (folder / NAME).is_file() or any(
        _VERSION.fullmatch(c.name) and (c / NAME).is_file() for c in _inside(folder)
    )


def config_file(asked: Serving, folder: Path | None) -> Path | None:
    """The config.pbtxt that was named, or the one beside the versions."""
    if asked.triton_config:
        return Path(asked.triton_config)
    beside = None if folder is None else folder / "config.pbtxt"
    return beside if beside is not None and beside.is_file() else None


def configured(asked: Serving, said: TritonConfig) -> Serving:
    """``asked`` with what a config.pbtxt says, where the command line says nothing."""
    given = {field: getattr(asked.batching, field) for field in asked.given}
    return replace(asked, batching=Batching(**{**said.batcher_options(), **given}))


def check_tensors(said: TritonConfig, signature: Signature) -> None:
    """Raises BadInput where a config.pbtxt speaks of other inputs or outputs than the model has."""
    for what, listed, specs in (
        ("input", said.inputs, signature.inputs),
        ("output", said.outputs, signature.outputs),
    ):
        known = {s.name: WIRE[s.dtype] for s in specs}
        for tensor in listed:
            if known.get(tensor.name) != tensor.datatype:
                has = ", ".join(f"{n} {d}" for n, d in known.items())
                raise BadInput(f"config.pbtxt has the {what} {tensor.name} {tensor.datatype}; the model has: {has}")


def bundles(folder: Path, policy: VersionPolicy | None = None) -> dict[str, Path]:
    """Version -> bundle: ``folder`` itself (version 1), or those of its sub-folders 1, 2 … that ``policy`` chooses
    (None: the newest).

    A run folder stands for the bundle inside it.  Raises BadInput where there is none.
    """
    if (folder / "run.json").is_file() and (folder / "bundle" / NAME).is_file():
        return {"1": folder / "bundle"}
    if (folder / NAME).is_file():
        return {"1": folder}
    found = [c for c in _inside(folder) if _VERSION.fullmatch(c.name) and (c / NAME).is_file()]
    if not found:
        raise BadInput(f"{folder} is no bundle and holds none", remedy="give the bundle folder of a run: RUN/bundle")
    chosen = (policy or VersionPolicy()).chosen([int(c.name) for c in found])
    if not chosen:
        raise BadInput(f"none of the versions in {folder} is one that config.pbtxt chooses")
    return {str(version): folder / str(version) for version in chosen}


def served_name(asked: Serving) -> str:
    """``--name``, else what the bundle was made of, else the MODEL's own; made fit for a URL."""
    if asked.name:
        if not _NAME.fullmatch(asked.name):
            raise BadInput(
                f"a model's name has letters, digits, '_', '.' and '-' only, at most 128 and neither '.' nor '-' "
                f"first, not {asked.name[:200]!r}"
            )
        return asked.name
    folder = Path(asked.source)
    if os.path.isdir(folder):  # noqa: PTH112 - Path raises for a name too long
        from assay.bundle.contents import read_bundle

        found = max(bundles(folder).items(), key=lambda item: int(item[0]))[1]
        name = _short(read_bundle(found).model)
    else:
        name = _short(asked.source)
    return _UNFIT.sub("_", name).strip("_").lstrip(".-")[:128] or "model"


def _short(spec: str) -> str:
    """``timm:resnet18?x=1`` -> ``resnet18``, ``a/net.py:build`` -> ``build``, ``a/b.onnx`` -> ``b``."""
    text = spec.partition("?")[0]
    head, colon, tail = text.rpartition(":")
    if colon and "/" not in tail:
        return tail
    return Path(text).stem if not colon else Path(tail or head).stem


def _inside(folder: Path) -> list[Path]:
    return [c for c in folder.iterdir() if c.is_dir()] if folder.is_dir() else []


class Watcher(threading.Thread):
    """Asks the repository to look again every ``every_s`` seconds, until ``stop``."""

    def __init__(self, repository: Repository, every_s: float) -> None:
        super().__init__(name="watch", daemon=True)
        self._repository = repository
        self._every_s = every_s
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._every_s):
            if self._repository.stopping:
                return
            with contextlib.suppress(OSError):  # somebody moved a folder just while it was read: next time
                self._repository.refresh()

    def stop(self) -> None:
        self._stopped.set()
