"""ModelInferRequest and ModelInferResponse, read and written by hand.

protobuf would copy every tensor out of the message (602 KB: 60 to 100 µs) and into the answer.
Here a tensor is a view of the received bytes, and an answer is a list of buffers for one ``writev``.
What a client sends again and again (its tensors' names, shapes, parameters) is parsed once and
remembered by its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.serve.grpc import wire
from assay.serve.grpc.wire import Buffer, MalformedMessage

Parameter = bool | int | str | float | None

_REMEMBERED, _REMEMBERED_BYTES = 1024, 512
_DOUBLE = struct.Struct("<d")
_RAW = 7 << 3 | wire.BYTES


@dataclass(frozen=True)
class WireInput:
    """An input tensor as it was sent; ``contents`` is its InferTensorContents message, if any."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    contents: bytes | None = None


@dataclass(frozen=True)
class WireOutput:
    name: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


class WireRequest:
    """A parsed ModelInferRequest; ``raw`` are views into the message."""

    __slots__ = ("id", "inputs", "model_name", "model_version", "outputs", "parameters", "raw")

    def __init__(self) -> None:
        self.model_name = ""
        self.model_version = ""
        self.id = ""
        self.parameters: dict[str, Parameter] = {}
        self.inputs: list[WireInput] = []
        self.outputs: list[WireOutput] = []
        self.raw: list[memoryview] = []


class RequestReader:
    """Parses requests.  One belongs to one thread."""

    def __init__(self) -> None:
        self._inputs: dict[bytes, WireInput] = {}
        self._outputs: dict[bytes, WireOutput] = {}
        self._parameters: dict[bytes, tuple[str, Parameter]] = {}

    def read(self, data: memoryview) -> WireRequest:
        """The request in ``data`` (unsigned bytes).  Raises MalformedMessage."""
        request = WireRequest()
        for number, kind, start, end in wire.fields(data):
            if kind != wire.BYTES:
                continue
            if number == 7:
                request.raw.append(data[start:end])
            elif number == 5:
                request.inputs.append(_remembered(self._inputs, _read_input, data, start, end))
            elif number == 1:
                request.model_name = wire.text(data, start, end)
            elif number == 3:
                request.id = wire.text(data, start, end)
            elif number == 6:
                request.outputs.append(_remembered(self._outputs, _read_output, data, start, end))
            elif number == 2:
                request.model_version = wire.text(data, start, end)
            elif number == 4:
                key, value = _remembered(self._parameters, read_parameter, data, start, end)
                request.parameters[key] = value
        return request


def first_raw(data: memoryview) -> int | None:
    """Where the first raw tensor starts in a message of which ``data`` is the beginning; None: not seen yet.

    For laying a message into memory so that this tensor is aligned; it judges nothing.
    """
    at, size = 0, len(data)
    try:
        while at < size:
            tag, at = wire.varint(data, at)
            if tag & 7 != wire.BYTES:
                return None
            length, at = wire.varint(data, at)
            if tag == _RAW:
                return at
            at += length
    except MalformedMessage:
        return None
    return None


def _remembered(known: dict[bytes, Any], parse: Any, data: memoryview, start: int, end: int) -> Any:
    if end - start > _REMEMBERED_BYTES:
        return parse(data[start:end])
    key = bytes(data[start:end])
    found = known.get(key)
    if found is None:
        found = parse(key)
        if len(known) >= _REMEMBERED:
            known.clear()
        known[key] = found
    return found


def _read_input(data: Buffer) -> WireInput:
    name = datatype = ""
    shape: list[int] = []
    parameters: dict[str, Parameter] = {}
    contents: bytes | None = None
    for number, kind, start, end in wire.fields(data):
        if kind == wire.BYTES:
            if number == 1:
                name = wire.text(data, start, end)
            elif number == 2:
                datatype = wire.text(data, start, end)
            elif number == 3:
                shape += map(wire.signed, wire.packed(data, start, end))
            elif number == 4:
                key, value = read_parameter(data[start:end])
                parameters[key] = value
            elif number == 5:  # a message sent in parts is their concatenation
                contents = (contents or b"") + bytes(data[start:end])
        elif kind == wire.VARINT and number == 3:
            shape.append(wire.signed(start))
    return WireInput(name, datatype, tuple(shape), parameters, contents)


