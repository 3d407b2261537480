"""``assay serve`` on a Ray cluster: the same server in every replica, Ray Serve places, restarts and counts them.

A replica is a whole ``assay serve`` on a port of its own node's loopback, and Ray's proxy hands it REST requests
as they are: every route, error and byte is the one server's.  Ray's proxy is the slow part (milliseconds), so
it is for placement and autoscaling; where requests/s count, put a plain load balancer before plain servers
(docs/deploy.md).  Bundles and model files travel through Ray's object store (``ray_files``), so nodes need assay and
the engine, no shared disk.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core import clock
from assay.core.errors import AssayError, BadInput, NotAvailable
from assay.core.units import Seconds
from assay.job.serve.loading import bundles, served_name
from assay.job.serve.opening import bundle_asked
from assay.job.serve.options import ServeRequest, Serving
from assay.scale.ray_cluster import join, refuse_unreachable
from assay.scale.ray_files import Sent, files_of, moved, sent
from assay.sources import check_spec

APPLICATION, ROUTE = "assay", "/"
READY_S: Seconds = 120.0
POLL_S: Seconds = 0.05
CALM_S: Seconds = 30.0
"""How long the load must be low before replicas are taken away."""
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "host"})
"""RFC 9110 §7.6.1: these concern one connection; the length is said anew."""
OF_THE_PROXY = HOP_BY_HOP | {"x-request-id", "date", "server"}
"""What Ray's proxy puts on an answer itself; the request id is the one it sent."""


@dataclass(frozen=True)
class RayPlan:
    """``address`` None: the cluster that runs here or that RAY_ADDRESS names, else a new one on this machine.

    There are ``least`` to ``most`` replicas, each with ``cpus`` cores for its engine, and another one is started
    when they have more than ``ongoing`` requests each.
    """

    address: str | None = None
    least: int = 1
    most: int = 1
    cpus: int = 1
    ongoing: int = 16

    def __post_init__(self) -> None:
        if self.least < 1 or self.most < self.least or self.cpus < 1 or self.ongoing < 1:
            raise BadInput(f"replicas are at least one, of at least one core: {self}", remedy="--replicas 1:4")

    def autoscaling(self) -> dict[str, Any]:
        """Ray Serve's options of a deployment."""
        if self.least == self.most:
            return {"num_replicas": self.least}
        scaling = {"min_replicas": self.least, "max_replicas": self.most, "target_ongoing_requests": self.ongoing}
        return {"autoscaling_config": {**scaling, "downscale_delay_s": CALM_S}}


def parse_replicas(text: str) -> tuple[int, int]:
    """``"3"`` or ``"1:8"`` (least:most).  Raises BadInput."""
    least, colon, most = text.partition(":")
    try:
        found = int(least), int(most) if colon else int(least)
    except ValueError:
        raise BadInput(f"{text!r} is not a number of replicas", remedy="--replicas 2, or --replicas 1:8") from None
    return found


