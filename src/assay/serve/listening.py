"""A listening socket, its connections, and a look at each of them every second; the same for every protocol."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from assay.core import clock
from assay.core.errors import NotAvailable
from assay.core.units import Seconds
from assay.serve.settings import Limits

SWEEP_S: Seconds = 1.0
BACKLOG = 1024


class Swept(Protocol):
    """A connection, as what listens sees it.  ``closed_s``: when its transport was told to close, None before that."""

    closed_s: Seconds | None

    def drain(self) -> None:
        """Answer what was begun, then close."""
        ...

    def abort(self) -> None: ...

    def sweep(self, now_s: Seconds) -> None:
        """Called every ``SWEEP_S``: cut off what is too slow."""
        ...


C = TypeVar("C", bound=Swept)


class Listening(Generic[C]):
    """Made, started and stopped on its event loop.  Connections add and remove themselves in ``_connections``."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.loop: asyncio.AbstractEventLoop
        self._connections: set[C] = set()
        self._server: asyncio.AbstractServer | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def _listen(
        self, make: Callable[[], asyncio.BaseProtocol], host: str, port: int, tls: ssl.SSLContext | None
    ) -> int:
        """Listen; returns the port.  Raises NotAvailable where that is impossible."""
        self.loop = asyncio.get_running_loop()
        try:
            self._server = await self.loop.create_server(make, host, port, ssl=tls, backlog=BACKLOG, reuse_address=True)
        except OSError as error:
            why = error.strerror or str(error)
            raise NotAvailable(f"cannot listen on {host}:{port}: {why}", remedy="choose another port or host") from None
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def stop_accepting(self) -> None:
        """No new connections; those that are idle are closed, the others when what they were asked is answered."""
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

    def _sweep(self) -> None:
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
        now_s = clock.now()
        for connection in list(self._connections):
            closed_s = connection.closed_s
            if closed_s is not None and now_s - closed_s > self.limits.write_s:
                connection.abort()  # its client does not read the last of what was written
            else:
                connection.sweep(now_s)
