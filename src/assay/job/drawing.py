"""Samples in a drawn order, and a drawn part of them.

The first samples of a folder of classes are of its first classes, so an accuracy on fewer than all is on drawn ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from assay.core.dataset import Item, Reader
from assay.job.context import Data


def in_random_order(data: Data, seed: int) -> Data:
    """The same samples, shuffled: a sequential test needs that."""
    assert data.reader is not None
    order = _shuffled(len(data.reader), seed)
    return replace(data, reader=_Drawn(data.reader, order), identity=f"{data.identity}, in the order of seed {seed}")


def some_of(data: Data, count: int | None, seed: int) -> Data:
    """``count`` samples drawn by ``seed``, in the order they have; ``data`` itself where there are no more than that.

    Fewer of the same seed are among more of them.
    """
    if data.reader is None or count is None or count >= (available := len(data.reader)):
        return data
    drawn = at_places(data.reader, some_places(available, count, seed))
    identity = f"{data.identity}, {count} drawn with seed {seed}"
    return replace(data, reader=drawn, identity=identity, drawn_from=available)


def some_places(available: int, count: int, seed: int) -> list[int]:
    """Which ``count`` of ``available`` samples ``seed`` draws, in rising order; all where there are no more."""
    return sorted(_shuffled(available, seed)[:count])


def at_places(reader: Reader, places: Sequence[int]) -> Reader:
    """The items of ``reader`` at ``places``, in that order."""
    return _Drawn(reader, places)


def _shuffled(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311 - a shuffle, not a secret
    return order


class _Drawn:
    """A reader whose items are at ``order``'s places of another's."""

    def __init__(self, reader: Reader, order: Sequence[int]) -> None:
        self._reader = reader
        self._order = order
        self.name = reader.name
        self.synthetic = reader.synthetic
        self.labels: tuple[str, ...] | None = reader.labels
        self.preprocess: Mapping[str, object] | None = reader.preprocess
        self.warnings: tuple[str, ...] = tuple(getattr(reader, "warnings", ()))

    def __len__(self) -> int:
        return len(self._order)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        places = self._order[start:stop]
        if getattr(self._reader, "streams", False) and list(places) == sorted(places):
            yield from self._in_one_pass(places)
            return
        for place in places:
            yield from self._reader.items(place, place + 1)

    def _in_one_pass(self, places: Sequence[int]) -> Iterator[Item]:
        """For readers that go through what lies before an item to reach it."""
        wanted = iter(places)
        following = next(wanted, None)
        if following is None:
            return
        for place, item in enumerate(self._reader.items(following, places[-1] + 1), following):
            if place == following:
                yield item
                following = next(wanted, None)
