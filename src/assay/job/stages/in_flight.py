"""Which samples are in inference: told while they are, prepared again for an engine that is tried apart on them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from assay import data as readers
from assay.core.dataset import Item
from assay.core.errors import AssayError
from assay.core.tensors import Array, Feed
from assay.core.units import Bytes
from assay.job.context import Data
from assay.job.evaluate.through import slides
from assay.job.last_words import Places
from assay.pipeline import Stages, Windows, sliding
from assay.pipeline.reading import Batch, Reading
from assay.pipeline.settings import Rows

ROUND_BYTES: Bytes = 128 * 2**20
"""Of prepared samples that are given to one child at a time."""


class _Own(threading.local):
    """A worker's own: its slot, the places of its batch, and whether that has been through inference."""

    slot = -1
    places: Places | None = None
    over = True


class InFlight:
    """Calls ``tell(slot, places)`` with the samples that a worker has in inference, and with None behind it.

    A worker prepares a batch's items and runs them, in one thread (see assay.pipeline).
    """

    def __init__(self, tell: Callable[[int, Places | None], None]) -> None:
        self._tell = tell
        self._slots = itertools.count()
        self._places: dict[str, int] = {}
        self._own = _Own()

    def around(self, stages: Stages) -> Stages:
        def read(start: int, stop: int) -> Iterator[Item]:
            for place, item in enumerate(stages.read(start, stop), start):
                self._places[item.id] = place
                yield item

        def prepare(item: Item, rows: Rows | None) -> Rows:
            self._take(self._places.pop(item.id, None))
            return stages.prepare(item, rows)

        def infer(feed: Feed) -> Mapping[str, Array]:
            own = self._own
            own.over = True
            if own.slot < 0:
                own.slot = next(self._slots)
            self._tell(own.slot, own.places)
            try:
                return stages.infer(feed)
            finally:
                self._tell(own.slot, None)

        return replace(stages, read=read, prepare=prepare, infer=infer)

    def _take(self, place: int | None) -> None:
        own = self._own
        if own.over:
            own.places, own.over = None, False
        if place is not None:
            own.places = (min(place, own.places[0]), max(place, own.places[1])) if own.places else (place, place)


def again(data: Data, at: Sequence[Places]) -> Iterator[list[list[Item]]]:
    """The samples at these places, prepared: batches of them, as many at a time as one child is given.  What cannot be
    read or prepared is left out, as the evaluation does; there is always a first round, which may be empty."""
    round_: list[list[Item]] = []
    held = 0
    for batch in _batches(data, at):
        size = sum(array.nbytes for item in batch for array in item.content.values())
        if round_ and held + size > ROUND_BYTES:
            yield round_
            round_, held = [], 0
        round_.append(batch)
        held += size
    yield round_


def _batches(data: Data, at: Sequence[Places]) -> Iterator[list[Item]]:
    assert data.reader is not None
    assert data.transform is not None
    signature = data.signature
    if data.task is not None and slides(data.task, signature):
        _, signature = sliding(lambda feed: feed, signature, Windows())
    prepare, total = readers.preparer(data.transform, signature.inputs), len(data.reader)
    reading = Reading(data.reader.items, total)
    for first, last in at:
        found = []
        for item in reading.fill(Batch(0, 0), first, min(total, last + 1)).items:
            try:
                found.append(Item(item.id, prepare(item, None)))
            except AssayError:
                continue
        if found:
            yield found
