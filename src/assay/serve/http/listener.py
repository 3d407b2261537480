"""A listening socket and its connections."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import ssl
from collections.abc import Callable

from assay.core import clock
from assay.core.errors import NotAvailable
from assay.core.units import Seconds
from assay.serve.http.buffers import BufferPool
from assay.serve.http.connection import Connection
from assay.serve.http.exchange import Application, Exchange
from assay.serve.http.head import HeadParser
from assay.serve.http.message import Answer
from assay.serve.settings import Limits

SWEEP_S: Seconds = 1.0
BACKLOG = 1024
Seen = Callable[[Exchange, Answer], None]


class Listener:
    """Made, started and stopped on its event loop.  ``seen`` is told of every answer (an access log)."""

    def __init__(self, application: Application, limits: Limits, seen: Seen | None = None) -> None:
        self.application = application
        self.limits = limits
        self.heads = HeadParser()
        self.pool = BufferPool()
        self.scratch = memoryview(bytearray(64 * 1024))
        self.handled = 0
        self.loop: asyncio.AbstractEventLoop
        self._seen = seen
        self._connections: set[Connection] = set()
        self._server: asyncio.AbstractServer | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port.  Raises NotAvailable where that is impossible, or httptools is missing."""
        if importlib.util.find_spec("httptools") is None:
            raise NotAvailable("REST needs httptools, which is not installed", remedy="pip install 'assay[serve]'")
        self.loop = asyncio.get_running_loop()
        try:
            self._server = await self.loop.create_server(
                lambda: Connection(self), host, port, ssl=tls, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            why = error.strerror or str(error)
            raise NotAvailable(f"cannot listen on {host}:{port}: {why}", remedy="choose another port or host") from None
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def stop_accepting(self) -> None:
        """No new connections; those that are idle are closed, the others close after their answer."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.drain()

    async def drained(self, within_s: Seconds) -> bool:
        """Wait until every connection is closed; those that are left are cut off."""
        until_s = clock.now() + within_s
        while self._connections and clock.now() < until_s:
            await asyncio.sleep(0.01)
        left = list(self._connections)
        for connection in left:
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 1.0)
        return not left

    @property
    def connections(self) -> int:
        return len(self._connections)

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

    def _sweep(self) -> None:
        now_s = clock.now()
        for connection in list(self._connections):
            connection.check(now_s)
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
