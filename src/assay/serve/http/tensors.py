"""Tensors in JSON: checked as strictly as the datatype says, and back as flat lists."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from assay.core.tensors import Array
from assay.serve.dtypes import MOST_DIMS, NOT_IN_JSON, numpy_dtype, too_large, wire_datatype
from assay.serve.errors import INVALID, ServeError


def checked_shape(value: Any, name: str) -> tuple[int, ...]:
    """Raises ServeError for what is no list of sizes."""
    if not isinstance(value, list) or len(value) > MOST_DIMS:
        raise ServeError(INVALID, f"input '{name}': shape must be a list of at most {MOST_DIMS} sizes")
    for size in value:
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ServeError(INVALID, f"input '{name}': shape must hold sizes of at least 0, not {value!r:.100}")
    shape = tuple(value)
    if too_large(shape):
        raise ServeError(INVALID, f"input '{name}': a tensor of shape {list(shape)} is too large")
    return shape


def from_json(data: Any, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    """The array of ``data`` (nested or flat, row-major).  Raises ServeError for values or a count that do not fit."""
    dtype = numpy_dtype(datatype)
    if datatype in NOT_IN_JSON:
        raise ServeError(INVALID, f"input '{name}': {datatype} cannot travel in JSON; send it as a binary tensor")
    flat = _flat(data, name)
    count = math.prod(shape)
    if len(flat) != count:
        raise ServeError(INVALID, f"input '{name}': {len(flat)} values, but shape {list(shape)} has {count}")
    kinds = set(map(type, flat))
    if datatype == "BYTES":
        if not kinds <= {str}:
            raise ServeError(INVALID, f"input '{name}': BYTES elements in JSON are strings")
        made = np.empty(count, dtype=object)
        made[:] = [text.encode("utf-8", "surrogatepass") for text in flat]
        return made.reshape(shape)
    allowed = {bool} if datatype == "BOOL" else {int, float} if datatype.startswith("FP") else {int}
    if not kinds <= allowed:
        wrong = next(k.__name__ for k in kinds if k not in allowed)
        raise ServeError(INVALID, f"input '{name}': a value of type {wrong} in a tensor of {datatype}")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=dtype).reshape(shape)
    except OverflowError:
        raise ServeError(INVALID, f"input '{name}': a value does not fit into {datatype}") from None


def _flat(data: Any, name: str) -> list[Any]:
    """One list; every list of a level is as long as its neighbours."""
    if not isinstance(data, list):
        raise ServeError(INVALID, f"input '{name}': data must be a list")
    flat = data
    while flat and isinstance(flat[0], list):
        length = len(flat[0])
        if any(not isinstance(row, list) or len(row) != length for row in flat):
            raise ServeError(INVALID, f"input '{name}': the lists in data are of unequal length")
        flat = [value for row in flat for value in row]
    return flat


def to_json(array: Array, name: str) -> list[Any]:
    """A flat list.  Raises ServeError for what JSON cannot carry."""
    datatype = wire_datatype(array)
    if datatype in NOT_IN_JSON:
        raise ServeError(
            INVALID, f"output '{name}': {datatype} cannot travel in JSON; ask for it with binary_data = true"
        )
    if datatype != "BYTES":
        found: list[Any] = array.ravel().tolist()
        return found
    try:
        return [item if isinstance(item, str) else bytes(item).decode("utf-8") for item in array.ravel()]
    except UnicodeDecodeError:
        text = f"output '{name}' holds bytes that are no UTF-8 text; ask for it with binary_data = true"
        raise ServeError(INVALID, text) from None
