"""Gate: which of a connection's inferences begin, so that answers its client does not take stay few.

Reading on is not to be stopped for that: the frames that open a client's windows come the same way as its requests.
So what was asked waits here until answers have left, in the order it came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from assay.core.units import Bytes
from assay.serve.grpc.outbound import Outbound
from assay.serve.grpc.status import GrpcError
from assay.serve.grpc.stream import Stream

MOST_DEFERRED = 1000
"""Inferences of one connection that have not begun."""
UNKNOWN = 16
"""So many begin before the size of any answer is known."""
Begin = Callable[[], None]


class Gate:
    """One per connection.  An inference begins while the answers that wait, and those to come, fit into ``limit``.

    An answer to come counts as the largest of late.  ``guard`` runs what is begun later, and ends the stream of what
    raises.
    """

    def __init__(self, out: Outbound, limit: Bytes, guard: Callable[[Stream, Begin], None]) -> None:
        self._out = out
        self._limit = limit
        self._guard = guard
        self._expected: Bytes = limit // UNKNOWN
        self._known = self._running = False
        self._deferred: deque[tuple[Stream, Begin]] = deque()
        self.begun = 0
        """Inferences that have begun and are not answered."""

    def enter(self, stream: Stream, begin: Begin) -> None:
        """Call ``begin`` now or later; ``left`` is to follow unless it raises.  Raises what it raises, and GrpcError
        where too much waits already."""
        if not self._deferred and self._open():
            self._begin(begin)
            return
        if len(self._deferred) >= MOST_DEFERRED:
            why = f"{MOST_DEFERRED} requests wait until this connection's client has taken the answers it was sent"
            raise GrpcError("RESOURCE_EXHAUSTED", why)
        stream.deferred += 1
        self._deferred.append((stream, begin))

    def left(self, size: Bytes | None = None) -> None:
        """One that began was answered with so many bytes; None: with an error, or nobody waits for it."""
        self.begun -= 1
        if size is not None:
            self._expected = max(size, self._expected * 7 // 8) if self._known else size
            self._known = True
        self.run()

    def run(self) -> None:
        """Begin what there is room for now."""
        if not self._deferred or self._running:
            return
        self._running = True
        try:
            while self._deferred and self._open():
                stream, begin = self._deferred.popleft()
                stream.deferred -= 1
                self._guard(stream, partial(self._begin, begin))
        finally:
            self._running = False

    def forget(self, stream: Stream) -> None:
        """The stream is gone: nothing more of it begins."""
        if stream.deferred:
            stream.deferred = 0
            self._deferred = deque(item for item in self._deferred if item[0] is not stream)

    def _open(self) -> bool:
        held = self._out.held
        return held < self._limit and (not self.begun or held + (self.begun + 1) * self._expected <= self._limit)

    def _begin(self, begin: Begin) -> None:
        self.begun += 1
        try:
            begin()
        except BaseException:
            self.begun -= 1
            raise
