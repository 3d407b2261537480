"""The protobuf wire format: varints, fields, skipping what is not known.

Follows https://protobuf.dev/programming-guides/encoding: a field is a tag (number << 3 | wire type)
and its value; a known number with another wire type is treated as unknown; groups are skipped whole.
Written for buffers of megabytes of which only the first hundred bytes are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

Buffer = bytes | memoryview

VARINT, FIXED64, BYTES, GROUP, END_GROUP, FIXED32 = range(6)
MAX_DEPTH = 100
"""Protobuf's own limit on nested messages and groups."""


class MalformedMessage(ValueError):
    """These bytes are not the message that was announced."""


def varint(data: Buffer, at: int) -> tuple[int, int]:
    """The varint at ``at``, cut to 64 bits, and where it ends.  Raises MalformedMessage."""
    try:
        byte = data[at]
        if byte < 0x80:
            return byte, at + 1
        value = byte & 0x7F
        for shift in range(7, 70, 7):
            at += 1
            byte = data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, at + 1
    except IndexError:
        raise MalformedMessage("the message ends within a number") from None
    raise MalformedMessage("a number is longer than ten bytes")


def signed(value: int) -> int:
    """An int64 from its unsigned form."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: Buffer) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, start, end) of every field; for a varint ``start`` is its value.

    Raises MalformedMessage for what protobuf refuses as well.
    """
    at, size = 0, len(data)
    while at < size:
        tag, at = _tag(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == BYTES:
            length, at = varint(data, at)
            if length > size - at:
                raise MalformedMessage(f"field {number} is {length} bytes long; {size - at} are left")
            yield number, kind, at, at + length
            at += length
        elif kind == VARINT:
            value, at = varint(data, at)
            yield number, kind, value, at
        else:
            start = at
            at = _skip(data, at, tag, 1)
            yield number, kind, start, at


def _tag(data: Buffer, at: int) -> tuple[int, int]:
    start = at
    tag, at = varint(data, at)
    if at - start > 5 or tag >> 32:
        raise MalformedMessage("a field number is out of range")
    if not tag >> 3:
        raise MalformedMessage("a field has the number 0")
    return tag, at


def _skip(data: Buffer, at: int, tag: int, depth: int) -> int:
    """Where the field ends whose tag ends at ``at``."""
    kind = tag & 7
    if kind == VARINT:
        return varint(data, at)[1]
    if kind == BYTES:
        length, at = varint(data, at)
        end = at + length
    elif kind == FIXED64:
        end = at + 8
    elif kind == FIXED32:
        end = at + 4
    elif kind == GROUP:
        return _skip_group(data, at, tag >> 3, depth)
    else:
        raise MalformedMessage(f"wire type {kind} is not expected here")
    if end > len(data):
        raise MalformedMessage("the message ends within a field")
    return end


def _skip_group(data: Buffer, at: int, number: int, depth: int) -> int:
    if depth >= MAX_DEPTH:
        raise MalformedMessage("groups are nested too deeply")
    while at < len(data):
        tag, at = _tag(data, at)
        if tag & 7 == END_GROUP:
            if tag >> 3 != number:
                raise MalformedMessage("a group ends under another number")
            return at
        at = _skip(data, at, tag, depth + 1)
    raise MalformedMessage("the message ends within a group")


def text(data: Buffer, start: int, end: int) -> str:
    """A string field.  Raises MalformedMessage for what is not UTF-8."""
    try:
        return str(data[start:end], "utf-8")
    except UnicodeDecodeError:
        raise MalformedMessage("a string is not UTF-8") from None


def packed(data: Buffer, start: int, end: int) -> list[int]:
    """Unsigned varints one after another."""
    found = []
    while start < end:
        value, start = varint(data, start)
        found.append(value)
    if start > end:
        raise MalformedMessage("packed numbers run over their field")
    return found


def put_varint(value: int) -> bytes:
    """``value`` as a varint; negative numbers take ten bytes, as int64 does."""
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_bytes(number: int, content: bytes) -> bytes:
    """A length-delimited field."""
    return put_varint(number << 3 | BYTES) + put_varint(len(content)) + content


def put_text(number: int, content: str) -> bytes:
    """A string field; an empty one is left out, as proto3 does."""
    return put_bytes(number, content.encode()) if content else b""
