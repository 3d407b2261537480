"""Intake: is this feed fit for the model, how many rows has it, and with whom may it share a batch?

It runs on the caller's thread, before anything is queued, so that an unfit feed harms its
sender alone.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from assay.batching.pending import Solo
from assay.core.errors import BadInput
from assay.core.tensors import Feed, Signature

COMPARED_BYTES = 4096
"""Unbatched inputs up to this size are compared by value; a request with a larger one is served alone."""
KNOWN_SHAPES = 1024


def open_batch(signature: Signature) -> Signature:
    """``signature`` with a free batch, as callers of a batcher see a model of static batch."""
    if signature.static_batch is None or not mergeable(signature):
        return signature
    name = "batch"
    while name in signature.free_dims():
        name += "_"
    return signature.with_batch(name)


def mergeable(signature: Signature) -> bool:
    """Whether rows of different callers may share a call: every output and some input has a batch axis."""
    return signature.is_batched and any(s.batch_axis is not None for s in signature.inputs)


class Intake:
    """Remembers shapes that passed, so that the usual feed costs one look-up.  Any thread may call it."""

    def __init__(self, signature: Signature) -> None:
        self.signature = open_batch(signature)
        self.mergeable = mergeable(signature)
        self._names = signature.input_names
        self._batched = tuple(s for s in signature.inputs if s.batch_axis is not None)
        self._shared = tuple(s for s in signature.inputs if s.batch_axis is None)
        self._solo = Solo()
        self._known: dict[Any, tuple[int, Hashable]] = {}

    def look(self, feed: Feed) -> tuple[int, Hashable]:
        """Rows and lane of ``feed``.  Raises SignatureMismatch, or BadInput for no rows or unequal numbers of rows."""
        try:
            marks = tuple([(feed[name].shape, feed[name].dtype) for name in self._names])
            rows, lane = self._known[marks]
            if len(feed) != len(self._names):
                raise KeyError
        except (KeyError, AttributeError, TypeError):
            rows, lane = self._check(feed)
        if self._shared and lane is not self._solo:
            lane = self._with_shared(lane, feed)
        return rows, lane

    def _check(self, feed: Feed) -> tuple[int, Hashable]:
        self.signature.check_feed(feed)
        marks = tuple([(feed[name].shape, feed[name].dtype) for name in self._names])
        counts = {s.name: feed[s.name].shape[s.batch_axis or 0] for s in self._batched}
        if len(set(counts.values())) > 1:
            raise BadInput(f"the inputs have unequal numbers of rows: {counts}")
        rows = next(iter(counts.values()), 1)
        if rows < 1:
            raise BadInput("a request needs at least one row")
        lane: Hashable = self._solo
        if self.mergeable:
            lane = tuple(_without(feed[s.name].shape, s.batch_axis) for s in self._batched)
        if len(self._known) >= KNOWN_SHAPES:
            self._known.clear()
        self._known[marks] = rows, lane
        return rows, lane

    def _with_shared(self, lane: Hashable, feed: Feed) -> Hashable:
        values = []
        for spec in self._shared:
            array = feed[spec.name]
            if array.nbytes > COMPARED_BYTES:
                return self._solo
            content = tuple(array.flat) if array.dtype == object else array.tobytes()
            values.append((array.shape, content))
        return lane, tuple(values)


def _without(shape: tuple[int, ...], axis: int | None) -> tuple[int, ...]:
    return tuple(n for i, n in enumerate(shape) if i != axis)
