"""SourceOptions and Architecture: what goes into a source, and what module sources give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from assay.core.model import Model
from assay.core.shapes import ShapeSpec
from assay.core.tensors import TensorSpec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SourceOptions:
    """What a person may say about a MODEL besides its name.

    ``weights`` is a file or a URL; ``arch`` the MODEL a checkpoint belongs to.  ``md5`` and
    ``sha256`` pin the weights file (or MODEL itself when it is a file), and are checked before
    anything is read from it.  ``trust`` allows pickled Python objects.  ``seed`` and ``ranges`` (input,
    low, high, both included) are what its inputs are drawn by, where they are.  ``out_dir`` is where
    ``source.json`` goes, ``cache_dir`` where downloads go (default: a folder in ``out_dir``).
    """

    weights: str | None = None
    arch: str | None = None
    md5: str | None = None
    sha256: str | None = None
    trust: bool = False
    strict: bool = True
    seed: int = 0
    shapes: tuple[ShapeSpec, ...] = ()
    ranges: tuple[tuple[str, float, float], ...] = ()
    out_dir: Path = Path()
    cache_dir: Path | None = None

    @property
    def downloads(self) -> Path:
        return self.cache_dir or self.out_dir / "downloads"


@dataclass(frozen=True)
class Architecture:
    """A module that was built, before its weights are settled.

    ``identity`` is everything that names the architecture, as JSON, without machine paths.
    ``weights`` says where the weights come from when the builder brought them, else None.
    ``keep`` names parameters that are not to be randomised (see randomise.py).  ``code`` are the
    user's files known to define it; those of the module's classes are added later.
    """

    name: str
    spec: str
    identity: Mapping[str, Any]
    module: nn.Module
    weights: str | None = None
    keep: frozenset[str] = frozenset()
    inputs: tuple[TensorSpec, ...] | None = None
    preprocess: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    code: tuple[Path, ...] = ()
    runs_code: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default_factory=tuple)


class Source(Protocol):
    """What every target of the tables in ``sources/__init__.py`` is.

    It gets the whole MODEL text, and gives an Architecture (a module whose weights the caller
    settles: given, brought along or randomised) or a finished Model (a file used as it is).
    """

    def __call__(self, spec: str, options: SourceOptions) -> Architecture | Model: ...
