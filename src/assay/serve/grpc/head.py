"""Request headers: HPACK blocks into what a gRPC call is made of.

A client repeats itself: after the first call of a connection a block is a few indexes into HPACK's
table.  A block that did not change the table means the same until the next one that does, so its
meaning is remembered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from assay.core.units import Seconds
from assay.serve.grpc import frames, status

MOST_HEADER_BYTES = 16_384
MOST_CONTINUATIONS = 16
_REMEMBERED = 64


class Head(NamedTuple):
    """``refusal`` is the HTTP status for what is no gRPC call, 0 for one; ``timeout_s`` is counted from arrival."""

    path: str = ""
    timeout_s: Seconds | None = None
    encoding: str = "identity"
    authorization: str = ""
    refusal: int = 0


class HeadReader:
    """One per connection, in the order of its blocks."""

    def __init__(self) -> None:
        from hpack import Decoder, HPACKError

        self._decoder = Decoder(max_header_list_size=MOST_HEADER_BYTES)
        self._error: type[Exception] = HPACKError
        self._known: dict[bytes, Head] = {}

    def read(self, block: bytes) -> Head:
        """Raises ConnectionFault for a block that is malformed or too large (HPACK's state is lost then)."""
        found = self._known.get(block)
        if found is not None:
            return found
        table = self._decoder.header_table
        before = _mark(table)
        try:
            fields = self._decoder.decode(block, raw=True)
        except self._error as error:
            large = type(error).__name__ == "OversizedHeaderListError"
            code = frames.ENHANCE_YOUR_CALM if large else frames.COMPRESSION_ERROR
            raise frames.ConnectionFault(code, f"header block: {type(error).__name__}") from None
        head = _head(fields)
        if _mark(table) != before:
            self._known.clear()
        elif block[:1] and block[0] & 0xE0 != 0x20 and len(block) <= 256:  # not a change of the table's size
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[block] = head
        return head


class HeaderBlocks:
    """Header blocks of one connection out of HEADERS and CONTINUATION frames."""

    def __init__(self) -> None:
        self._reader = HeadReader()
        self._flags = self._count = 0
        self._block = b""
        self.stream: int | None = None
        """Whose block goes on in the next frame."""

    def headers(self, number: int, flags: int, payload: memoryview) -> tuple[Head, bool] | None:
        """The block if it is complete, and whether the client's side of the stream ends with it.

        Raises ConnectionFault for a block that is malformed or too large.
        """
        start, end = 0, len(payload)
        if flags & frames.PADDED:
            start = 1
            end -= payload[0] if len(payload) else 1
        if flags & frames.HAS_PRIORITY:
            start += 5
        if start > end:
            raise frames.ConnectionFault(frames.PROTOCOL_ERROR, "more padding than frame")
        self._count, self._flags = 0, flags
        return self._collect(number, flags, bytes(payload[start:end]))

    def continuation(self, number: int, flags: int, payload: memoryview) -> tuple[Head, bool] | None:
        """As ``headers``."""
        if self.stream is None:
            raise frames.ConnectionFault(frames.PROTOCOL_ERROR, "CONTINUATION of nothing")
        self._count += 1
        return self._collect(number, flags, self._block + bytes(payload))

    def _collect(self, number: int, flags: int, block: bytes) -> tuple[Head, bool] | None:
        if len(block) > 2 * MOST_HEADER_BYTES or self._count > MOST_CONTINUATIONS:
            raise frames.ConnectionFault(frames.ENHANCE_YOUR_CALM, "a header block is too large")
        if not flags & frames.END_HEADERS:
            self.stream, self._block = number, block
            return None
        self.stream, self._block = None, b""
        return self._reader.read(block), bool(self._flags & frames.END_STREAM)


class _Mark:
    """The state of a table: entries are compared by identity, since each insertion makes a new one."""

    def __init__(self, first: Any, count: int, size: int) -> None:
        self.first, self.count, self.size = first, count, size

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Mark)
            and self.first is other.first
            and self.count == other.count
            and self.size == other.size
        )

    __hash__ = None  # type: ignore[assignment]


def _mark(table: Any) -> _Mark:
    entries = table.dynamic_entries
    return _Mark(entries[0] if entries else None, len(entries), table.maxsize)


def _head(fields: Iterable[tuple[Any, Any]]) -> Head:
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        found.setdefault(bytes(name), bytes(value))
    if found.get(b":method") != b"POST":
        return Head(refusal=405)
    kind = found.get(b"content-type", b"")
    if not (kind == b"application/grpc" or kind.startswith((b"application/grpc+proto", b"application/grpc;"))):
        return Head(refusal=415)
    limit = found.get(b"grpc-timeout")
    return Head(
        found.get(b":path", b"").decode("latin-1"),
        None if limit is None else status.timeout_s(limit.decode("latin-1")),
        found.get(b"grpc-encoding", b"identity").decode("latin-1"),
        found.get(b"authorization", b"").decode("latin-1"),
    )