class RayServe:
    """The application on the cluster, from ``start`` to ``stop``."""

    def __init__(self, request: ServeRequest, plan: RayPlan, event: Callable[[str, Mapping[str, Any]], None]) -> None:
        """Raises BadInput for what a replica cannot do, and for models and files that are not there."""
        _refuse(request)
        for model in request.models:
            _look_at(model)
        self._request, self._plan, self._event = request, plan, event
        self._stopping = threading.Event()
        self._own_cluster = False

    def run(self) -> bool:
        """Serve until ``stop``, SIGTERM or SIGINT.  Raises NotAvailable without Ray or without its cluster."""
        with self.serving():
            # Only now: Ray puts its own handlers in place when it connects.
            before = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
            try:
                self._stopping.wait()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        return True

    def _signalled(self, number: int, frame: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From any thread or a signal handler."""
        self._stopping.set()

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """The application is up for as long as the block lasts."""
        refuse_unreachable(self._plan.address)
        _, serve = _ray()
        self._connect()
        try:
            settings = self._request.settings
            with _quiet(), _starting():
                serve.start(http_options={"host": settings.host, "port": settings.http_port, "location": "EveryNode"})
                self._event("listening", {"host": settings.host, "http_port": settings.http_port})
                serve.run(self._application(serve), name=APPLICATION, route_prefix=ROUTE)
                self._wait_for_proxy()
            self._event("ready", {"models": [served_name(model) for model in self._request.models]})
            yield
        finally:
            with _quiet():
                serve.shutdown()
            self._disconnect()
            self._event("stopped", {"drained": True})

    def _wait_for_proxy(self) -> None:
        """The replicas are up some time before this node's proxy knows of them.  Raises NotAvailable."""
        if (self._plan.address or "").startswith("ray://"):
            return  # from outside the cluster: there is no proxy here
        settings = self._request.settings
        until_s = clock.now() + READY_S
        while not _answers(settings.host, settings.http_port or 0):
            if clock.now() > until_s:
                place = f"{settings.host}:{settings.http_port}"
                raise NotAvailable(f"Ray's proxy on this node does not answer at {place}", remedy="see `serve status`")
            clock.sleep(POLL_S)

    def _application(self, serve: Any) -> Any:
        plan = self._plan
        threads = plan.cpus
        models = tuple(_with_threads(model, threads) for model in self._request.models)
        deployment = serve.deployment(
            Replica,
            name="server",
            ray_actor_options={"num_cpus": plan.cpus},
            max_ongoing_requests=4 * plan.ongoing,
            health_check_period_s=5.0,
            health_check_timeout_s=10.0,
            graceful_shutdown_timeout_s=self._request.settings.drain_s,
            **plan.autoscaling(),
        )
        return deployment.bind(replace(self._request, models=models), sent(models, _ray()[0].put))

    def _connect(self) -> None:
        ray, _ = _ray()
        if ray.is_initialized():
            return
        with _quiet():
            join(self._plan.address)
        self._own_cluster = True

    def _disconnect(self) -> None:
        if self._own_cluster:
            _ray()[0].shutdown()


class Replica:
    """In an actor on some node: a server of its own, and a client that hands it what Ray's proxy got."""

    def __init__(self, request: ServeRequest, files: Mapping[str, Sent]) -> None:
        from assay.job.serve.run import Serve

        ray, _ = _ray()
        self._folder = tempfile.TemporaryDirectory(prefix="assay-replica-")
        folder = Path(self._folder.name)
        places = {text: one.placed(folder / str(i), ray.get) for i, (text, one) in enumerate(files.items())}
        models = tuple(moved(m, places) for m in request.models)
        settings = replace(request.settings, host="127.0.0.1", http_port=0, grpc_port=None, metrics_port=None)
        self._failure: BaseException | None = None
        self._serve = Serve(replace(request, models=models, settings=settings), _nothing)
        self._thread = threading.Thread(target=self._run, name="assay-serve", daemon=True)
        self._thread.start()
        self._wait()
        self._base = f"http://127.0.0.1:{self._serve.server.ports['http_port']}"
        self._client: Any = None

    async def __call__(self, request: Any) -> Any:
        """A Starlette request to the server beside, its answer back."""
        from starlette.responses import Response

        headers = [(k, v) for k, v in request.headers.items() if k not in HOP_BY_HOP and k != "content-length"]
        target = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1")
        query = request.scope.get("query_string", b"").decode("latin-1")
        url = f"{self._base}{target}{'?' + query if query else ''}"
        body = await request.body()
        async with self._session().request(request.method, _exact(url), headers=headers, data=body) as answer:
            content = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in OF_THE_PROXY}
            return Response(content, answer.status, kept)

    def check_health(self) -> None:
        """Ray replaces a replica whose check raises."""
        if self._failure is not None or not self._thread.is_alive():
            raise RuntimeError(f"the server of this replica ended: {self._failure}")

    async def __del__(self) -> None:
        if self._client is not None:
            await self._client.close()
        self._serve.server.stop()
        self._thread.join(5.0)
        self._folder.cleanup()

    def _session(self) -> Any:
        """One client for the actor's event loop; what is compressed stays so."""
        if self._client is None:
            import aiohttp

            self._client = aiohttp.ClientSession(
                auto_decompress=False,
                connector=aiohttp.TCPConnector(limit=0),
                skip_auto_headers=("User-Agent", "Accept-Encoding", "Content-Type"),
            )
        return self._client

    def _run(self) -> None:
        try:
            self._serve.run(signals=False)
        except BaseException as error:
            self._failure = error

    def _wait(self) -> None:
        until_s = clock.now() + READY_S
        while not self._serve.repository.ready:
            if self._failure is not None:
                raise self._failure
            if clock.now() > until_s or not self._thread.is_alive():
                raise RuntimeError("the server of this replica did not become ready")
            clock.sleep(POLL_S)


def _ray() -> tuple[Any, Any]:
    try:
        import ray
        from ray import serve
    except ImportError as error:
        raise NotAvailable(f"Ray Serve cannot be imported ({error})", remedy="pip install 'assay[ray]'") from error
    return ray, serve


def _answers(host: str, port: int) -> bool:
    """Whether a replica answers: the proxy itself says 404 or 5xx."""
    connection = http.client.HTTPConnection(host, port, timeout=5.0)
    try:
        connection.request("GET", "/v2/health/live")
        return connection.getresponse().status in (200, 401, 403)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _refuse(request: ServeRequest) -> None:
    settings = request.settings
    if not request.models:
        raise BadInput(
            "--ray serves the models it is given; --watch is for one machine", remedy="assay serve --ray BUNDLE"
        )
    if settings.http_port is None:
        raise BadInput("Ray Serve's proxy speaks REST: --no-http leaves nothing", remedy="leave --no-http out")
    if settings.access.admin:
        raise BadInput("--admin reaches one replica of many", remedy="start again with another bundle")
    if settings.access.certificate is not None:
        raise BadInput("TLS ends at what stands before Ray's proxy", remedy="leave --tls-cert out")


def _look_at(model: Serving) -> None:
    """Raises, before Ray is asked for anything, what a replica would only find out in its log."""
    if Path(model.source).is_dir():
        for folder in bundles(Path(model.source)).values():
            bundle_asked(model, folder)
    else:
        check_spec(model.source)
    for text in (model.preprocess, model.triton_config):
        if text is not None and files_of(text) is None:
            raise BadInput(f"there is no file {text}")
    files_of(model.source)


def _with_threads(model: Serving, threads: int) -> Serving:
    """An engine takes every core it sees; in a replica it has the plan's."""
    batching = model.batching
    return model if batching.threads is not None else replace(model, batching=replace(batching, threads=threads))


def _exact(url: str) -> Any:
    """The URL as it came, not normalised."""
    from yarl import URL

    return URL(url, encoded=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Ray tells on stdout what happens to its processes."""
    loggers = [logging.getLogger(name) for name in ("ray", "ray.serve")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Ray's own errors as ours."""
    try:
        yield
    except AssayError:
        raise
    except RuntimeError as error:
        raise NotAvailable(
            f"Ray Serve could not start the application: {str(error).strip().splitlines()[-1]}"
        ) from error


def _nothing(event: str, about: Mapping[str, Any]) -> None:
    """A replica's events stay in Ray's own logs."""
