"""HTTP/2 frames (RFC 9113 section 4 and 6): numbers, and the few this server writes."""

from __future__ import annotations

import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HTTP1_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n"
    b"this port speaks gRPC over HTTP/2; REST has a port of its own\n"
)
HEADER_BYTES = 9
DEFAULT_WINDOW = 65_535
MAX_WINDOW = 0x7FFF_FFFF
DEFAULT_FRAME_BYTES = 16_384

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR = range(5, 10)
ENHANCE_YOUR_CALM = 11

_HEADER = struct.Struct(">HBBBI")
_UINT32 = struct.Struct(">I")
_SETTING = struct.Struct(">HI")
_GOAWAY = struct.Struct(">II")


class ConnectionFault(Exception):
    """The peer broke the protocol: the connection ends with ``code``."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class StreamFault(Exception):
    """One stream ends with ``code``; the connection goes on."""

    def __init__(self, stream: int, code: int) -> None:
        super().__init__(f"stream {stream} is reset with code {code}")
        self.stream = stream
        self.code = code


def header(size: int, kind: int, flags: int, stream: int) -> bytes:
    """A frame's nine bytes."""
    return _HEADER.pack(size >> 8, size & 0xFF, kind, flags, stream)


def read_header(data: memoryview, at: int) -> tuple[int, int, int, int]:
    """(payload bytes, kind, flags, stream)."""
    high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
    return high << 8 | low, kind, flags, stream & MAX_WINDOW


def settings(values: dict[int, int]) -> bytes:
    payload = b"".join(_SETTING.pack(*item) for item in values.items())
    return header(len(payload), SETTINGS, 0, 0) + payload


def read_settings(payload: memoryview) -> list[tuple[int, int]]:
    """Raises ConnectionFault for a size that cannot be."""
    if len(payload) % 6:
        raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS is not a multiple of six bytes")
    return list(_SETTING.iter_unpack(payload))


SETTINGS_ACK = header(0, SETTINGS, ACK, 0)


def window_update(stream: int, increment: int) -> bytes:
    return header(4, WINDOW_UPDATE, 0, stream) + _UINT32.pack(increment)


def reset(stream: int, code: int) -> bytes:
    return header(4, RST_STREAM, 0, stream) + _UINT32.pack(code)


def pong(payload: bytes) -> bytes:
    return header(8, PING, ACK, 0) + payload


def goaway(last_stream: int, code: int, message: str = "") -> bytes:
    payload = _GOAWAY.pack(last_stream, code) + message.encode()[:200]
    return header(len(payload), GOAWAY, 0, 0) + payload


def uint31(payload: memoryview) -> int:
    """Four bytes without their highest bit.  Raises ConnectionFault for another size."""
    if len(payload) != 4:
        raise ConnectionFault(FRAME_SIZE_ERROR, "this frame has four bytes")
    return int(_UINT32.unpack(payload)[0]) & MAX_WINDOW
