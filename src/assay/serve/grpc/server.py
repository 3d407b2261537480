"""GrpcServer: the listening socket, its connections, and who may call what."""

from __future__ import annotations

import hmac
import ssl
from collections.abc import Callable
from concurrent.futures import Executor

from assay.core.errors import NotAvailable
from assay.serve.errors import FORBIDDEN, UNAUTHENTICATED, UNAVAILABLE, ServeError
from assay.serve.grpc.calls import HEALTH, INFER, METHODS, STREAM_INFER, Served
from assay.serve.grpc.connection import Connection
from assay.serve.grpc.head import Head
from assay.serve.grpc.infer import Beside, InferPath, Models, StreamInfer, UnaryInfer
from assay.serve.grpc.status import GrpcError
from assay.serve.grpc.stream import Call, MessageMemory, Stream
from assay.serve.grpc.unary import HealthCall, UnaryCall
from assay.serve.http.buffers import Held
from assay.serve.listening import Listening
from assay.serve.repository import Repository
from assay.serve.settings import ServeSettings
from assay.serve.shared_memory import SharedMemoryRegistry


def _silent(error: BaseException) -> None:
    pass


class GrpcServer(Listening[Connection]):
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
        super().__init__(settings.limits)
        self.memory = MessageMemory(settings.limits.held)
        self.answers = Held(settings.limits.held)
        self.broken = broken
        self._access = settings.access
        admin = settings.access.admin
        self._served = Served(repository, memory if admin else None, admin)
        self._beside = Beside(executor, settings.limits.inflated, broken)
        self._infer = InferPath(models or repository, self._served, self.memory, self._beside)

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
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        return await self._listen(self._connection, host, port, tls)

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

    def make_room(self) -> None:
        """End the largest answers that wait, on the connection that keeps the most, until the rest fit."""
        while self.answers.used > self.answers.limit:
            if not max(self._connections, key=lambda c: c.held).shed():
                return

    def _connection(self) -> Connection:
        return Connection(self)

    def _check_token(self, head: Head) -> None:
        token = self._access.token
        if token is None:
            return
        scheme, _, given = head.authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), token):
            raise ServeError(UNAUTHENTICATED, "this server wants authorization: Bearer and its token")
