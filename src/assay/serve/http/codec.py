"""Infer requests and answers: JSON, the binary tensor extension, raw binary requests, shared memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from assay.core.tensors import Array, Signature
from assay.core.units import Bytes, Seconds
from assay.serve.dtypes import WIRE, numpy_dtype, pack_bytes, unpack_bytes, wire_datatype
from assay.serve.errors import INVALID, ServeError
from assay.serve.http.asked import KNOWN_REQUESTS, REGION, Asked, AskedRequests, Region, region_of
from assay.serve.http.message import BINARY, JSON, Answer, Part
from assay.serve.http.tensors import from_json, to_json
from assay.serve.inference import NO_PARAMETERS, InferRequest, InferResponse

PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
"""How JPEG and PNG files begin."""
RAW_PARAMETERS: Mapping[str, Any] = {"binary_data_output": True}


class SharedMemory(Protocol):
    """The registry of regions that clients registered; see serve/shared_memory.py."""

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None: ...

    def unregister(self, name: str | None = None) -> None: ...

    def status(self, name: str | None = None) -> list[dict[str, Any]]: ...

    def view(self, name: str, offset: int, byte_size: int) -> memoryview: ...


class Body(NamedTuple):
    """``json_length`` None: all of it is JSON; 0: all of it is one raw tensor."""

    content: memoryview | bytes
    json_length: int | None


class InferCodec:
    """Reads requests and writes answers, on any thread.  ``memory`` None: shared memory is not allowed here."""

    def __init__(self, memory: SharedMemory | None) -> None:
        self._memory = memory
        self._requests = AskedRequests()
        self._heads: dict[Any, bytes] = {}

    def read(self, target: tuple[str, str], body: Body, served: Takes, arrived_s: Seconds) -> InferRequest:
        """The request for ``target`` (model, version).  Arrays are views of ``body.content`` where its bytes allow it.

        Raises ServeError for anything that is not as the protocol says.
        """
        if body.json_length == 0:
            request = InferRequest(target[0], _raw(body.content, served), arrived_s)
            request.version = target[1]
            request.parameters = RAW_PARAMETERS
            return request
        content = memoryview(body.content)
        length = len(content) if body.json_length is None else body.json_length
        if length > len(content):
            raise ServeError(
                INVALID, f"Inference-Header-Content-Length is {length}, but the body has {len(content)} bytes"
            )
        asked = self._requests.read(content[:length])
        request = InferRequest(target[0], self._arrays(asked, content[length:]), arrived_s)
        request.version = target[1]
        if asked.id:
            request.id = asked.id
        if asked.parameters:
            request.parameters = asked.parameters
            request.priority, request.timeout_us = asked.priority, asked.timeout_us
        if asked.outputs:
            for output in asked.outputs:
                if REGION in output.parameters:
                    self._view(region_of(output.parameters))
            request.outputs = asked.outputs
        return request

    def write(self, request: InferRequest) -> Answer:
        """The answer to a request that succeeded.  Raises ServeError for outputs that cannot be had as asked."""
        response = request.response
        assert response is not None
        asked = {output.name: output.parameters for output in request.outputs}
        default = bool(request.parameters.get("binary_data_output", False))
        described: list[Described] = []
        tail: list[Part] = []
        for name, array in response.outputs.items():
            parameters = asked.get(name, NO_PARAMETERS)
            head = (name, wire_datatype(array), array.shape)
            if REGION in parameters:
                described.append(Described(*head, region=self._into_memory(array, parameters, name)))
            elif parameters.get("binary_data", default):
                part = raw_bytes(array)
                described.append(Described(*head, binary_size=len(part)))
                tail.append(part)
            else:
                described.append(Described(*head, data=to_json(array, name)))
        text = self._head(response, described)
        if not tail:
            return Answer(200, (text,), JSON)
        return Answer(200, (text, *tail), BINARY, (f"Inference-Header-Content-Length: {len(text)}",))

    def _head(self, response: InferResponse, outputs: Sequence[Described]) -> bytes:
        """The JSON of an answer.  One that holds neither values nor an id is the same as the last one's."""
        if response.id or any(output.data is not None for output in outputs):
            return _head_text(response, outputs)
        key = (response.model, response.version, *outputs)
        found = self._heads.get(key)
        if found is None:
            if len(self._heads) >= KNOWN_REQUESTS:
                self._heads = {}
            found = self._heads[key] = _head_text(response, outputs)
        return found

    def _arrays(self, asked: Asked, tail: memoryview) -> dict[str, Array]:
        found: dict[str, Array] = {}
        at = 0
        for given in asked.inputs:
            name, size = given.name, given.binary_size
            if given.region is not None:
                found[name] = _binary(self._view(given.region), given.datatype, given.shape, name)
            elif size is not None:
                if at + size > len(tail):
                    left = len(tail) - at
                    raise ServeError(INVALID, f"input '{name}': binary_data_size is {size}, {left} bytes are left")
                found[name] = _binary(tail[at : at + size], given.datatype, given.shape, name)
                at += size
            else:
                found[name] = from_json(given.data, given.datatype, given.shape, name)
        if at != len(tail):
            raise ServeError(INVALID, f"{len(tail) - at} bytes of the body belong to no input")
        return found

    def _view(self, region: Region | None) -> memoryview:
        assert region is not None
        if self._memory is None:
            raise ServeError(INVALID, "shared memory is not allowed here (start the server with --admin)")
        return self._memory.view(*region)

    def _into_memory(self, array: Array, parameters: Mapping[str, Any], name: str) -> Region:
        data = raw_bytes(array)
        region = region_of(parameters)
        target = self._view(region)
        assert region is not None
        if len(data) > len(target):
            raise ServeError(INVALID, f"output '{name}' has {len(data)} bytes, its shared memory {len(target)}")
        target[: len(data)] = data
        return region._replace(byte_size=len(data))


