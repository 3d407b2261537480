"""Infer requests and answers: JSON, the binary tensor extension, raw binary requests, shared memory."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from assay.core.tensors import Array, Signature
from assay.core.units import Seconds
from assay.serve.dtypes import WIRE, numpy_dtype, pack_bytes, unpack_bytes, wire_datatype
from assay.serve.errors import INVALID, ServeError
from assay.serve.http.message import BINARY, JSON, Answer, Part
from assay.serve.http.tensors import checked_shape, from_json, to_json
from assay.serve.inference import InferRequest, RequestedOutput

REGION = "shared_memory_region"


class SharedMemory(Protocol):
    """The registry of regions that clients registered; see serve/shared_memory.py."""

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None: ...

    def unregister(self, name: str | None = None) -> None: ...

    def status(self, name: str | None = None) -> list[dict[str, Any]]: ...

    def view(self, name: str, offset: int, byte_size: int) -> memoryview: ...


class Reading(NamedTuple):
    """What a body is read with.  ``memory`` None: shared memory is not allowed here."""

    signature: Signature
    pictures: bool
    memory: SharedMemory | None


class Body(NamedTuple):
    """``json_length`` None: all of it is JSON; 0: all of it is one raw tensor."""

    content: memoryview | bytes
    json_length: int | None


def parse_json(content: memoryview | bytes) -> Any:
    """Raises ServeError for what is no JSON, is nested too deeply, or is not in UTF-8."""
    try:
        return json.loads(str(content, "utf-8"))
    except RecursionError:
        raise ServeError(INVALID, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise ServeError(INVALID, f"failed to parse the request JSON: {str(error)[:200]}") from None


def read_infer(target: tuple[str, str], body: Body, reading: Reading, arrived_s: Seconds) -> InferRequest:
    """The request for ``target`` (model, version).  Arrays are views of ``body.content`` where its bytes allow it.

    Raises ServeError for anything that is not as the protocol says.
    """
    if body.json_length == 0:
        request = InferRequest(target[0], _raw(body.content, reading), arrived_s)
        request.version = target[1]
        request.parameters = {"binary_data_output": True}
        return request
    length = len(body.content) if body.json_length is None else body.json_length
    if length > len(body.content):
        raise ServeError(
            INVALID, f"Inference-Header-Content-Length is {length}, but the body has {len(body.content)} bytes"
        )
    data = parse_json(memoryview(body.content)[:length])
    if not isinstance(data, dict):
        raise ServeError(INVALID, "the request must be a JSON object")
    inputs = _inputs(data, memoryview(body.content)[length:], reading.memory)
    request = InferRequest(target[0], inputs, arrived_s)
    request.version = target[1]
    identity = data.get("id", "")
    if not isinstance(identity, str):
        raise ServeError(INVALID, "id must be a string")
    request.id = identity
    if "parameters" in data:
        _parameters(request, data["parameters"])
    if data.get("outputs"):
        request.outputs = _outputs(data["outputs"], reading.memory)
    return request


def _parameters(request: InferRequest, value: Any) -> None:
    if not isinstance(value, dict):
        raise ServeError(INVALID, "parameters must be a JSON object")
    for name, one in value.items():
        if not isinstance(one, bool | int | float | str):
            raise ServeError(INVALID, f"the parameter {name[:60]!r} must be a number, a truth value or a text")
    request.parameters = value
    request.priority = _natural(value, "priority")
    request.timeout_us = _natural(value, "timeout")
    if not isinstance(value.get("binary_data_output", False), bool):
        raise ServeError(INVALID, "the parameter binary_data_output must be true or false")


def _natural(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ServeError(INVALID, f"the parameter {name} must be a whole number of at least 0, not {value!r:.50}")
    return value


def _inputs(data: Mapping[str, Any], tail: memoryview, memory: SharedMemory | None) -> dict[str, Array]:
    listed = data.get("inputs")
    if not isinstance(listed, list) or not listed:
        raise ServeError(INVALID, "the request has no list of inputs")
    found: dict[str, Array] = {}
    at = 0
    for item in listed:
        name, shape, datatype, parameters = _tensor(item)
        if name in found:
            raise ServeError(INVALID, f"input '{name}' is given twice")
        size = parameters.get("binary_data_size")
        if REGION in parameters:
            _only(item, size, name)
            found[name] = _binary(_region(parameters, memory), datatype, shape, name)
        elif size is not None:
            if isinstance(size, bool) or not isinstance(size, int) or size < 0 or at + size > len(tail):
                left = len(tail) - at
                raise ServeError(INVALID, f"input '{name}': binary_data_size is {size!r:.50}, {left} bytes are left")
            _only(item, None, name)
            found[name] = _binary(tail[at : at + size], datatype, shape, name)
            at += size
        elif "data" in item:
            found[name] = from_json(item["data"], datatype, shape, name)
        else:
            raise ServeError(INVALID, f"input '{name}' has neither data nor binary_data_size")
    if at != len(tail):
        raise ServeError(INVALID, f"{len(tail) - at} bytes of the body belong to no input")
    return found


def _only(item: Mapping[str, Any], size: Any, name: str) -> None:
    if "data" in item or size is not None:
        raise ServeError(INVALID, f"input '{name}' is given in more than one way")


def _tensor(item: Any) -> tuple[str, tuple[int, ...], str, Mapping[str, Any]]:
    if not isinstance(item, dict):
        raise ServeError(INVALID, "every input must be a JSON object")
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise ServeError(INVALID, "every input must have a name")
    if "shape" not in item or "datatype" not in item:
        raise ServeError(INVALID, f"input '{name}' must have a shape and a datatype")
    parameters = item.get("parameters", {})
    if not isinstance(parameters, dict):
        raise ServeError(INVALID, f"input '{name}': parameters must be a JSON object")
    datatype = item["datatype"]
    numpy_dtype(datatype)
    return name, checked_shape(item["shape"], name), datatype, parameters


def _region(parameters: Mapping[str, Any], memory: SharedMemory | None) -> memoryview:
    if memory is None:
        raise ServeError(INVALID, "shared memory is not allowed here (start the server with --admin)")
    region = parameters[REGION]
    if not isinstance(region, str):
        raise ServeError(INVALID, f"{REGION} must be a string")
    offset = _natural(parameters, "shared_memory_offset")
    return memory.view(region, offset, _natural(parameters, "shared_memory_byte_size"))


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


def _raw(content: memoryview | bytes, reading: Reading) -> dict[str, Array]:
    """A body that is one tensor and nothing else: batch 1, at most one free dim (BYTES: one element)."""
    inputs = reading.signature.inputs
    if len(inputs) != 1:
        raise ServeError(INVALID, f"a raw binary request needs a model of one input; this one has {len(inputs)}")
    spec = inputs[0]
    datatype = WIRE[spec.dtype]
    if datatype == "BYTES" or (reading.pictures and bytes(content[:2]) in (b"\xff\xd8", b"\x89P")):
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


def _outputs(value: Any, memory: SharedMemory | None) -> list[RequestedOutput]:
    if not isinstance(value, list):
        raise ServeError(INVALID, "outputs must be a list")
    found: list[RequestedOutput] = []
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise ServeError(INVALID, "every requested output must have a name")
        parameters = item.get("parameters", {})
        if not isinstance(parameters, dict):
            raise ServeError(INVALID, f"output '{item['name']}': parameters must be a JSON object")
        if not isinstance(parameters.get("binary_data", False), bool):
            raise ServeError(INVALID, f"output '{item['name']}': binary_data must be true or false")
        if "classification" in parameters and REGION in parameters:
            raise ServeError(INVALID, "shared memory can't be requested for a classification output")
        if REGION in parameters:
            _region(parameters, memory)
        found.append(RequestedOutput(item["name"], parameters))
    return found


def write_infer(request: InferRequest, memory: SharedMemory | None) -> Answer:
    """The answer to a request that succeeded.  Raises ServeError for outputs that cannot be had as asked."""
    response = request.response
    assert response is not None
    asked = {output.name: output.parameters for output in request.outputs}
    default = bool(request.parameters.get("binary_data_output", False))
    outputs: list[dict[str, Any]] = []
    tail: list[Part] = []
    for name, array in response.outputs.items():
        parameters = asked.get(name, {})
        described: dict[str, Any] = {"name": name, "datatype": wire_datatype(array), "shape": list(array.shape)}
        if REGION in parameters:
            described["parameters"] = _into_memory(array, parameters, memory, name)
        elif parameters.get("binary_data", default):
            part = raw_bytes(array)
            described["parameters"] = {"binary_data_size": len(part)}
            tail.append(part)
        else:
            described["data"] = to_json(array, name)
        outputs.append(described)
    head: dict[str, Any] = {"id": response.id} if response.id else {}
    head |= {"model_name": response.model, "model_version": response.version}
    if response.parameters:
        head["parameters"] = dict(response.parameters)
    text = json.dumps({**head, "outputs": outputs}, separators=(",", ":")).encode()
    if not tail:
        return Answer(200, (text,), JSON)
    return Answer(200, (text, *tail), BINARY, (f"Inference-Header-Content-Length: {len(text)}",))


def raw_bytes(array: Array) -> Part:
    """The array's bytes as they travel, uncopied where they lie in order."""
    if array.dtype == object:
        return pack_bytes(array)
    if array.size == 0:
        return b""
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _into_memory(array: Array, parameters: Mapping[str, Any], memory: SharedMemory | None, name: str) -> dict[str, Any]:
    data = raw_bytes(array)
    target = _region(parameters, memory)
    if len(data) > len(target):
        raise ServeError(INVALID, f"output '{name}' has {len(data)} bytes, its shared memory {len(target)}")
    target[: len(data)] = data
    return {
        REGION: parameters[REGION],
        "shared_memory_offset": parameters.get("shared_memory_offset", 0),
        "shared_memory_byte_size": len(data),
    }


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
