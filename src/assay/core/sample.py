"""Sample: one row to feed, with its id and what it should give."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array, Signature


@dataclass(frozen=True)
class Sample:
    """``inputs`` maps input names to arrays *without* the batch axis; ``target`` is the label, mask, …"""

    id: str
    inputs: Mapping[str, Array]
    target: Any = None


def stack(samples: Sequence[Sample], signature: Signature) -> dict[str, Array]:
    """Put samples side by side along each input's batch axis; unbatched inputs come from the first.

    Raises BadInput for no samples, a missing input or rows of unequal shape.
    """
    if not samples:
        raise BadInput("no samples to feed")
    feed: dict[str, Array] = {}
    for spec in signature.inputs:
        try:
            rows = [s.inputs[spec.name] for s in samples]
        except KeyError:
            given = ", ".join(samples[0].inputs)
            raise BadInput(f"the samples have no input {spec.name!r}; they have: {given}") from None
        if spec.batch_axis is None:
            feed[spec.name] = np.asarray(rows[0], order="C")  # ascontiguousarray would give a scalar a dim
            continue
        if len({r.shape for r in rows}) > 1:
            raise BadInput(f"samples of different shapes cannot share a batch: input {spec.name!r}")
        feed[spec.name] = np.ascontiguousarray(np.stack(rows, axis=spec.batch_axis))
    return feed


def digest(samples: Sequence[Sample]) -> str:
    """sha256 over ids, inputs and targets, in order: the same in every process."""
    sha = hashlib.sha256()
    for sample in samples:
        sha.update(sample.id.encode())
        for name in sorted(sample.inputs):
            array = sample.inputs[name]
            sha.update(f"{name}{array.dtype}{array.shape}".encode())
            sha.update(_content(array))
        sha.update(_content(sample.target))
    return sha.hexdigest()


def _content(value: Any) -> bytes:
    """What makes ``value`` another one.  The repr of a large array or tensor leaves most of it out, that of a picture
    is an address, and so are the bytes of a string tensor's own memory."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return b"".join(len(part).to_bytes(8, "little") + part for part in map(_content, value.ravel()))
        return np.ascontiguousarray(value).tobytes()
    if isinstance(value, np.generic):
        return repr(value.item()).encode()
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return _content(np.asarray(value))
    if isinstance(value, Mapping):
        return b"".join(repr(name).encode() + _content(part) for name, part in value.items())
    if isinstance(value, list | tuple):
        return b"".join(map(_content, value))
    return value if isinstance(value, bytes) else repr(value).encode()