class Takes(Protocol):
    """What a body is read for."""

    @property
    def signature(self) -> Signature: ...

    @property
    def takes_pictures(self) -> bool: ...


class Described(NamedTuple):
    """An output as the answer's JSON has it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    region: Region | None = None
    binary_size: Bytes | None = None
    data: list[Any] | None = None

    def to_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}
        if self.region is not None:
            name, offset, size = self.region
            found["parameters"] = {REGION: name, "shared_memory_offset": offset, "shared_memory_byte_size": size}
        elif self.binary_size is not None:
            found["parameters"] = {"binary_data_size": self.binary_size}
        else:
            found["data"] = self.data
        return found


def _head_text(response: InferResponse, outputs: Sequence[Described]) -> bytes:
    head: dict[str, Any] = {"id": response.id} if response.id else {}
    head |= {"model_name": response.model, "model_version": response.version}
    return json.dumps({**head, "outputs": [o.to_json() for o in outputs]}, separators=(",", ":")).encode()


def _binary(data: memoryview | bytes, datatype: str, shape: tuple[int, ...], name: str) -> Array:
    """An array over ``data``, copied only where its address does not suit the datatype."""
    count = math.prod(shape)
    if datatype == "BYTES":
        return unpack_bytes(data, count).reshape(shape)
    dtype = numpy_dtype(datatype)
    if len(data) != count * dtype.itemsize:
        expected = count * dtype.itemsize
        raise ServeError(
            INVALID, f"input '{name}': {len(data)} bytes, but {datatype} of shape {list(shape)} has {expected}"
        )
    array = np.frombuffer(data, dtype=dtype, count=count).reshape(shape)
    if datatype == "BOOL":
        array = array.view(np.uint8) != 0  # any other byte would be no bool to numpy
    return array if array.flags.aligned else array.copy()


def _raw(content: memoryview | bytes, served: Takes) -> dict[str, Array]:
    """A body that is one tensor and nothing else: batch 1, at most one free dim (BYTES: one element)."""
    inputs = served.signature.inputs
    if len(inputs) != 1:
        raise ServeError(INVALID, f"a raw binary request needs a model of one input; this one has {len(inputs)}")
    spec = inputs[0]
    datatype = WIRE[spec.dtype]
    if datatype == "BYTES" or (served.takes_pictures and bytes(content[:8]).startswith(PICTURES)):
        made = np.empty(1, dtype=object)
        made[0] = bytes(content)
        if datatype == "BYTES":
            made = made.reshape((1,) * len(spec.shape))
        return {spec.name: made}
    dims: list[Any] = [1 if axis == spec.batch_axis else dim for axis, dim in enumerate(spec.shape)]
    free = [axis for axis, dim in enumerate(dims) if not isinstance(dim, int)]
    if len(free) > 1:
        raise ServeError(INVALID, f"a raw binary request needs at most one variable dim; {spec} has {len(free)}")
    elements, odd = divmod(len(content), numpy_dtype(datatype).itemsize)
    if free:
        known = math.prod(d for d in dims if isinstance(d, int))
        dims[free[0]], rest = divmod(elements, known) if known else (0, 1)
        odd = odd or rest
    if odd:
        raise ServeError(INVALID, f"a raw binary body of {len(content)} bytes does not fit {spec}")
    return {spec.name: _binary(content, datatype, tuple(dims), spec.name)}


def raw_bytes(array: Array) -> Part:
    """The array's bytes as they travel, uncopied where they lie in order."""
    if array.dtype == object:
        return pack_bytes(array)
    if array.size == 0:
        return b""
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def json_elements(request: InferRequest) -> int:
    """How many values of the answer will be written as JSON."""
    response = request.response
    if response is None:
        return 0
    asked: Mapping[str, Mapping[str, Any]] = {o.name: o.parameters for o in request.outputs}
    default = bool(request.parameters.get("binary_data_output", False))
    return sum(
        array.size
        for name, array in response.outputs.items()
        if REGION not in asked.get(name, {}) and not asked.get(name, {}).get("binary_data", default)
    )
