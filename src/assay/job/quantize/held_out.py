"""Samples of a run's data that int8 is made with, set aside so that nothing is evaluated on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from assay import data as readers
from assay.core.artifact import digest_json
from assay.core.dataset import Item, Reader
from assay.core.errors import BadInput
from assay.core.sample import Sample, digest
from assay.core.tensors import Signature
from assay.job.context import Context, Data
from assay.job.dataset import open_data
from assay.job.quantize.calibrating import OWN_SPLITS
from assay.job.request import Int8

LEAST = 8
"""Fewer calibration samples than these give ranges of nothing."""
CONTROL_SAMPLES = 1000


class Subset:
    """Some of a reader's items, in the reader's order; see ``core.dataset.Reader``."""

    def __init__(self, reader: Reader, indices: Sequence[int]) -> None:
        self._reader, self._indices = reader, tuple(sorted(indices))
        self.name, self.synthetic = reader.name, reader.synthetic
        self.labels, self.preprocess = reader.labels, reader.preprocess

    def __len__(self) -> int:
        return len(self._indices)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        chosen = self._indices[start:stop]
        if not chosen:
            return
        wanted = frozenset(chosen)
        for index, item in enumerate(self._reader.items(chosen[0], chosen[-1] + 1), chosen[0]):
            if index in wanted:
                yield item


@dataclass(frozen=True)
class Part:
    """One set of samples; the name of ``data`` says which of whose.  ``own``: of the run's data, set aside."""

    data: Data
    own: bool = False

    @property
    def source(self) -> str:
        return self.data.name

    def samples(self) -> tuple[Sample, ...]:
        return tuple(self.data.samples())


@dataclass(frozen=True)
class HeldOut:
    """Three sets that share no sample.  ``control`` is None without accuracy control; ``note`` says what the
    evaluation lost to the other two."""

    evaluation: Data
    calibration: Part
    control: Part | None = None
    note: str | None = None

    @property
    def identity(self) -> str:
        """Changes when any of the samples that make the file do."""
        parts = [p and [p.source, p.data.identity] for p in (self.calibration, self.control)]
        return digest_json(parts)


def hold_out(ctx: Context, data: Data, signature: Signature) -> HeldOut:
    """Divide by the run's seed.  Raises BadInput where sets share a sample or one would be too small."""
    asked = _with_own_splits(ctx)
    rest: list[int] = []
    if data.real and data.reader is not None:
        rest = [int(i) for i in np.random.default_rng(ctx.request.seed).permutation(len(data.reader))]
    whole = len(rest)
    third = min(asked.calibration_count, whole // 3)
    calibration, rest = _part(ctx, data, asked.calibration, (asked.calibration_count, third), rest)
    control = None
    if asked.max_drop is not None:
        wanted = asked.control_count or max(CONTROL_SAMPLES, int(2 / max(asked.max_drop, 1e-3)))
        control, rest = _part(ctx, data, asked.control, (wanted, min(wanted, len(rest) // 2)), rest)
    for part in (calibration, *([control] if control else [])):
        _check_disjoint(part, data)
    if control is not None:
        _check_apart(calibration, control)
    if len(rest) == whole:
        return HeldOut(data, calibration, control)
    note = (
        f"{whole - len(rest)} of {whole} samples of {data.name} went into making int8; accuracy is on the other "
        f"{len(rest)} (--calibration DATA{' and --control DATA' if control else ''} leaves all of them)"
    )
    return HeldOut(_subset(data, rest, f"{data.name} without what made int8"), calibration, control, note)


def _with_own_splits(ctx: Context) -> Int8:
    asked = ctx.request.int8
    own = OWN_SPLITS.get(ctx.request.data or "")
    if own is None:
        return asked
    return replace(asked, calibration=asked.calibration or own[0], control=asked.control or own[1])


def _part(
    ctx: Context, data: Data, spec: str | None, counts: tuple[int, int], rest: list[int]
) -> tuple[Part, list[int]]:
    """At most ``counts[0]`` samples of ``spec``, or ``counts[1]`` of ``rest``; and what remains of ``rest``."""
    most, own = counts
    if spec is None:
        return Part(_drawn(ctx, data, rest[:own]), own=True), rest[own:]
    found = open_data(replace(ctx.request, data=spec), replace(ctx.objects, data=None), ctx.model, data.signature)
    assert found.reader is not None
    size = len(found.reader)
    if size <= most:
        _enough(size, found.name)
        return Part(found), rest
    order = np.random.default_rng(ctx.request.seed).permutation(size)
    return Part(_drawn(ctx, found, [int(i) for i in order[:most]])), rest


def _drawn(ctx: Context, data: Data, indices: Sequence[int]) -> Data:
    _enough(len(indices), data.name)
    return _subset(data, indices, f"{data.name}, {len(indices)} drawn by seed {ctx.request.seed}")


def _enough(count: int, name: str) -> None:
    if count < LEAST:
        raise BadInput(f"{name} can spare {count} samples; int8 needs {LEAST}", remedy="--calibration DATA")


def _subset(data: Data, indices: Sequence[int], name: str) -> Data:
    assert data.reader is not None
    identity = digest_json([data.identity, sorted(indices)])
    return replace(data, name=name, reader=Subset(data.reader, indices), identity=identity)


def _check_disjoint(part: Part, data: Data) -> None:
    """A part from elsewhere must not hold a sample that is evaluated: one with the same id and the same values."""
    if part.own or data.reader is None or data.transform is None or not part.data.real:
        return
    taken = _digests(part)
    for index, item in enumerate(data.reader.items()):
        if item.id in taken:
            same = next(iter(readers.samples(data.reader, data.transform, data.signature.inputs, index, index + 1)))
            if digest([same]) == taken[item.id]:
                raise _shared(item.id, part.source, data.name)


def _check_apart(calibration: Part, control: Part) -> None:
    both = set(_digests(calibration).items()) & set(_digests(control).items())
    if both:
        raise _shared(sorted(both)[0][0], calibration.source, control.source)


def _digests(part: Part) -> Mapping[str, str]:
    return {sample.id: digest([sample]) for sample in part.samples()}


def _shared(name: str, first: str, second: str) -> BadInput:
    return BadInput(
        f"{name} is in {first} and in {second}; calibration, accuracy control and evaluation must not share samples",
        remedy="give --calibration, --control and --data from disjoint folders or splits",
    )


def described(samples: Sequence[Sample], source: str) -> dict[str, Any]:
    """A set as its Record tells it."""
    return {"source": source, "count": len(samples), "sha256": digest(samples) if samples else None}
