"""Seeded inputs drawn from a signature: pure numpy, the same on every machine for one seed."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from assay.core.errors import BadInput, UnknownName
from assay.core.tensors import DTYPES, Array, Signature, TensorSpec, is_float

Ranges = Mapping[str, tuple[float, float]]
DEFAULT_INTEGERS = (0, 9)
MOST_VALUES = 2**29
"""Values of one input; they take eight bytes each while they are drawn."""
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def draw_feed(
    specs: Signature | Sequence[TensorSpec],
    batch: int = 1,
    seed: int = 0,
    ranges: Ranges | None = None,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, Array]:
    """One array per input.

    Floats are standard normal, integers 0 … 9, booleans fair; ``ranges`` gives other bounds (both
    inclusive, drawn uniformly) by input name.  ``batch`` is the size of every batch axis, ``sizes``
    those of the other free dims.  Each input has its own stream, so that adding one does not change
    the others.  Raises BadInput for a free dim without a size, a static batch other than ``batch``
    or a range that does not suit the dtype; UnknownName for a range that names no input.
    """
    inputs = specs.inputs if isinstance(specs, Signature) else tuple(specs)
    ranges = ranges or {}
    for name in ranges:
        if name not in {s.name for s in inputs}:
            raise UnknownName("input", name, [s.name for s in inputs])
    shapes = {s.name: _shape(s, batch, sizes or {}) for s in inputs}
    for spec in inputs:
        if math.prod(shapes[spec.name]) > MOST_VALUES:
            shape = "x".join(map(str, shapes[spec.name]))
            raise BadInput(
                f"input {spec}: a feed of {shape} values is too large to be drawn (at most {MOST_VALUES})",
                remedy="a smaller --batch or --shape, or check the model's dims",
            )
    try:
        return {s.name: _draw(s, shapes[s.name], seed, ranges.get(s.name)) for s in inputs}
    except MemoryError as error:
        raise BadInput(
            f"there is no memory for a feed of {batch} rows ({error})", remedy="a smaller --batch"
        ) from error


def _shape(spec: TensorSpec, batch: int, sizes: Mapping[str, int]) -> tuple[int, ...]:
    shape = []
    for axis, dim in enumerate(spec.shape):
        if axis == spec.batch_axis:
            if isinstance(dim, int) and dim != batch:
                raise BadInput(f"input {spec} has a fixed batch of {dim}; a batch of {batch} cannot be drawn")
            shape.append(batch)
        elif isinstance(dim, int):
            shape.append(dim)
        elif dim in sizes:
            shape.append(sizes[dim])
        else:
            raise BadInput(
                f"no size is given for the free dim {dim!r} of input {spec}",
                remedy="give real samples (--data), or export the model with a number in its place (--shape)",
            )
    return tuple(shape)


def _draw(spec: TensorSpec, shape: tuple[int, ...], seed: int, span: tuple[float, float] | None) -> Array:
    rng = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    dtype = DTYPES[spec.dtype]
    if spec.dtype == "string":
        if span is not None:
            raise BadInput(f"input {spec} holds text, which has no range")
        words = ["".join(rng.choice(list(_LETTERS), 6)).encode() for _ in range(int(np.prod(shape)))]
        out = np.empty(len(words), dtype=object)
        out[:] = words
        return out.reshape(shape)
    if is_float(spec.dtype):
        values = rng.standard_normal(shape) if span is None else rng.uniform(*span, shape)
        return np.asarray(values.astype(dtype), order="C")  # ascontiguousarray would give a scalar a dim
    default, most = ((0, 1), (0, 1)) if spec.dtype == "bool" else (DEFAULT_INTEGERS, _limits(dtype))
    low, high = (int(v) for v in span or default)
    if span is not None and (low, high) != tuple(span):
        raise BadInput(f"the range {span[0]}..{span[1]} of input {spec} must have whole numbers as its ends")
    if low < most[0] or high > most[1]:
        raise BadInput(f"the range {low}..{high} does not fit input {spec}")
    if spec.dtype == "bool":
        return rng.integers(low, high + 1, shape).astype(np.bool_)
    return rng.integers(low, high, shape, dtype=dtype, endpoint=True)


def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
