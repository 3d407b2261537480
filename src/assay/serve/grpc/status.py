"""gRPC over HTTP/2's own parts: status codes, timeouts, header blocks of answers.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.  Header blocks are written without the
dynamic table (RFC 7541 section 6.2.2), so that they never depend on what was sent before.
"""

from __future__ import annotations

from urllib.parse import quote

from assay.core.units import Seconds
from assay.serve.errors import ServeError

OK = 0
CODES = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
}
ENCODINGS = ("identity", "deflate", "gzip")
MOST_MESSAGE_CHARACTERS = 2000
_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class GrpcError(Exception):
    """A call ends with a status that has no ServeError kind, such as a message that cannot be read."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = CODES[code]
        self.message = message


def timeout_s(text: str) -> Seconds | None:
    """The seconds of a ``grpc-timeout`` header such as ``100m``; None for one that is not well formed."""
    digits, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not digits.isascii() or not digits.isdigit() or len(digits) > 8:
        return None
    return int(digits) * _UNITS[unit]


def literal(name: bytes, value: bytes) -> bytes:
    """A header field without indexing."""
    return b"\x00" + _string(name) + _string(value)


def _string(content: bytes) -> bytes:
    size = len(content)
    if size < 127:
        return bytes((size,)) + content
    rest, out = size - 127, bytearray((127,))
    while rest >= 128:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out) + content


STATUS_200 = b"\x88"
HEADERS = (
    STATUS_200
    + literal(b"content-type", b"application/grpc")
    + literal(b"grpc-accept-encoding", ",".join(ENCODINGS).encode())
)
OK_TRAILERS = literal(b"grpc-status", b"0")


def http_refusal(status: int) -> bytes:
    """The header block of an answer to what is no gRPC call."""
    return literal(b":status", str(status).encode()) + literal(b"content-type", b"text/plain")


def trailers(code: int, message: str = "", retry_after_s: Seconds | None = None) -> bytes:
    """``grpc-message`` is percent-encoded; ``retry-after`` (seconds) is what the HTTP side calls it, too."""
    if code == OK:
        return OK_TRAILERS
    block = literal(b"grpc-status", str(code).encode())
    if message:
        shown = quote(message[:MOST_MESSAGE_CHARACTERS], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
        block += literal(b"grpc-message", shown.encode())
    if retry_after_s is not None:
        block += literal(b"retry-after", f"{max(1, round(retry_after_s))}".encode())
        block += literal(b"grpc-retry-pushback-ms", f"{max(1, round(1e3 * retry_after_s))}".encode())
    return block


def status_of(error: BaseException) -> tuple[int, str, Seconds | None]:
    """(code, message, retry after) an error is answered with.  ``error`` is a ServeError or a GrpcError."""
    if isinstance(error, GrpcError):
        return error.code, error.message, None
    assert isinstance(error, ServeError)
    return CODES[error.kind.grpc], error.message, error.retry_after_s
