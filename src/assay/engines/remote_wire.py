"""Open Inference Protocol v2: datatypes, tensor bytes and metadata, for both transports."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from assay.core.errors import EngineFailed
from assay.core.tensors import DTYPES, Array, Dim, Signature, TensorSpec
from assay.graph.signature import guess_batch_axes, with_batch_axes

DATATYPES = {
    "BOOL": "bool",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "FP16": "float16",
    "BF16": "bfloat16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "string",
}
WIRE_NAMES = {dtype: wire for wire, dtype in DATATYPES.items()}
_LENGTH = struct.Struct("<I")


def signature_of(metadata: Mapping[str, Any]) -> Signature:
    """From a server's model metadata.  -1 is free: ``batch`` in front, ``dim_<input>_<axis>`` or ``?`` elsewhere.

    Raises EngineFailed for metadata without tensors or with a datatype nobody knows.
    """
    inputs = [_spec(t, "input") for t in metadata.get("inputs") or ()]
    outputs = [_spec(t, "output") for t in metadata.get("outputs") or ()]
    if not inputs or not outputs:
        raise EngineFailed(f"the server tells no inputs and outputs of {metadata.get('name')!r}")
    plain = Signature(tuple(inputs), tuple(outputs))
    return with_batch_axes(plain, guess_batch_axes(plain))


def _spec(tensor: Mapping[str, Any], what: str) -> TensorSpec:
    name, datatype = tensor["name"], tensor["datatype"]
    if datatype not in DATATYPES:
        raise EngineFailed(f"{what} {name!r} has the datatype {datatype!r}; known: {', '.join(DATATYPES)}")
    dims = tuple(_dim(int(d), name, axis, what) for axis, d in enumerate(tensor["shape"]))
    return TensorSpec(name, DATATYPES[datatype], dims, None)


def _dim(size: int, name: str, axis: int, what: str) -> Dim:
    if size >= 0:
        return size
    if axis == 0:
        return "batch"
    return f"dim_{name}_{axis}" if what == "input" else "?"


def to_bytes(array: Array) -> bytes | memoryview:
    """Row-major, little-endian, unpadded; a string is its length in four bytes, then itself."""
    if array.dtype == object:
        return b"".join(_LENGTH.pack(len(item)) + bytes(item) for item in array.reshape(-1))
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data


def from_bytes(raw: bytes | memoryview, dtype: str, shape: Sequence[int]) -> Array:
    """The inverse; the array owns its memory.  Raises EngineFailed when the bytes do not fill the shape."""
    count = prod(shape)
    if dtype == "string":
        found = _strings(raw, count)
        items = np.empty(count, dtype=object)
        items[:] = found
        return items.reshape(shape)
    expected = count * DTYPES[dtype].itemsize
    if len(raw) != expected:
        raise EngineFailed(f"the server sent {len(raw)} bytes for a {dtype} tensor {tuple(shape)}; expected {expected}")
    array = np.empty(count, dtype=DTYPES[dtype])
    array.view(np.uint8)[:] = np.frombuffer(raw, np.uint8)
    return array.reshape(shape)


def _strings(raw: bytes | memoryview, count: int) -> list[bytes]:
    """Raises EngineFailed where the bytes are not exactly ``count`` strings."""
    found: list[bytes] = []
    offset = 0
    while len(found) < count:
        start = offset + _LENGTH.size
        if start > len(raw):
            raise EngineFailed(f"the server sent {len(found)} strings; {count} were announced")
        (length,) = _LENGTH.unpack_from(raw, offset)
        offset = start + length
        if offset > len(raw):
            raise EngineFailed(f"the server sent a string of {length} bytes and only {len(raw) - start} of them")
        found.append(bytes(raw[start:offset]))
    if offset != len(raw):
        raise EngineFailed(f"the server sent {len(raw) - offset} bytes after the last of {count} strings")
    return found