def _read_output(data: Buffer) -> WireOutput:
    name = ""
    parameters: dict[str, Parameter] = {}
    for number, kind, start, end in wire.fields(data):
        if kind == wire.BYTES and number == 1:
            name = wire.text(data, start, end)
        elif kind == wire.BYTES and number == 2:
            key, value = read_parameter(data[start:end])
            parameters[key] = value
    return WireOutput(name, parameters)


def read_parameter(data: Buffer) -> tuple[str, Parameter]:
    """An entry of a parameters map: its key and what its InferParameter chose (None: nothing)."""
    key, value = "", b""
    for number, kind, start, end in wire.fields(data):
        if kind == wire.BYTES and number == 1:
            key = wire.text(data, start, end)
        elif kind == wire.BYTES and number == 2:
            value += bytes(data[start:end])
    return key, _choice(value)


def _choice(data: bytes) -> Parameter:
    chosen: Parameter = None
    for number, kind, start, end in wire.fields(data):
        if kind == wire.VARINT and number == 1:
            chosen = bool(start)
        elif kind == wire.VARINT and number == 2:
            chosen = wire.signed(start)
        elif kind == wire.BYTES and number == 3:
            chosen = wire.text(data, start, end)
        elif kind == wire.FIXED64 and number == 4:
            (chosen,) = _DOUBLE.unpack_from(data, start)
        elif kind == wire.VARINT and number == 5:
            chosen = start
    return chosen


@dataclass(frozen=True)
class OutputHead:
    """An output tensor without its content."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


@dataclass(frozen=True)
class ResponseHead:
    """A ModelInferResponse without its tensors."""

    model_name: str
    model_version: str
    id: str = ""
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


class ResponseWriter:
    """Writes responses.  One belongs to one thread."""

    def __init__(self) -> None:
        self._heads: dict[Any, bytes] = {}

    def write(
        self, head: ResponseHead, outputs: Sequence[OutputHead], raw: Sequence[Buffer]
    ) -> tuple[list[Buffer], int]:
        """The message as buffers and their bytes in all; ``raw`` go into it as they are.

        ``raw`` holds one buffer of bytes for every output, empty for one that lies in shared memory.
        """
        parts: list[Buffer] = [
            wire.put_text(1, head.model_name)
            + wire.put_text(2, head.model_version)
            + wire.put_text(3, head.id)
            + put_parameters(4, head.parameters)
            + b"".join([self._output(output) for output in outputs])
        ]
        size = len(parts[0])
        for content in raw:
            length = len(content)
            mark = b"\x32" + wire.put_varint(length)  # raw_output_contents
            size += len(mark) + length
            parts.append(mark)
            parts.append(content)
        return parts, size

    def _output(self, output: OutputHead) -> bytes:
        if output.parameters:
            return _put_output(output)
        key = (output.name, output.datatype, output.shape)
        found = self._heads.get(key)
        if found is None:
            if len(self._heads) >= _REMEMBERED:
                self._heads.clear()
            found = self._heads[key] = _put_output(output)
        return found


def _put_output(output: OutputHead) -> bytes:
    shape = b"".join(map(wire.put_varint, output.shape))
    return wire.put_bytes(
        5,
        wire.put_text(1, output.name)
        + wire.put_text(2, output.datatype)
        + (wire.put_bytes(3, shape) if shape else b"")
        + put_parameters(4, output.parameters),
    )


def put_parameters(number: int, parameters: Mapping[str, Parameter]) -> bytes:
    """A parameters map as field ``number``."""
    return b"".join(
        wire.put_bytes(number, wire.put_bytes(1, key.encode()) + wire.put_bytes(2, _put_choice(value)))
        for key, value in parameters.items()
    )


def _put_choice(value: Parameter) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x08\x01" if value else b"\x08\x00"
    if isinstance(value, int):
        return (b"\x10" if value < 1 << 63 else b"\x28") + wire.put_varint(value)
    if isinstance(value, float):
        return b"\x21" + _DOUBLE.pack(value)
    return wire.put_bytes(3, value.encode())
