"""Three sets that share no sample: calibration, accuracy control and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from assay.core.model import Model
from assay.core.sample import Sample, digest
from assay.core.tensors import Signature
from assay.export.options import ExportOptions
from assay.job.context import Data
from assay.job.dataset import open_data
from assay.job.quantize.parts import at_most, check_apart, check_unique, drawn, own_splits, rows_of, shuffled, subset
from assay.job.request import Objects, RunRequest


@dataclass(frozen=True)
class Sets:
    """DATA arguments; None for calibration or control means "a part of ``data``, drawn by ``seed``": at most a
    third of it for calibration, at most half of what is left for control.  Of DATA with more samples than the
    counts ask for, ``seed`` draws so many.

    ``calibration`` may be ``synthetic``, which has to be typed; ``ranges`` bound its values by input.
    """

    data: str | None
    calibration: str | None = None
    control: str | None = None
    calibration_count: int = 300
    control_count: int | None = None
    seed: int = 0
    labels: Path | None = None
    ranges: tuple[tuple[str, float, float], ...] = ()


@dataclass(frozen=True)
class Split:
    """``data`` carries the task; ``sources`` say for the Record where each set is from."""

    data: Data
    calibration: Sequence[Sample]
    control: Sequence[Sample]
    evaluation: Sequence[Sample]
    sources: Mapping[str, str]
    synthetic_calibration: bool

    def to_json(self) -> dict[str, Any]:
        sets = {"calibration": self.calibration, "control": self.control, "evaluation": self.evaluation}
        return {name: described(rows, self.sources[name]) for name, rows in sets.items()}


def described(samples: Sequence[Sample], source: str) -> dict[str, Any]:
    """A set as its Record tells it."""
    return {"source": source, "count": len(samples), "sha256": digest(samples) if samples else None}


@dataclass(frozen=True)
class _Part:
    """``own``: set aside of the data themselves, whose parts cannot overlap."""

    data: Data
    own: bool


def split_sets(asked: Sets, model: Model, signature: Signature, objects: Objects) -> Split:
    """Read and divide.  Raises BadInput where two sets share a sample."""
    asked = own_splits(asked, asked.data)

    def opened(spec: str | None) -> Data:
        request = RunRequest(
            model.spec,
            Path(),
            data=spec,
            seed=asked.seed,
            labels=asked.labels,
            export=ExportOptions(ranges=asked.ranges),
        )
        return open_data(request, objects, model, signature)

    data = opened(asked.data)
    rest: list[int] = []
    if data.real:
        check_unique(data)
        rest = shuffled(data, asked.seed)
    third = min(asked.calibration_count, len(rest) // 3)
    calibration, rest = _part(opened, asked, (asked.calibration, asked.calibration_count, third), data, rest)
    half = len(rest) // 2
    own = min(asked.control_count or half, half)
    control, rest = _part(opened, asked, (asked.control, asked.control_count, own), data, rest)
    evaluation = _Part(subset(data, rest, data.name), own=True) if rest else None
    parts = (calibration, control, evaluation)
    for first, second in combinations([part for part in parts if part is not None], 2):
        if not (first.own and second.own):
            check_apart(first.data, second.data)
    names = ("calibration", "control", "evaluation")
    sources = {name: data.name if part is None else part.data.name for name, part in zip(names, parts, strict=True)}
    sets = [() if part is None else rows_of(part.data) for part in parts]
    return Split(data, sets[0], sets[1], sets[2], sources, asked.calibration == "synthetic")


def _part(
    opened: Callable[[str | None], Data],
    asked: Sets,
    wanted: tuple[str | None, int | None, int],
    data: Data,
    rest: list[int],
) -> tuple[_Part | None, list[int]]:
    """Of DATA that were named at most so many, else the first so many of ``rest``; and what remains of ``rest``."""
    spec, most, count = wanted
    if spec is not None:
        return _Part(at_most(opened(spec), most, asked.seed), own=False), rest
    if not count:
        return None, rest
    return _Part(drawn(data, rest[:count], asked.seed), own=True), rest[count:]
