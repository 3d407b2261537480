"""Parts of data sets, of which no two share a sample: nothing is judged on what it was made with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar, overload

import numpy as np

from assay import data as readers
from assay.core.artifact import digest_json
from assay.core.dataset import Item, Reader
from assay.core.errors import BadInput
from assay.core.sample import Sample, digest
from assay.core.units import Bytes
from assay.job.context import Data

OWN_SPLITS = {"digits": ("digits:calibration", "digits:train")}
"""Data that come with splits of their own: those for calibration and for accuracy control."""
HELD_BYTES: Bytes = 2**30
"""Samples that take no more than this stay in memory; larger sets are read each time they are gone through."""


class _Asked(Protocol):
    @property
    def calibration(self) -> str | None: ...

    @property
    def control(self) -> str | None: ...


A = TypeVar("A", bound=_Asked)


def own_splits(asked: A, data: str | None) -> A:
    """``asked`` (a frozen dataclass) with the splits that ``data`` bring along, where none were named."""
    calibration, control = OWN_SPLITS.get(data or "", (None, None))
    made: A = replace(  # type: ignore[type-var]
        asked, calibration=asked.calibration or calibration, control=asked.control or control
    )
    return made


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


def subset(data: Data, places: Sequence[int], name: str) -> Data:
    """The samples at ``places`` of ``data``, under a name of their own."""
    assert data.reader is not None
    identity = digest_json([data.identity, sorted(places)])
    return replace(data, name=name, reader=Subset(data.reader, places), identity=identity)


def shuffled(data: Data, seed: int) -> list[int]:
    """Every place of ``data`` in an order drawn by ``seed``: the first of them are a fair part, however they lie."""
    assert data.reader is not None
    return [int(i) for i in np.random.default_rng(seed).permutation(len(data.reader))]


def drawn(data: Data, places: Sequence[int], seed: int) -> Data:
    """A part that ``seed`` chose, which its name says."""
    return subset(data, places, f"{data.name}, {len(places)} drawn by seed {seed}")


def at_most(data: Data, most: int | None, seed: int) -> Data:
    """``data``, or ``most`` of them drawn by ``seed`` where there are more."""
    assert data.reader is not None
    if most is None or len(data.reader) <= most:
        return data
    return drawn(data, shuffled(data, seed)[:most], seed)


class Rows(Sequence[Sample]):
    """Samples that are read anew each time: they need not fit into memory."""

    def __init__(self, data: Data) -> None:
        assert data.reader is not None
        self._data, self._count = data, len(data.reader)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        return self._data.samples()

    @overload
    def __getitem__(self, at: int) -> Sample: ...

    @overload
    def __getitem__(self, at: slice) -> list[Sample]: ...

    def __getitem__(self, at: int | slice) -> Sample | list[Sample]:
        places = range(self._count)[at]
        return sample_at(self._data, places) if isinstance(places, int) else [sample_at(self._data, i) for i in places]


def rows_of(data: Data) -> Sequence[Sample]:
    """The samples of ``data``, held in memory where they take no more than ``HELD_BYTES``."""
    assert data.reader is not None
    first = next(data.samples(1), None)
    if first is None:
        return ()
    each = sum(_bytes(value) for value in (*first.inputs.values(), first.target))
    return tuple(data.samples()) if each * len(data.reader) <= HELD_BYTES else Rows(data)


def _bytes(value: Any) -> Bytes:
    return int(value.nbytes) if isinstance(value, np.ndarray) else 0


def sample_at(data: Data, place: int) -> Sample:
    assert data.reader is not None
    assert data.transform is not None
    return next(iter(readers.samples(data.reader, data.transform, data.signature.inputs, place, place + 1)))


def check_unique(data: Data) -> None:
    """Raises BadInput for an id that occurs twice."""
    assert data.reader is not None
    seen: set[str] = set()
    for item in data.reader.items():
        if item.id in seen:
            raise BadInput(f"{data.name} has the sample {item.id} twice")
        seen.add(item.id)


def check_apart(first: Data, second: Data) -> None:
    """Raises BadInput for a sample that is in both: one with the same id and the same values.

    Values are compared only where ids are the same.  Drawn values are nobody's samples.
    """
    if not (first.real and second.real):
        return
    assert first.reader is not None
    assert second.reader is not None
    places = {item.id: place for place, item in enumerate(first.reader.items())}
    for place, item in enumerate(second.reader.items()):
        other = places.get(item.id)
        if other is not None and digest([sample_at(first, other)]) == digest([sample_at(second, place)]):
            raise BadInput(
                f"{item.id} is in {first.name} and in {second.name}; calibration, accuracy control and evaluation "
                "must not share samples",
                remedy="give --calibration, --control and --data from disjoint folders or splits",
            )
