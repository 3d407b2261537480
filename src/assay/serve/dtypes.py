"""The protocol's datatypes (``FP32``, ``BYTES`` …) and core's dtypes; BYTES elements to and from the wire.

BF16 is Triton's addition to the protocol; 16-bit floats travel in binary form only.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.core.tensors import DTYPES, Array, dtype_name
from assay.serve.errors import INVALID, ServeError

WIRE: dict[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""core's dtype name -> the wire's datatype."""
NUMPY: dict[str, np.dtype[Any]] = {wire: DTYPES[name] for name, wire in WIRE.items()}
"""The wire's datatype -> numpy dtype; BYTES is an object array of ``bytes``."""
NOT_IN_JSON = ("FP16", "BF16")
MOST_DIMS = 32
MOST_ELEMENTS = 1 << 40
_LENGTH = struct.Struct("<I")


def numpy_dtype(datatype: object) -> np.dtype[Any]:
    """Raises ServeError (invalid) for a datatype the protocol does not have."""
    found = NUMPY.get(datatype) if isinstance(datatype, str) else None
    if found is None:
        raise ServeError(INVALID, f"{datatype!r} is not a datatype; known: {', '.join(NUMPY)}")
    return found


def too_large(shape: Sequence[int]) -> bool:
    """Whether a tensor of these sizes is beyond what may be asked for; numpy has a limit for empty ones too."""
    return math.prod(max(size, 1) for size in shape) > MOST_ELEMENTS


def wire_datatype(array: Array) -> str:
    """The datatype ``array`` travels as."""
    return WIRE[dtype_name(array)]


def pack_bytes(array: Array) -> bytes:
    """An object array of ``bytes`` (or ``str``) as 4-byte little-endian length and content, element by element."""
    parts: list[bytes] = []
    for item in array.ravel():
        content = item.encode() if isinstance(item, str) else bytes(item)
        parts.append(_LENGTH.pack(len(content)))
        parts.append(content)
    return b"".join(parts)


def unpack_bytes(data: memoryview | bytes, count: int | None) -> Array:
    """``count`` elements as a one-dimensional object array of ``bytes``; None: as many as there are.

    Raises ServeError (invalid) where lengths and ``data`` disagree.
    """
    view = memoryview(data)
    items: list[bytes] = []
    at, end = 0, len(view)
    while at < end:
        if at + 4 > end:
            raise ServeError(INVALID, f"BYTES tensor: {end - at} bytes are left where a 4-byte length should stand")
        (length,) = _LENGTH.unpack_from(view, at)
        at += 4
        if at + length > end:
            raise ServeError(INVALID, f"BYTES tensor: an element of {length} bytes, but only {end - at} are left")
        items.append(bytes(view[at : at + length]))
        at += length
    if count is not None and len(items) != count:
        raise ServeError(INVALID, f"BYTES tensor: {len(items)} elements found, its shape has {count}")
    made = np.empty(len(items), dtype=object)
    made[:] = items
    return made
