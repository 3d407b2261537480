"""Receive buffers: aligned, reused, and placed so that what follows a JSON header is aligned too."""

from __future__ import annotations

import numpy as np

from assay.core.units import Bytes
from assay.serve.errors import UNAVAILABLE, ServeError

ALIGNMENT = 64
STEP = 64 * 1024
SMALLEST = 4 * 1024
KEPT: Bytes = 256 * 1024 * 1024
"""Idle buffers beyond this many bytes are given back to the system."""


class Held:
    """Bytes of bodies that came and are not answered yet, of all connections together; for one event loop's thread.

    What came counts, not what was announced: a client that says much and sends little locks nobody out.
    """

    __slots__ = ("limit", "used")

    def __init__(self, limit: Bytes) -> None:
        self.limit = limit
        self.used: Bytes = 0

    def add(self, count: Bytes) -> None:
        """Raises ServeError (unavailable) where all of them would be too large."""
        if self.used + count > self.limit:
            raise ServeError(
                UNAVAILABLE,
                f"bodies of {self.used} bytes are being worked on, of {self.limit} at most",
                retry_after_s=1.0,
            )
        self.used += count


class Buffer:
    """``view`` is where ``size`` bytes go; byte ``lead`` of it lies at a multiple of 64 bytes."""

    __slots__ = ("_base", "_start", "pool", "view")

    def __init__(self, pool: BufferPool, capacity: Bytes) -> None:
        raw = np.empty(capacity + 2 * ALIGNMENT, np.uint8)
        self._start = -raw.ctypes.data % ALIGNMENT
        self._base = memoryview(raw.data)
        self.pool = pool
        self.view = self._base[:0]

    @property
    def capacity(self) -> Bytes:
        return len(self._base) - 2 * ALIGNMENT

    def place(self, size: Bytes, lead: Bytes) -> None:
        start = self._start + -lead % ALIGNMENT
        self.view = self._base[start : start + size]

    def release(self) -> None:
        """Nobody looks at it any more."""
        self.pool.give(self)


class BufferPool:
    """For one event loop's thread; buffers of a size class are kept for the next request.

    Classes are powers of two from 4 KiB to 64 KiB, then multiples of that.
    """

    def __init__(self, kept: Bytes = KEPT) -> None:
        self._most = kept
        self._kept = 0
        self._free: dict[Bytes, list[Buffer]] = {}

    def take(self, size: Bytes, lead: Bytes = 0) -> Buffer:
        """A buffer of ``size`` bytes whose byte ``lead`` is aligned.  Its content is whatever was there."""
        capacity = max(SMALLEST, 1 << (size - 1).bit_length()) if size <= STEP else -(-size // STEP) * STEP
        free = self._free.get(capacity)
        if free:
            buffer = free.pop()
            self._kept -= capacity
        else:
            buffer = Buffer(self, capacity)
        buffer.place(size, lead)
        return buffer

    def give(self, buffer: Buffer) -> None:
        capacity = buffer.capacity
        if self._kept + capacity > self._most:
            self._free.clear()
            self._kept = 0
            if capacity > self._most:
                return
        self._kept += capacity
        self._free.setdefault(capacity, []).append(buffer)
