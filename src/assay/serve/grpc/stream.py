"""Stream: one call on an HTTP/2 connection, its messages in and out.

In: DATA becomes length-prefixed messages (one byte: compressed?, four bytes: length), each assembled in
one buffer of its own, laid out so that the first raw tensor in it is aligned.  Out: what flow control
does not let through waits here.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from assay.core.units import Bytes, Seconds
from assay.serve.grpc.frames import DEFAULT_WINDOW
from assay.serve.grpc.message import first_raw
from assay.serve.grpc.status import GrpcError
from assay.serve.http.buffers import Buffer, BufferPool

PREFIX_BYTES = 5


class Incoming:
    """A received message: ``data`` are its bytes, ``lease`` the buffer they lie in, ``compressed`` its flag."""

    __slots__ = ("compressed", "data", "lease")

    def __init__(self, data: memoryview, lease: Buffer | None, compressed: bool) -> None:
        self.data = data
        self.lease = lease
        self.compressed = compressed


class MessageMemory:
    """Buffers for messages, counted against one limit for the whole server.  For the event loop's thread."""

    def __init__(self, limit: Bytes) -> None:
        self._limit = limit
        self._pool = BufferPool()
        self.used = 0

    def take(self, size: Bytes, lead: Bytes) -> Buffer:
        """A buffer of ``size`` bytes whose byte ``lead`` is aligned.

        Raises GrpcError when all messages together would be too large.
        """
        if self.used + size > self._limit:
            raise GrpcError("RESOURCE_EXHAUSTED", f"messages of {self.used} bytes are being worked on already")
        buffer = self._pool.take(size, lead)
        self.used += buffer.capacity
        return buffer

    def give(self, buffer: Buffer) -> None:
        """Every buffer is given back once."""
        self.used -= buffer.capacity
        buffer.release()


class Assembler:
    """Bytes in any pieces -> messages.  ``room`` is where the next bytes of a message may go directly."""

    __slots__ = ("_compressed", "_got", "_lease", "_limit", "_memory", "_prefix", "_view")

    def __init__(self, memory: MessageMemory, limit: Bytes) -> None:
        self._memory = memory
        self._limit = limit
        self._prefix = b""
        self._view: memoryview | None = None
        self._lease: Buffer | None = None
        self._got = 0
        self._compressed = False

    @property
    def empty(self) -> bool:
        """Between two messages."""
        return self._view is None and not self._prefix

    def room(self) -> memoryview | None:
        """What of the current message has not come yet, or None between messages."""
        return None if self._view is None else self._view[self._got :]

    def filled(self, count: int) -> Incoming | None:
        """``count`` bytes were put into ``room``; the message, if it is complete now."""
        assert self._view is not None
        self._got += count
        return self._complete() if self._got == len(self._view) else None

    def feed(self, data: memoryview) -> tuple[Incoming | None, int]:
        """Take bytes up to the end of a message: (the message if complete, how many were taken).

        Raises GrpcError for a message that is too large or has an unknown flag.
        """
        taken = 0
        if self._view is None:
            taken = PREFIX_BYTES - len(self._prefix)
            self._prefix += bytes(data[:taken])
            if len(self._prefix) < PREFIX_BYTES:
                return None, len(data)
            self._begin(data[taken:])
            assert self._view is not None
        left = min(len(self._view) - self._got, len(data) - taken)
        self._view[self._got : self._got + left] = data[taken : taken + left]
        self._got += left
        taken += left
        return (self._complete() if self._got == len(self._view) else None), taken

    def drop(self) -> None:
        """Give up the message that is being received."""
        if self._lease is not None:
            self._memory.give(self._lease)
        self._view = self._lease = None
        self._prefix = b""

    def _begin(self, seen: memoryview) -> None:
        flag, size = self._prefix[0], int.from_bytes(self._prefix[1:], "big")
        self._prefix = b""
        if flag > 1:
            raise GrpcError("INTERNAL", f"a message begins with {flag} instead of its compressed flag")
        if size > self._limit:
            raise GrpcError("RESOURCE_EXHAUSTED", f"a message of {size} bytes; this server takes up to {self._limit}")
        self._lease = self._memory.take(size, first_raw(seen) or 0)
        self._view = self._lease.view
        self._got = 0
        self._compressed = bool(flag)

    def _complete(self) -> Incoming:
        assert self._view is not None
        message = Incoming(self._view, self._lease, self._compressed)
        self._view = self._lease = None
        return message


class Call(Protocol):
    """What a stream carries; made by the table of methods.  ``limited``: its answer may be waited for only so long."""

    limited: bool

    def message(self, message: Incoming) -> None: ...

    def half_closed(self) -> None:
        """The client sends no more."""
        ...

    def cancelled(self) -> None:
        """Nobody waits for an answer any more."""
        ...


class Stream:
    """One call.  ``waiting`` holds what flow control held back: buffers of DATA, then the trailers."""

    __slots__ = (
        "assembler",
        "began_s",
        "call",
        "headers_sent",
        "id",
        "received",
        "remote_closed",
        "send_window",
        "stalled",
        "streaming",
        "trailers",
        "waiting",
    )

    def __init__(self, id: int, began_s: Seconds, assembler: Assembler, send_window: int = DEFAULT_WINDOW) -> None:
        self.id = id
        self.began_s = began_s
        self.assembler = assembler
        self.call: Call | None = None
        self.send_window = send_window
        self.received = 0
        self.streaming = False
        self.remote_closed = False
        self.headers_sent = False
        self.stalled: tuple[Bytes, Seconds] | None = None
        self.waiting: deque[memoryview] = deque()
        self.trailers: bytes | None = None

    @property
    def idle(self) -> bool:
        """A stream of messages may be silent between two of them; a unary call may not before its one."""
        return self.streaming and self.assembler.empty

    def stalled_since(self, now_s: Seconds) -> Seconds:
        """Since when nothing of what waits could be sent; now, if something was since the last call."""
        left = sum(map(len, self.waiting))
        if not left or self.stalled is None or self.stalled[0] != left:
            self.stalled = left, now_s
        return self.stalled[1]
