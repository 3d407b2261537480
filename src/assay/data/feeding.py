"""From a reader's items to Samples that fit a model's inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from assay.core.dataset import Item, Reader
from assay.core.errors import AssayError, BadInput
from assay.core.sample import Sample
from assay.core.tensors import DTYPES, Array, TensorSpec
from assay.core.transform import Transform


def samples(
    reader: Reader, transform: Transform, inputs: tuple[TensorSpec, ...], start: int = 0, stop: int | None = None
) -> Iterator[Sample]:
    """Items ``start`` to ``stop`` as Samples: arrays without batch axis, named like ``inputs``.

    Content that is a mapping holds model inputs already and is not transformed; anything else goes
    through ``transform`` and becomes the model's one input.  Raises BadInput, naming the item, for
    content the transform cannot take and for names, dtypes or shapes that are not the model's.
    """
    for item in reader.items(start, stop):
        yield Sample(item.id, _checked(item.id, _inputs_of(item, transform, inputs), inputs), item.target)


def preparer(
    transform: Transform, inputs: tuple[TensorSpec, ...]
) -> Callable[[Item, Mapping[str, Array] | None], Mapping[str, Array]]:
    """``prepare(item, rows)``: the model's inputs for one item, checked as ``samples`` checks them.

    ``rows`` are places in a batch; a transform that can write there does, and ``rows`` is given back.
    """
    into = getattr(transform, "into", None)

    def prepare(item: Item, rows: Mapping[str, Array] | None) -> Mapping[str, Array]:
        if rows is None or into is None or len(inputs) != 1 or isinstance(item.content, Mapping):
            return _checked(item.id, _inputs_of(item, transform, inputs), inputs)
        with _naming(item.id):
            into(item.content, rows[inputs[0].name])
        return rows

    return prepare


@contextlib.contextmanager
def _naming(id: str) -> Iterator[None]:
    """Put the item's id before what goes wrong with it."""
    try:
        yield
    except AssayError as error:
        error.message = f"{id}: {error.message}"
        error.args = (error.message,)
        raise
    except MemoryError:
        raise
    except Exception as error:  # a user's own function may raise anything
        raise BadInput(f"{id}: the transform failed with {type(error).__name__}: {error}") from error


def _inputs_of(item: Item, transform: Transform, inputs: tuple[TensorSpec, ...]) -> Mapping[str, Array]:
    if isinstance(item.content, Mapping):
        return item.content
    if len(inputs) != 1:
        names = ", ".join(s.name for s in inputs)
        raise BadInput(
            f"{item.id}: the model has {len(inputs)} inputs ({names}), the data give one unnamed item",
            remedy="use data with one array per input name, such as npz:FILE",
        )
    with _naming(item.id):
        array = transform(item.content)
    return {inputs[0].name: array}


def _checked(id: str, arrays: Mapping[str, Any], inputs: tuple[TensorSpec, ...]) -> Mapping[str, Array]:
    expected = [s.name for s in inputs]
    if set(arrays) != set(expected):
        found = ", ".join(map(str, arrays)) or "none"
        raise BadInput(f"{id}: the data give the inputs {found}; the model's are {', '.join(expected)}")
    sizes: dict[str, int] = {}
    return {spec.name: _fitting(id, spec, arrays[spec.name], sizes) for spec in inputs}


def _fitting(id: str, spec: TensorSpec, array: Any, sizes: dict[str, int]) -> Array:
    if not isinstance(array, np.ndarray):
        raise BadInput(f"{id}: input {spec.name!r} must be a numpy array, not {type(array).__name__}")
    row = spec.row_shape()
    shown = "x".join(map(str, row)) or "scalar"
    if array.dtype != DTYPES[spec.dtype]:
        raise BadInput(
            f"{id}: input {spec.name!r} must be {spec.dtype}, found {array.dtype}",
            remedy=f"convert the data, or give a transform that returns {spec.dtype} of {shown}",
        )
    if array.ndim != len(row):
        raise BadInput(f"{id}: input {spec.name!r} must be {shown} without its batch axis, found shape {array.shape}")
    for dim, found in zip(row, array.shape, strict=True):
        size = dim if isinstance(dim, int) else sizes.setdefault(dim, found)
        if size != found:
            raise BadInput(f"{id}: input {spec.name!r} must be {shown}, found shape {array.shape}")
    return np.ascontiguousarray(array) if array.ndim else array
