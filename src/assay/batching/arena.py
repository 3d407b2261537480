"""Arena: where rows of several callers are put side by side, and how outputs are handed out again.

*Ownership.*  An arena belongs to one instance thread and is written again by its next batch;
that is allowed because a Session keeps no reference to a feed after ``run`` returned.  Outputs
belong to the callers for ever: each gets a view of its own rows of the arrays the session
returned, which nobody writes again.  The views of one batch do not overlap, so a caller may
write into its own, but they share one allocation: one kept row keeps its batch in memory, and
``np.array(row)`` lets go of it.  Where a session breaks that promise or makes it impossible
(outputs lie in the arena, overlap, or are read-only) the rows are copied.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from assay.batching.intake import mergeable
from assay.batching.pending import Solo
from assay.batching.request import Request
from assay.core.errors import EngineFailed
from assay.core.tensors import Array, Feed, Signature, TensorSpec

KEPT_LANES = 4
"""Shapes an instance keeps memory for; the one used longest ago makes room."""
ALIGNMENT = 64
"""Bytes; what engines ask for before they use memory in place."""


class Arena:
    """``most`` is the largest size, padding included."""

    def __init__(self, signature: Signature, most: int) -> None:
        self._batched = tuple((s.name, s.batch_axis) for s in signature.inputs if s.batch_axis is not None)
        self._shared = tuple(s.name for s in signature.inputs if s.batch_axis is None)
        self._most = most
        self._lanes: OrderedDict[Hashable, _Slots] = OrderedDict()

    def feed(self, requests: Sequence[Request], rows: int, size: int) -> Feed:
        """One feed of ``size`` rows.  A single request that needs no padding is passed as it is, uncopied.

        Padding repeats the last real row: made-up values could overflow, or be slow, where real ones are not.
        """
        first = requests[0].feed
        if first is None:
            raise EngineFailed("a request without a feed cannot be run")
        if len(requests) == 1 and rows == size:
            return first
        lane = requests[0].lane
        # Requests of a Solo lane have nothing in common, not even their shapes: kept memory would be another's.
        slots = None if isinstance(lane, Solo) else self._slots(lane, first)
        feed: dict[str, Array] = {}
        for name, axis in self._batched:
            parts = [r.feed[name] for r in requests]  # type: ignore[index]
            if rows < size:
                parts.extend([_last_row(parts[-1], axis)] * (size - rows))
            feed[name] = np.concatenate(parts, axis, None if slots is None else slots.array(name, size))
        for name in self._shared:
            feed[name] = first[name]
        return feed

    def holds(self, array: Array) -> bool:
        """Whether ``array`` may lie in this arena's memory (not when it has memory of its own)."""
        if array.base is None:
            return False
        return any(np.may_share_memory(array, base) for slots in self._lanes.values() for base in slots.bases.values())

    def _slots(self, lane: Hashable, feed: Feed) -> _Slots:
        slots = self._lanes.get(lane)
        if slots is None:
            while len(self._lanes) >= KEPT_LANES:
                self._lanes.popitem(last=False)
            slots = self._lanes[lane] = _Slots(feed, self._batched, self._most)
        elif len(self._lanes) > 1:
            self._lanes.move_to_end(lane)
        return slots


class _Slots:
    """One allocation per input, as large as the largest batch; smaller ones are views of its beginning."""

    def __init__(self, feed: Feed, batched: Sequence[tuple[str, int]], most: int) -> None:
        self.bases: dict[str, Array] = {}
        self._shapes: dict[str, tuple[tuple[int, ...], int]] = {}
        self._views: dict[tuple[str, int], Array | None] = {}
        for name, axis in batched:
            array = feed[name]
            self._shapes[name] = (array.shape, axis)
            if array.dtype != object:
                self.bases[name] = _aligned(most * (array.size // array.shape[axis]), array.dtype)

    def array(self, name: str, size: int) -> Array | None:
        """Where ``size`` rows of ``name`` go: contiguous whatever the batch axis.

        None, "allocate it", for strings: kept arrays of objects would keep the callers' bytes.
        """
        key = (name, size)
        if key not in self._views:
            base = self.bases.get(name)
            shape, axis = self._shapes[name]
            shape = (*shape[:axis], size, *shape[axis + 1 :])
            self._views[key] = None if base is None else base[: math.prod(shape)].reshape(shape)
        return self._views[key]


def _aligned(elements: int, dtype: np.dtype[Any]) -> Array:
    raw = np.empty(elements * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + elements * dtype.itemsize].view(dtype)


def _last_row(array: Array, axis: int) -> Array:
    return array[(slice(None),) * axis + (slice(-1, None),)]


class HandOut:
    """Checks a batch's outputs and gives each request its rows."""

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.outputs
        self._splits = mergeable(signature)

    def give(self, outputs: Mapping[str, Array], requests: Sequence[Request], size: int, arena: Arena) -> None:
        """Set every request's ``outputs``.

        Raises EngineFailed, before any is set, for a missing output or a wrong number of rows.
        """
        for spec in self._specs:
            if spec.name not in outputs:
                raise EngineFailed(f"the model returned no output {spec.name!r}; it returned: {', '.join(outputs)}")
        if not self._splits:
            requests[0].outputs = dict(outputs)
            return
        parts = [(s.name, s.batch_axis or 0, _checked(s, outputs[s.name], size)) for s in self._specs]
        if len(requests) == 1 and requests[0].rows == size:
            requests[0].outputs = {name: array for name, _, array in parts}
            return
        parts = [(name, axis, _separate(array, arena)) for name, axis, array in parts]
        if len(parts) == 1 and parts[0][1] == 0:  # the usual model; worth its own lines
            name, _, array = parts[0]
            start = 0
            for request in requests:
                stop = start + request.rows
                request.outputs = {name: array[start:stop]}
                start = stop
            return
        start = 0
        for request in requests:
            stop = start + request.rows
            request.outputs = {
                name: array[start:stop] if axis == 0 else array[(slice(None),) * axis + (slice(start, stop),)]
                for name, axis, array in parts
            }
            start = stop


def _checked(spec: TensorSpec, array: Array, size: int) -> Array:
    axis = spec.batch_axis or 0
    if array.ndim <= axis or array.shape[axis] != size:
        raise EngineFailed(
            f"the model was given {size} rows, but its output {spec.name!r} has shape {array.shape} "
            f"(batch axis {axis})",
            remedy="if this output is not batched, its batch_axis is None",
        )
    return array


def _separate(array: Array, arena: Arena) -> Array:
    """``array``, or a copy where its rows would not be the callers' own."""
    if not array.flags.writeable or (0 in array.strides and array.size > 1) or arena.holds(array):
        return np.array(array)
    return array
