"""TensorSpec and Signature: what goes into a model and what comes out.

A dim is an ``int`` (fixed: that *is* the statement "static"), a name (free; equal
names mean equal sizes), or, for outputs only, derived (``"2*h"``) or
data-dependent (``"?"``).  dtypes are a closed list; ``bfloat16`` is the numpy
scalar of ``ml_dtypes`` and a string tensor is an object array of ``bytes``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from assay.core import checked
from assay.core.errors import SignatureMismatch

Array = np.ndarray[Any, Any]
Feed = Mapping[str, Array]
Dim = int | str

DTYPES: dict[str, np.dtype[Any]] = {
    "bool": np.dtype(np.bool_),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "string": np.dtype(object),
}
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*$")
_BY_NUMPY = {dtype: name for name, dtype in DTYPES.items()}


def dtype_name(array: Array) -> str:
    """The closed-list name of an array's dtype.  Raises SignatureMismatch."""
    try:
        return _BY_NUMPY[array.dtype]
    except KeyError:
        raise SignatureMismatch(
            f"dtype {array.dtype} is not supported", remedy=f"convert to one of {', '.join(DTYPES)}"
        ) from None


def is_float(dtype: str) -> bool:
    return dtype in ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    ``batch_axis`` is the axis along which independent rows lie (an LSTM's state has
    1), or None when the tensor is not batched.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    batch_axis: int | None = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise SignatureMismatch(f"{self.name}: {self.dtype!r} is not a known dtype")
        if self.batch_axis is not None and not 0 <= self.batch_axis < len(self.shape):
            raise SignatureMismatch(f"{self.name}: batch axis {self.batch_axis} outside {self}")

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    @property
    def batch(self) -> Dim | None:
        """The size of the batch axis: an int when static, a name when free, None when unbatched."""
        return None if self.batch_axis is None else self.shape[self.batch_axis]

    def row_shape(self) -> tuple[Dim, ...]:
        """The shape without the batch axis."""
        return tuple(d for i, d in enumerate(self.shape) if i != self.batch_axis)

    def with_batch(self, batch: Dim) -> TensorSpec:
        if self.batch_axis is None:
            return self
        shape = list(self.shape)
        shape[self.batch_axis] = batch
        return replace(self, shape=tuple(shape))

    def __str__(self) -> str:
        dims = "x".join(str(d) for d in self.shape) or "scalar"
        name = self.name if self.name.isprintable() else repr(self.name)
        return f"{name}:{dims}:{self.dtype}"

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "batch_axis": self.batch_axis}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TensorSpec:
        """Raises KeyError, TypeError, and SignatureMismatch for what cannot be."""
        dims: list[Any] = checked.field(data, "shape", list)
        shape = tuple(_dim(d) for d in dims)
        name, dtype = checked.field(data, "name", str), checked.field(data, "dtype", str)
        return cls(name, dtype, shape, checked.optional(data, "batch_axis", int))


def _dim(value: Any) -> Dim:
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise TypeError(f"a dim of the shape is a {type(value).__name__}")
    return value


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model, in their order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        return _named(self.inputs, name, "input")

    def output(self, name: str) -> TensorSpec:
        return _named(self.outputs, name, "output")

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(s.name for s in self.outputs)

    @property
    def static_batch(self) -> int | None:
        """The one batch size this model accepts, or None when its batch is free or it has none."""
        sizes = {s.batch for s in self.inputs if s.batch_axis is not None}
        if len(sizes) == 1 and isinstance(size := sizes.pop(), int):
            return size
        return None

    @property
    def is_batched(self) -> bool:
        """Whether rows of different callers may share a call: every output must have a batch axis."""
        return bool(self.outputs) and all(s.batch_axis is not None for s in self.outputs)

    def free_dims(self) -> tuple[str, ...]:
        """Names of the free input dims, in order of appearance."""
        return tuple(dict.fromkeys(d for s in self.inputs for d in s.shape if isinstance(d, str)))

    def with_batch(self, batch: Dim) -> Signature:
        return Signature(
            tuple(s.with_batch(batch) for s in self.inputs), tuple(s.with_batch(batch) for s in self.outputs)
        )

    def batch_of(self, feed: Feed) -> int:
        """Rows in ``feed``: the size of the first batched input's batch axis, else 1."""
        for spec in self.inputs:
            if spec.batch_axis is not None and spec.name in feed:
                return int(feed[spec.name].shape[spec.batch_axis])
        return 1

    def check_feed(self, feed: Feed) -> dict[str, int]:
        """Check names, ranks, dtypes and sizes; return the sizes of the free dims.

        Raises SignatureMismatch naming the input, what was expected and what was found.
        """
        if set(feed) != set(self.input_names):
            raise SignatureMismatch(
                f"inputs given: {', '.join(sorted(feed)) or 'none'}; expected: {', '.join(self.input_names)}"
            )
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            _check_array(spec, feed[spec.name], sizes)
        return sizes

    def to_json(self) -> dict[str, Any]:
        return {"inputs": [s.to_json() for s in self.inputs], "outputs": [s.to_json() for s in self.outputs]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        return cls(
            tuple(TensorSpec.from_json(s) for s in data["inputs"]),
            tuple(TensorSpec.from_json(s) for s in data["outputs"]),
        )

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"


def _named(specs: Sequence[TensorSpec], name: str, what: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise SignatureMismatch(f"there is no {what} {name!r}; there are: {', '.join(s.name for s in specs)}")


def _check_array(spec: TensorSpec, array: Array, sizes: dict[str, int]) -> None:
    if not isinstance(array, np.ndarray):
        raise SignatureMismatch(f"input {spec.name!r} must be a numpy array, not {type(array).__name__}")
    if array.dtype != DTYPES[spec.dtype]:
        raise SignatureMismatch(f"input {spec.name!r} must be {spec.dtype}, found {array.dtype}")
    if array.ndim != len(spec.shape):
        raise SignatureMismatch(
            f"input {spec.name!r} must have {len(spec.shape)} dims ({spec}), found shape {array.shape}"
        )
    for axis, (dim, found) in enumerate(zip(spec.shape, array.shape, strict=True)):
        expected = dim if isinstance(dim, int) else sizes.setdefault(dim, found)
        if expected != found:
            raise SignatureMismatch(f"input {spec.name!r} dim {axis} must be {expected} ({spec}), found {found}")


def is_dim_name(text: str) -> bool:
    return bool(_NAME.match(text))
