"""A listening socket and its connections."""

from __future__ import annotations

import importlib.util
import ssl
from collections.abc import Callable

from assay.core.errors import NotAvailable
from assay.serve.http.buffers import BufferPool, Held
from assay.serve.http.connection import Connection
from assay.serve.http.exchange import Application, Exchange
from assay.serve.http.head import HeadParser
from assay.serve.http.message import Answer
from assay.serve.listening import Listening
from assay.serve.settings import Limits

Seen = Callable[[Exchange, Answer], None]


class Listener(Listening[Connection]):
    """Made, started and stopped on its event loop.  ``seen`` is told of every answer (an access log)."""

    def __init__(self, application: Application, limits: Limits, seen: Seen | None = None) -> None:
        super().__init__(limits)
        self.application = application
        self.heads = HeadParser()
        self.pool = BufferPool()
        self.memory = Held(limits.held)
        self.scratch = memoryview(bytearray(64 * 1024))
        self._seen = seen

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port.  Raises NotAvailable where that is impossible, or httptools is missing."""
        if importlib.util.find_spec("httptools") is None:
            raise NotAvailable("REST needs httptools, which is not installed", remedy="pip install 'assay[serve]'")
        return await self._listen(lambda: Connection(self), host, port, tls)

    # Connections' side

    def joined(self, connection: Connection) -> bool:
        """Whether there is room for it."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections

    def left(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def answered(self, exchange: Exchange, answer: Answer) -> None:
        if self._seen is not None:
            self._seen(exchange, answer)
