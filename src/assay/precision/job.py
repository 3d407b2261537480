"""What a method is given and what it gives back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from assay.core.artifact import Artifact
from assay.core.errors import BadInput
from assay.core.sample import Sample, digest, stack
from assay.core.tensors import Array, Signature


@dataclass(frozen=True)
class Calibration:
    """The samples activation ranges are read from.

    ``source`` is where they came from in the user's words, ``seed`` what chose them.
    """

    samples: tuple[Sample, ...]
    source: str
    seed: int
    synthetic: bool = False

    def feeds(self, signature: Signature) -> list[dict[str, Array]]:
        """One feed per sample; a model with a fixed batch gets feeds of that size, the last one filled up
        with its own last sample."""
        size = signature.static_batch or 1
        groups = [self.samples[i : i + size] for i in range(0, len(self.samples), size)]
        return [stack([*g, *[g[-1]] * (size - len(g))], signature) for g in groups]

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "count": len(self.samples),
            "seed": self.seed,
            "synthetic": self.synthetic,
            "sha256": digest(self.samples),
        }


@dataclass(frozen=True)
class Job:
    """``source`` is an ONNX file or an OpenVINO IR in fp32, ``signature`` what goes in and out of it;
    ``work`` is a folder for scratch files."""

    source: Artifact
    signature: Signature
    precision: str
    work: Path
    calibration: Calibration | None = None

    def needs(self, method: str) -> Calibration:
        """The calibration.  Raises BadInput where the method needs one and there is none."""
        if self.calibration is None or not self.calibration.samples:
            raise BadInput(
                f"{method} reads the ranges of activations from samples, and none were given",
                remedy=f"assay quantize {self.source.path} --precision {self.precision} --data DATA",
            )
        return self.calibration


@dataclass(frozen=True)
class Layer:
    """Something that can be put back on its own: an operator (``op``), by its name in the file."""

    name: str
    op: str


@runtime_checkable
class Lowered(Protocol):
    """A model in a lower precision of which every layer can be put back.

    ``how`` says what made it: library, version and settings.
    """

    how: dict[str, Any]

    @property
    def layers(self) -> Sequence[Layer]: ...

    def write(self, path: Path, keep: Collection[str] = ()) -> Artifact:
        """The model at ``path`` with the layers named in ``keep`` as they are in the source."""
        ...


def refuse_unknown(keep: Collection[str], layers: Sequence[Layer]) -> None:
    """Raises BadInput for a layer that is not one: it would silently stay lowered."""
    unknown = sorted(set(keep) - {layer.name for layer in layers})
    if unknown:
        raise BadInput(f"there is no layer {unknown[0]!r} that was lowered")
