"""GrpcServer: the listening socket, its connections, and who may call what."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import ssl
from collections.abc import Callable
from concurrent.futures import Executor

from assay.core import clock
from assay.core.errors import NotAvailable
from assay.core.units import Seconds
from assay.serve.errors import FORBIDDEN, UNAUTHENTICATED, UNAVAILABLE, ServeError
from assay.serve.grpc.calls import HEALTH, INFER, METHODS, STREAM_INFER, Served
from assay.serve.grpc.connection import Connection
from assay.serve.grpc.head import Head
from assay.serve.grpc.infer import Beside, InferPath, Models, StreamInfer, UnaryInfer
from assay.serve.grpc.status import GrpcError
from assay.serve.grpc.stream import Call, MessageMemory, Stream
from assay.serve.grpc.unary import HealthCall, UnaryCall
from assay.serve.repository import Repository
from assay.serve.settings import ServeSettings
from assay.serve.shared_memory import SharedMemoryRegistry

SWEEP_S: Seconds = 1.0
BACKLOG = 1024
BUFFERED_BYTES = 1 << 30


def _silent(error: BaseException) -> None:
    pass


class GrpcServer:
    """Made, started and stopped on its event loop, as ``http.listener.Listener`` is.

    ``executor`` runs what would block the loop; ``memory`` is used only where the settings allow
    administration; ``models`` takes the inferences (a canary around the repository; None: the repository).
    ``broken`` is told of errors nobody expected.
    """

    def __init__(
        self,
        repository: Repository,
        settings: ServeSettings,
        executor: Executor,
        memory: SharedMemoryRegistry | None = None,
        models: Models | None = None,
        broken: Callable[[BaseException], None] = _silent,
    ) -> None:
        self.limits = settings.limits
        self.memory = MessageMemory(max(BUFFERED_BYTES, 2 * settings.limits.body))
        self.broken = broken
        self._access = settings.access
        admin = settings.access.admin
        self._served = Served(repository, memory if admin else None, admin)
        self._beside = Beside(executor, settings.limits.inflated, broken)
        self._infer = InferPath(models or repository, self._served, self.memory, self._beside)
        self._connections: set[Connection] = set()
        self._server: asyncio.AbstractServer | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.loop: asyncio.AbstractEventLoop

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listen; returns the port.  Raises NotAvailable where that is impossible, or a library is missing."""
        try:
            import google.protobuf  # type: ignore[import-untyped]
            import hpack
        except ImportError as error:
            raise NotAvailable(
                f"gRPC needs {error.name}, which is not installed",
                remedy="pip install 'assay[grpc]', or serve without it: --no-grpc",
            ) from None
        del google, hpack
        self.loop = asyncio.get_running_loop()
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        try:
            self._server = await self.loop.create_server(
                self._connection, host, port, ssl=tls, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            why = error.strerror or str(error)
            raise NotAvailable(f"cannot listen on {host}:{port}: {why}", remedy="choose another port or host") from None
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    def stop_accepting(self) -> None:
        """No new connections, no new calls; a connection closes when its last call is answered."""
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

    def call(self, connection: Connection, stream: Stream, head: Head) -> Call:
        path = head.path
        if path == INFER:
            self._check_token(head)
            return UnaryInfer(self._infer, connection, stream, head)
        if path == STREAM_INFER:
            self._check_token(head)
            return StreamInfer(self._infer, connection, stream, head)
        if path == HEALTH:
            return HealthCall(connection, stream, self._served, self.memory)
        method = METHODS.get(path)
        if method is None:
            raise GrpcError("UNIMPLEMENTED", f"there is no method {path[:200]!r} here")
        if not method.open:
            self._check_token(head)
        if method.admin and not self._access.admin:
            raise ServeError(FORBIDDEN, f"{path[:200]} is off; start the server with --admin to allow it")
        return UnaryCall(connection, stream, method, head.encoding).attach(self._served, self._beside, self.memory)

    def joined(self, connection: Connection) -> None:
        """Raises ServeError when there is no room for it."""
        self._connections.add(connection)
        if len(self._connections) > self.limits.connections:
            raise ServeError(UNAVAILABLE, f"{self.limits.connections} connections are open already")

    def lost(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def _connection(self) -> Connection:
        return Connection(self)

    def _check_token(self, head: Head) -> None:
        token = self._access.token
        if token is None:
            return
        scheme, _, given = head.authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), token):
            raise ServeError(UNAUTHENTICATED, "this server wants authorization: Bearer and its token")

    def _sweep(self) -> None:
        now_s = clock.now()
        for connection in list(self._connections):
            connection.sweep(now_s)
        self._sweeper = self.loop.call_later(SWEEP_S, self._sweep)
