"""Stream: one call on an HTTP/2 connection, its messages in and out.

In: DATA becomes length-prefixed messages (one byte: compressed?, four bytes: length), each assembled in
one buffer of its own, laid out so that the first raw tensor in it is aligned.  Out: what the client does
not take yet waits here.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import numpy as np

from assay.core.units import Bytes, Seconds
from assay.serve.grpc.frames import DEFAULT_WINDOW
from assay.serve.grpc.message import first_raw
from assay.serve.grpc.status import GrpcError
from assay.serve.http.buffers import SMALLEST, Buffer, BufferPool, Held

PREFIX_BYTES = 5
FIRST_BYTES: Bytes = 1 << 20
"""A message up to this size gets its whole buffer when it is announced; a larger one grows to its size."""
GROWTH = 16
"""By which factor, if what is allocated for bytes that have not come allows it."""


class Incoming:
    """A received message: ``data`` are its bytes, ``lease`` the buffer they lie in, ``compressed`` its flag."""

    __slots__ = ("compressed", "data", "lease")

    def __init__(self, data: memoryview, lease: Buffer | None, compressed: bool) -> None:
        self.data = data
        self.lease = lease
        self.compressed = compressed


class MessageMemory:
    """Buffers for messages, counted against one limit for the whole server.  For the event loop's thread.

    What came of a message counts, at least the smallest buffer's 4 KiB; what was only announced does not.  ``spare``
    is what is allocated for bytes that have not come: up to a quarter of the limit buffers are given generously, so
    that messages are not copied while they grow; then each gets at most twice what came of it.
    """

    def __init__(self, limit: Bytes) -> None:
        self.held = Held(limit)
        self.spare: Bytes = 0
        self._most_spare = limit // 4
        self._pool = BufferPool()

    @property
    def used(self) -> Bytes:
        return self.held.used

    def step(self, size: Bytes, came: Bytes) -> Bytes:
        """The buffer for a message of ``size`` bytes of which so many came."""
        wanted = min(size, max(FIRST_BYTES, GROWTH * came))
        if self.spare + wanted - came <= self._most_spare:
            return wanted
        return min(size, max(SMALLEST, 2 * came))

    def take(self, size: Bytes, lead: Bytes) -> Buffer:
        """A buffer of ``size`` bytes whose byte ``lead`` is aligned.  It counts as ``spare`` until bytes ``came``."""
        self.spare += size
        return self._pool.take(size, lead)

    def came(self, before: Bytes, count: Bytes) -> None:
        """``count`` bytes more of a message of which ``before`` came.  Raises ServeError (unavailable)."""
        self.held.add(_charge(before + count) - _charge(before))
        self.spare -= count

    def begun(self) -> None:
        """Raises ServeError (unavailable) where all messages together would be too large."""
        self.held.add(_charge(0))

    def give(self, buffer: Buffer, came: Bytes | None = None) -> None:
        """Every message's buffer is given back once; ``came`` bytes of it are the message, None: all."""
        size = len(buffer.view)
        came = size if came is None else came
        self.held.used -= _charge(came)
        self.spare -= size - came
        buffer.release()

    def swap(self, old: Buffer, size: Bytes, lead: Bytes) -> Buffer:
        """A larger buffer with what ``old``, which is full, holds."""
        came = len(old.view)
        new = self._pool.take(size, lead)
        new.view[:came] = old.view
        self.spare += size - came
        old.release()
        return new


def _charge(came: Bytes) -> Bytes:
    return max(SMALLEST, came)


