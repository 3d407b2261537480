"""Server: the front ends around one repository on one event loop; how they start, drain and stop."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import signal
import ssl
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from assay.core import clock
from assay.core.errors import BadInput
from assay.core.units import Seconds
from assay.serve.http.application import InferenceApplication, Submits, Surroundings
from assay.serve.http.exchange import Exchange
from assay.serve.http.listener import Listener
from assay.serve.http.message import Answer
from assay.serve.http.metrics import MetricsApplication
from assay.serve.metrics import Extra
from assay.serve.repository import Repository
from assay.serve.settings import Access, Limits, ServeSettings
from assay.serve.shared_memory import SharedMemoryRegistry

SWITCH_INTERVAL_S = 0.0001
"""How long a Python thread may keep others waiting: at the default of 5 ms an idle engine waits that long."""
BLOCKING_THREADS = 4
LINGER_S: Seconds = 0.2
"""Between "not ready" and "not listening", so that those who probe can look elsewhere."""
Event = Callable[[str, Mapping[str, Any]], None]


class FrontEnd(Protocol):
    """One protocol on one port.  ``start`` returns the port; it raises NotAvailable where it cannot listen."""

    async def start(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int: ...

    def stop_accepting(self) -> None: ...

    async def drained(self, within_s: Seconds) -> bool: ...


class Server:
    """``memory`` is the shared memory registry, used where ``--admin`` allows it.  ``models`` takes the inferences:
    a canary around the repository; None: the repository itself.  ``extra_metrics`` follow the server's own."""

    def __init__(
        self,
        repository: Repository,
        settings: ServeSettings,
        event: Event,
        memory: SharedMemoryRegistry | None = None,
        models: Submits | None = None,
        extra_metrics: Iterable[Extra] = (),
    ) -> None:
        self.ports: dict[str, int] = {}
        self._repository = repository
        self._settings = settings
        self._event = event
        self._memory = memory
        self._models = models
        self._extra = tuple(extra_metrics)
        self._executor = concurrent.futures.ThreadPoolExecutor(BLOCKING_THREADS, "serve-aside")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def run(self, begin: Callable[[], None] | None = None, *, signals: bool = True) -> bool:
        """Serve until ``stop`` (or, with ``signals``, SIGTERM or SIGINT).  Whether everything was finished in time.

        ``begin`` is called beside the loop once the ports are open: it loads the models.  What it
        raises stops the server and is raised here.  Raises NotAvailable for ports that cannot be had.
        """
        before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        loop = _event_loop()
        try:
            return loop.run_until_complete(self._main(begin, signals))
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            sys.setswitchinterval(before)

    def stop(self) -> None:
        """From any thread: drain and end ``run``."""
        if self._loop is not None and self._stopping is not None:
            with contextlib.suppress(RuntimeError):  # already closed
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def _main(self, begin: Callable[[], None] | None, signals: bool) -> bool:
        self._loop = asyncio.get_running_loop()
        stopping = self._stopping = asyncio.Event()
        failure: list[BaseException] = []
        fronts = await self._listen()
        try:
            if signals:
                for number in (signal.SIGTERM, signal.SIGINT):
                    self._loop.add_signal_handler(number, stopping.set)
            self._event("listening", {"host": self._settings.host, **self.ports})
            beginning = self._loop.run_in_executor(self._executor, self._begin, begin, failure, self._loop)
            await stopping.wait()
            drained = await self._drain(fronts)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(beginning, 1.0)
        finally:
            if signals:
                for number in (signal.SIGTERM, signal.SIGINT):
                    self._loop.remove_signal_handler(number)
        if failure:
            raise failure[0]
        return drained

    def _begin(
        self, begin: Callable[[], None] | None, failure: list[BaseException], loop: asyncio.AbstractEventLoop
    ) -> None:
        try:
            if begin is not None:
                begin()
        except BaseException as error:
            if not self._repository.stopping:  # a server that goes down refuses to load any more: that is no failure
                failure.append(error)
                self.stop()
            return
        if self._repository.ready:
            self._event("ready", {"models": [f"{m.name}:{m.version}" for m in self._repository.served()]})

    async def _listen(self) -> list[FrontEnd]:
        """Every front end, started; none is left listening when one cannot."""
        settings = self._settings
        fronts: list[FrontEnd] = []
        try:
            for name, port, make in (
                ("http_port", settings.http_port, self._http),
                ("grpc_port", settings.grpc_port, self._grpc),
                ("metrics_port", settings.metrics_port, self._metrics),
            ):
                if port is not None:
                    front = make()
                    fronts.append(front)
                    self.ports[name] = await front.start(settings.host, port, tls_context(settings.access))
        except BaseException:
            for front in fronts:
                front.stop_accepting()
                await front.drained(0.0)
            raise
        return fronts

    def _http(self) -> FrontEnd:
        settings = self._settings
        surroundings = Surroundings(self._executor, self._memory, self._models, self._unexpected)
        application = InferenceApplication(self._repository, settings, surroundings)
        return Listener(application, settings.limits, self._seen if settings.access_log else None)

    def _grpc(self) -> FrontEnd:
        from assay.serve.grpc.server import GrpcServer

        return GrpcServer(
            self._repository, self._settings, self._executor, self._memory, self._models, self._unexpected
        )

    def _metrics(self) -> FrontEnd:
        return Listener(MetricsApplication(self._repository, self._extra), Limits(body=4096))

    def _unexpected(self, error: BaseException) -> None:
        self._event("error", {"kind": type(error).__name__, "message": str(error)[:500]})

    async def _drain(self, fronts: list[FrontEnd]) -> bool:
        """Not ready, then deaf to newcomers, then everything that was begun is finished."""
        until_s = clock.now() + self._settings.drain_s
        self._repository.stopping = True
        self._event("draining", {"within_s": self._settings.drain_s})
        await asyncio.sleep(LINGER_S)
        for front in fronts:
            front.stop_accepting()
        found = await asyncio.gather(*(front.drained(max(0.0, until_s - clock.now())) for front in fronts))
        self._repository.drain_s = max(0.5, until_s - clock.now())
        assert self._loop is not None
        closed = await self._loop.run_in_executor(None, self._repository.close)
        drained = all(found) and closed
        self._event("stopped", {"drained": drained})
        return drained

    def _seen(self, exchange: Exchange, answer: Answer) -> None:
        head = exchange.head
        self._event(
            "request",
            {
                "method": head.method,
                "path": head.path[:200],
                "status": answer.status,
                "seconds": round(clock.now() - exchange.arrived_s, 6),
                "bytes": answer.size,
                "request_id": exchange.request_id,
            },
        )


def tls_context(access: Access) -> ssl.SSLContext | None:
    """Raises BadInput for a certificate or key that cannot be read."""
    if access.certificate is None:
        if access.key is not None:
            raise BadInput("a TLS key without its certificate", remedy="--tls-cert FILE --tls-key FILE")
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(access.certificate, access.key)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"the TLS certificate {access.certificate} cannot be used: {error}") from None
    return context


def _event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made
