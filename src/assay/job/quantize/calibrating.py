"""Three sets that share no sample: calibration, accuracy control and evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import BadInput
from assay.core.model import Model
from assay.core.sample import Sample, digest
from assay.core.tensors import Signature
from assay.job.context import Data
from assay.job.dataset import open_data
from assay.job.request import Objects, RunRequest

OWN_SPLITS = {"digits": ("digits:calibration", "digits:train")}
"""Data that come with splits of their own: those for calibration and for accuracy control."""


@dataclass(frozen=True)
class Sets:
    """DATA arguments; None for calibration or control means "a part of ``data``, drawn by ``seed``": at most a
    third of it for calibration, at most half of what is left for control.

    ``calibration`` may be ``synthetic``, which has to be typed.
    """

    data: str | None
    calibration: str | None = None
    control: str | None = None
    calibration_count: int = 300
    control_count: int | None = None
    seed: int = 0
    labels: Path | None = None


@dataclass(frozen=True)
class Split:
    """``data`` carries the task; ``calibration_source`` and ``control_source`` are for the Record."""

    data: Data
    calibration: tuple[Sample, ...]
    control: tuple[Sample, ...]
    evaluation: tuple[Sample, ...]
    sources: Mapping[str, str]
    synthetic_calibration: bool

    def to_json(self) -> dict[str, Any]:
        sets = {"calibration": self.calibration, "control": self.control, "evaluation": self.evaluation}
        return {
            name: {"source": self.sources[name], "count": len(rows), "sha256": digest(rows) if rows else None}
            for name, rows in sets.items()
        }


def split_sets(asked: Sets, model: Model, signature: Signature, objects: Objects) -> Split:
    """Read and divide.  Raises BadInput where two sets share a sample or one would be too small."""
    asked = _with_own_splits(asked)

    def opened(spec: str | None) -> Data:
        request = RunRequest(model.spec, Path(), data=spec, seed=asked.seed, labels=asked.labels)
        return open_data(request, objects, model, signature)

    data = opened(asked.data)
    rest = list(data.samples()) if data.reader is not None and data.real else []
    _unique(rest, data.name)
    rest = [rest[i] for i in np.random.default_rng(asked.seed).permutation(len(rest))]
    third = min(asked.calibration_count, len(rest) // 3)
    calibration, rest, calibration_source = _part(
        opened, asked.calibration, asked.calibration_count if asked.calibration else third, rest, data.name
    )
    half = len(rest) // 2
    wanted = asked.control_count if asked.control else min(asked.control_count or half, half)
    control, rest, control_source = _part(opened, asked.control, wanted, rest, data.name)
    synthetic = asked.calibration == "synthetic"
    sources = {"calibration": calibration_source, "control": control_source, "evaluation": data.name}
    split = Split(data, tuple(calibration), tuple(control), tuple(rest), sources, synthetic)
    _disjoint({"calibration": split.calibration, "control": split.control, "evaluation": split.evaluation})
    return split


def _with_own_splits(asked: Sets) -> Sets:
    own = OWN_SPLITS.get(asked.data or "")
    if own is None:
        return asked
    return replace(asked, calibration=asked.calibration or own[0], control=asked.control or own[1])


def _part(
    opened: Any, spec: str | None, count: int | None, rest: list[Sample], name: str
) -> tuple[list[Sample], list[Sample], str]:
    """Samples of ``spec``, or the first ``count`` of ``rest``; what remains of ``rest``; and where they are from."""
    if spec is not None:
        data = opened(spec)
        return list(data.samples(count)), rest, data.name
    return rest[: count or 0], rest[count or 0 :], f"{name}, {count or 0} drawn by seed"


def _identity(sample: Sample) -> tuple[str, str]:
    return sample.id, digest([sample])


def _unique(rows: Iterable[Sample], name: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise BadInput(f"{name} has the sample {row.id} twice")
        seen.add(row.id)


def _disjoint(sets: Mapping[str, tuple[Sample, ...]]) -> None:
    where: dict[tuple[str, str], str] = {}
    for name, rows in sets.items():
        for row in rows:
            other = where.setdefault(_identity(row), name)
            if other != name:
                raise BadInput(
                    f"{row.id} is in the {other} and in the {name} set; these must not share samples",
                    remedy="give --calibration, --control and --data from disjoint folders or splits",
                )