class Assembler:
    """Bytes in any pieces -> messages.  ``room`` is where the next bytes of a message may go directly."""

    __slots__ = ("_compressed", "_got", "_lead", "_lease", "_limit", "_memory", "_prefix", "_size", "_view")

    def __init__(self, memory: MessageMemory, limit: Bytes) -> None:
        self._memory = memory
        self._limit = limit
        self._prefix = b""
        self._view: memoryview | None = None
        self._lease: Buffer | None = None
        self._size = self._got = self._lead = 0
        self._compressed = False

    @property
    def empty(self) -> bool:
        """Between two messages."""
        return self._view is None and not self._prefix

    def room(self) -> memoryview | None:
        """Where what comes next of the current message goes (maybe not all of it), or None between messages."""
        return None if self._view is None else self._view[self._got :]

    def filled(self, count: int) -> Incoming | None:
        """``count`` bytes were put into ``room``; the message, if it is complete now.

        Raises ServeError (unavailable) when all messages together are too large.
        """
        assert self._view is not None
        self._memory.came(self._got, count)
        self._got += count
        return self._advance() if self._got == len(self._view) else None

    def feed(self, data: memoryview) -> tuple[Incoming | None, int]:
        """Take bytes, at most to the end of a message: (the message if complete, how many were taken).

        Raises GrpcError for a message that is too large or has an unknown flag, ServeError as ``filled``.
        """
        taken = 0
        if self._view is None:
            taken = PREFIX_BYTES - len(self._prefix)
            self._prefix += bytes(data[:taken])
            if len(self._prefix) < PREFIX_BYTES:
                return None, len(data)
            self._begin(data[taken:])
            assert self._view is not None
        count = min(len(self._view) - self._got, len(data) - taken)
        self._view[self._got : self._got + count] = data[taken : taken + count]
        return self.filled(count), taken + count

    def drop(self) -> None:
        """Give up the message that is being received."""
        if self._lease is not None:
            self._memory.give(self._lease, self._got)
        self._view = self._lease = None
        self._prefix = b""

    def _begin(self, seen: memoryview) -> None:
        flag, size = self._prefix[0], int.from_bytes(self._prefix[1:], "big")
        self._prefix = b""
        if flag > 1:
            raise GrpcError("INTERNAL", f"a message begins with {flag} instead of its compressed flag")
        if size > self._limit:
            raise GrpcError("RESOURCE_EXHAUSTED", f"a message of {size} bytes; this server takes up to {self._limit}")
        memory = self._memory
        memory.begun()
        self._lead = first_raw(seen) or 0
        self._lease = memory.take(memory.step(size, min(size, len(seen))), self._lead)
        self._view = self._lease.view
        self._size, self._got = size, 0
        self._compressed = bool(flag)

    def _advance(self) -> Incoming | None:
        """The buffer is full: the message is complete, or needs a larger one."""
        lease = self._lease
        assert lease is not None
        if self._got < self._size:
            self._lease = self._memory.swap(lease, self._memory.step(self._size, self._got), self._lead)
            self._view = self._lease.view
            return None
        message = Incoming(lease.view, lease, self._compressed)
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
    """One call.  ``waiting`` holds what the client does not take yet: buffers of DATA, then the trailers; ``held`` is
    what that counts.  ``deferred``: inferences that were asked and have not begun (``gate``)."""

    __slots__ = (
        "assembler",
        "began_s",
        "call",
        "deferred",
        "headers_sent",
        "held",
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
        self.received = self.held = self.deferred = 0
        self.streaming = False
        self.remote_closed = False
        self.headers_sent = False
        self.stalled: tuple[Bytes, Seconds, bool] | None = None
        self.waiting: deque[memoryview] = deque()
        self.trailers: bytes | None = None

    @property
    def idle(self) -> bool:
        """A stream of messages may be silent between two of them; a unary call may not before its one."""
        return self.streaming and self.assembler.empty

    def stalled_since(self, now_s: Seconds, sent: Bytes) -> Seconds:
        """Since when nothing of what waits could be sent; now, if something was since the last call.

        A stream whose own window is open waits for the connection's turn: it stalls when the connection does, of
        whose answers ``sent`` bytes left so far.
        """
        mark = self.held if self.send_window <= 0 else -sent
        if not self.waiting or self.stalled is None or self.stalled[0] != mark:
            self.stalled = mark, now_s, False
        elif not self.stalled[2]:
            self.stalled = mark, self.stalled[1], True
            self.waiting = deque(map(_own, self.waiting))
        return self.stalled[1]


def _own(piece: memoryview) -> memoryview:
    """A view of one answer keeps the whole batch's array: a stalled one is copied out of it."""
    root: Any = piece.obj
    while isinstance(base := getattr(root, "base", None), np.ndarray):
        root = base
    return memoryview(bytes(piece)) if getattr(root, "nbytes", 0) > 2 * len(piece) else piece
