"""Model: what a MODEL argument turned out to be, before anything is exported or run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.core.artifact import Artifact
from assay.core.tensors import TensorSpec


@dataclass(frozen=True)
class Model:
    """A resolved MODEL.

    ``inputs`` are the input specs where the source knows them (a file with a signature, a timm
    configuration), else None and the user must give shapes.  ``weights`` says in words where the
    weights come from; ``randomised`` is True when there were none, and then accuracy is never a
    number.  ``preprocess`` is a transform as data (see core/transform.py) where the source knows
    it, ``labels`` the class names.  ``runs_code`` names every file that ran code when opened.
    """

    name: str
    spec: str
    artifact: Artifact
    weights: str
    randomised: bool = False
    inputs: tuple[TensorSpec, ...] | None = None
    preprocess: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    runs_code: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default_factory=tuple)
