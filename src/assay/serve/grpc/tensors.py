"""Tensors of ModelInfer: raw and typed contents, shared memory, and the way back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from assay.core.tensors import Array
from assay.serve.dtypes import MOST_DIMS, numpy_dtype, too_large, unpack_bytes
from assay.serve.errors import INVALID, ServeError
from assay.serve.grpc.message import WireInput
from assay.serve.grpc.wire import Buffer
from assay.serve.http.asked import REGION

OFFSET, SIZE = "shared_memory_offset", "shared_memory_byte_size"
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Which typed field carries which datatype; FP16 and BF16 travel raw only."""


class SharedMemory(Protocol):
    def view(self, name: str, offset: int, byte_size: int) -> memoryview: ...


def read_inputs(inputs: list[WireInput], raw: list[memoryview], memory: SharedMemory | None) -> dict[str, Array]:
    """name -> array, a view of the received bytes wherever these allow it.  Raises ServeError.

    Raw contents belong, in order, to the inputs that are not in shared memory; with any raw contents, no
    input may have typed ones.
    """
    if not inputs:
        raise ServeError(INVALID, "the request has no inputs")
    found: dict[str, Array] = {}
    at = 0
    for item in inputs:
        name = item.name
        if name in found:
            raise ServeError(INVALID, f"input '{name}' is given twice")
        if item.parameters and REGION in item.parameters:
            if item.contents is not None:
                raise ServeError(INVALID, f"input '{name}' has contents and a shared memory region")
            found[name] = from_buffer(region(item.parameters, memory, name), item)
        elif raw:
            if item.contents:
                raise ServeError(
                    INVALID,
                    "contents field must not be specified when using raw_input_contents for "
                    f"'{name}'; it is to be one or the other for all inputs",
                )
            if at == len(raw):
                raise ServeError(INVALID, f"raw_input_contents end before input '{name}'")
            found[name] = from_buffer(raw[at], item)
            at += 1
        else:
            found[name] = from_contents(item)
    if at != len(raw):
        raise ServeError(INVALID, f"{len(raw)} raw_input_contents for {at} inputs that are not in shared memory")
    return found


@lru_cache(maxsize=4096)
def _layout(datatype: str, shape: tuple[int, ...]) -> tuple[np.dtype[Any], int]:
    """(dtype, number of elements).  Raises ServeError for what cannot be a tensor."""
    dtype = numpy_dtype(datatype)
    if len(shape) > MOST_DIMS or any(size < 0 for size in shape):
        raise ServeError(INVALID, f"a shape has up to {MOST_DIMS} sizes of at least 0, not {list(shape)!s:.100}")
    if too_large(shape):
        raise ServeError(INVALID, f"a tensor of shape {list(shape)} is too large")
    return dtype, math.prod(shape)


def from_buffer(data: memoryview, item: WireInput) -> Array:
    """An array over ``data``; copied only where its address does not suit the datatype.  Raises ServeError."""
    dtype, count = _layout(item.datatype, item.shape)
    if dtype.hasobject:
        return unpack_bytes(data, count).reshape(item.shape)
    if len(data) != count * dtype.itemsize:
        raise ServeError(
            INVALID,
            f"unexpected total byte size {len(data)} for input '{item.name}', "
            f"expecting {count * dtype.itemsize} ({item.datatype} of shape {list(item.shape)})",
        )
    array: Array = np.frombuffer(data, dtype, count).reshape(item.shape)
    if dtype == np.bool_:
        return np.asarray(array.view(np.uint8) != 0)  # any other byte would be no bool to numpy
    return array if array.flags.aligned else array.copy()


def from_contents(item: WireInput) -> Array:
    """The array of an InferTensorContents message.  Raises ServeError for values that do not fit."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    from assay.serve.grpc.inference_pb2 import message

    dtype, count = _layout(item.datatype, item.shape)
    try:
        contents = message("InferTensorContents").FromString(item.contents or b"")
    except DecodeError:
        raise ServeError(INVALID, f"the contents of input '{item.name}' cannot be read") from None
    wanted = CONTENTS.get(item.datatype)
    if wanted is None:
        raise ServeError(INVALID, f"{item.datatype} has no typed contents; send input '{item.name}' raw")
    present = [field.name for field, _ in contents.ListFields()]
    if present not in ([wanted], []):
        raise ServeError(INVALID, f"input '{item.name}' is {item.datatype}, its contents are {', '.join(present)}")
    values = getattr(contents, wanted)
    if len(values) != count:
        raise ServeError(
            INVALID,
            f"unexpected number of elements {len(values)} for input '{item.name}', "
            f"expecting {count} (shape {list(item.shape)})",
        )
    if dtype.hasobject:
        made = np.empty(count, dtype=object)
        made[:] = list(values)
        return made.reshape(item.shape)
    try:
        return np.array(list(values), dtype=dtype).reshape(item.shape)
    except OverflowError:
        raise ServeError(INVALID, f"input '{item.name}': a value does not fit into {item.datatype}") from None


def region(parameters: Mapping[str, Any], memory: SharedMemory | None, name: str) -> memoryview:
    """The part of shared memory that a tensor's parameters name.  Raises ServeError."""
    if memory is None:
        raise ServeError(INVALID, "shared memory is not allowed here (start the server with --admin)")
    text, offset, size = parameters[REGION], parameters.get(OFFSET, 0), parameters.get(SIZE)
    if not isinstance(text, str):
        raise ServeError(INVALID, f"'{REGION}' of '{name}' must be a string")
    for label, value in ((OFFSET, offset), (SIZE, size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ServeError(INVALID, f"'{label}' of '{name}' must be a whole number of at least 0")
    assert isinstance(size, int)
    return memory.view(text, offset, size)


def into_region(data: Buffer, parameters: Mapping[str, Any], memory: SharedMemory | None, name: str) -> dict[str, Any]:
    """Write an output where its parameters say; returns the output's parameters.  Raises ServeError."""
    target = region(parameters, memory, name)
    if len(data) > len(target):
        raise ServeError(
            INVALID,
            f"shared memory size specified with the request for output '{name}' ({len(target)} bytes) should be "
            f"at least {len(data)} bytes to hold the results",
        )
    target[: len(data)] = data
    return {REGION: parameters[REGION], OFFSET: parameters.get(OFFSET, 0), SIZE: len(data)}
