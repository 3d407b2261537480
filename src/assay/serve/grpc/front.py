"""Front: what a connection asks of the server it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from assay.serve.grpc.head import Head
from assay.serve.grpc.stream import Call, MessageMemory, Stream
from assay.serve.http.buffers import Held
from assay.serve.settings import Limits

if TYPE_CHECKING:
    from assay.serve.grpc.connection import Connection


class Front(Protocol):
    limits: Limits
    memory: MessageMemory
    answers: Held
    """What waits on all connections because their clients do not take it."""

    def call(self, connection: Connection, stream: Stream, head: Head) -> Call:
        """Raises GrpcError or ServeError for a call that is refused before its message is read."""
        ...

    def joined(self, connection: Connection) -> None:
        """Raises ServeError when there is no room for it."""
        ...

    def lost(self, connection: Connection) -> None: ...

    def make_room(self) -> None:
        """``answers`` may have grown beyond its limit."""
        ...

    def broken(self, error: BaseException) -> None:
        """An error nobody expected: for the log."""
        ...
