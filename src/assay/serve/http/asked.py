"""The JSON of an infer request, checked: what it asks for, before its tensors are looked at.

A client sends the same JSON with every request, but for the tensors beside it, so what it asks is remembered by
its bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from assay.core.units import Bytes
from assay.serve.dtypes import numpy_dtype
from assay.serve.errors import INVALID, ServeError
from assay.serve.http.tensors import checked_shape
from assay.serve.inference import NO_PARAMETERS, RequestedOutput

REGION = "shared_memory_region"
KNOWN_REQUESTS = 256
SHORT_JSON: Bytes = 2048
"""Longer texts, and those that hold values, are not remembered."""


class Region(NamedTuple):
    """``byte_size`` bytes from ``offset`` of a registered shared memory region."""

    name: str
    offset: Bytes
    byte_size: Bytes


class AskedInput(NamedTuple):
    """An input and where its values are: in ``region``, in ``binary_size`` bytes behind the JSON, or in ``data``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    region: Region | None = None
    binary_size: Bytes | None = None
    data: Any = None


class Asked(NamedTuple):
    inputs: Sequence[AskedInput]
    outputs: Sequence[RequestedOutput] = ()
    parameters: Mapping[str, Any] = NO_PARAMETERS
    id: str = ""
    priority: int = 0
    timeout_us: int = 0


class AskedRequests:
    """Reads them, and remembers those it saw last."""

    def __init__(self) -> None:
        self._known: dict[bytes, Asked] = {}

    def read(self, content: memoryview | bytes) -> Asked:
        """Raises ServeError for anything that is not as the protocol says."""
        if len(content) > SHORT_JSON:
            return _asked(parse_json(content))
        text = bytes(content)
        found = self._known.get(text)
        if found is None:
            found = _asked(parse_json(text))
            if all(given.data is None for given in found.inputs):
                if len(self._known) >= KNOWN_REQUESTS:
                    self._known.clear()
                self._known[text] = found
        return found


def parse_json(content: memoryview | bytes) -> Any:
    """Raises ServeError for what is no JSON, is nested too deeply, or is not in UTF-8."""
    try:
        return json.loads(str(content, "utf-8"))
    except RecursionError:
        raise ServeError(INVALID, "the JSON is nested too deeply") from None
    except ValueError as error:
        raise ServeError(INVALID, f"failed to parse the request JSON: {str(error)[:200]}") from None


def region_of(parameters: Mapping[str, Any]) -> Region | None:
    """Raises ServeError for a region that is named or placed by what cannot name or place one."""
    if REGION not in parameters:
        return None
    name = parameters[REGION]
    if not isinstance(name, str):
        raise ServeError(INVALID, f"{REGION} must be a string")
    return Region(name, _natural(parameters, "shared_memory_offset"), _natural(parameters, "shared_memory_byte_size"))


def _asked(data: Any) -> Asked:
    if not isinstance(data, dict):
        raise ServeError(INVALID, "the request must be a JSON object")
    inputs = _inputs(data)
    identity = data.get("id", "")
    if not isinstance(identity, str):
        raise ServeError(INVALID, "id must be a string")
    parameters = _parameters(data["parameters"]) if "parameters" in data else NO_PARAMETERS
    priority, timeout_us = _natural(parameters, "priority"), _natural(parameters, "timeout")
    outputs = _outputs(data["outputs"]) if data.get("outputs") else ()
    return Asked(inputs, outputs, parameters, identity, priority, timeout_us)


def _parameters(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ServeError(INVALID, "parameters must be a JSON object")
    for name, one in value.items():
        if not isinstance(one, bool | int | float | str):
            raise ServeError(INVALID, f"the parameter {name[:60]!r} must be a number, a truth value or a text")
    if not isinstance(value.get("binary_data_output", False), bool):
        raise ServeError(INVALID, "the parameter binary_data_output must be true or false")
    return value


def _natural(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ServeError(INVALID, f"the parameter {name} must be a whole number of at least 0, not {value!r:.50}")
    return value


def _inputs(data: Mapping[str, Any]) -> list[AskedInput]:
    listed = data.get("inputs")
    if not isinstance(listed, list) or not listed:
        raise ServeError(INVALID, "the request has no list of inputs")
    found: dict[str, AskedInput] = {}
    for item in listed:
        given = _input(item)
        if given.name in found:
            raise ServeError(INVALID, f"input '{given.name}' is given twice")
        found[given.name] = given
    return list(found.values())


def _input(item: Any) -> AskedInput:
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
    shape = checked_shape(item["shape"], name)
    region, size = region_of(parameters), parameters.get("binary_data_size")
    if ("data" in item) + (size is not None) + (region is not None) > 1:
        raise ServeError(INVALID, f"input '{name}' is given in more than one way")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 0):
        raise ServeError(INVALID, f"input '{name}': binary_data_size cannot be {size!r:.50}")
    if "data" in item:
        data = item["data"]
        if not isinstance(data, list):
            raise ServeError(INVALID, f"input '{name}': data must be a list")
        return AskedInput(name, datatype, shape, data=data)
    if size is None and region is None:
        raise ServeError(INVALID, f"input '{name}' has neither data nor binary_data_size")
    return AskedInput(name, datatype, shape, region, size)


def _outputs(value: Any) -> list[RequestedOutput]:
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
        region_of(parameters)
        found.append(RequestedOutput(item["name"], parameters))
    return found
