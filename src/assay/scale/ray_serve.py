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
import io
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from assay.core import clock
from assay.core.errors import AssayError, BadInput, NotAvailable
from assay.core.units import Seconds
from assay.job.serve.loading import Models, served_name
from assay.job.serve.options import ServeRequest, Serving
from assay.job.serve.run import shadow_rules
from assay.scale.ray_asked import look_at
from assay.scale.ray_cluster import gone, join, refuse_unreachable
from assay.scale.ray_files import sent
from assay.scale.ray_replica import POLL_S, READY_S, Replica, failure_in

APPLICATION, DEPLOYMENT, ROUTE = "assay", "server", "/"
CALM_S: Seconds = 30.0
"""How long the load must be low before replicas are taken away."""
ENDING_S: Seconds = 30.0
"""For Ray Serve itself to end, once what was begun is answered."""
WAIT_LOOP_S: Seconds = 0.1
"""How often a replica that is to end looks whether it still answers; an idle one waits out Ray's own 2 s too."""
WATCH_S: Seconds = 0.25


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
            look_at(model)
        shadow_rules(request, Models(request, event))
        self._request, self._plan, self._event = request, plan, event
        self._stopping = threading.Event()
        self._own_cluster = False
        self._head: str | None = None
        self._drained = False

    def run(self) -> bool:
        """Serve until ``stop``, SIGTERM or SIGINT; whether all that was begun was answered.

        Raises NotAvailable without Ray or without its cluster, and what keeps a replica from serving.
        """
        with self.serving():
            # Only now: Ray puts its own handlers in place when it connects.
            before = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
            try:
                self._stopping.wait()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        return self._drained

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
            with _quiet(), _starting(serve):
                serve.start(http_options={"host": settings.host, "port": settings.http_port, "location": "EveryNode"})
                self._event("listening", {"host": settings.host, "http_port": settings.http_port})
                before = replaced(serve.status().applications)
                if before is not None:
                    self._event("warning", {"message": before})
                serve.run(self._application(serve), name=APPLICATION, route_prefix=ROUTE)
                self._wait_for_proxy()
            self._event("ready", {"models": [served_name(model) for model in self._request.models]})
            yield
        finally:
            # What Ray prints here is of its own actors, which end as they are meant to.
            with _quiet(), contextlib.redirect_stdout(io.StringIO()):
                self._wait_for_the_end(serve)
                self._disconnect()
            self._event("stopped", {"drained": self._drained})

    def _wait_for_the_end(self, serve: Any) -> None:
        """In a thread, since Ray's calls go on asking a cluster that was ended from outside for half a minute: whoever
        signals a whole process group (``timeout`` does) ends a cluster of our own with us."""
        until_s = clock.now() + self._request.settings.drain_s + ENDING_S
        ending = threading.Thread(target=self._end, args=(serve,), name="assay-ray-ending", daemon=True)
        ending.start()
        while ending.is_alive() and clock.now() < until_s and not gone(self._head):
            ending.join(WATCH_S)

    def _end(self, serve: Any) -> None:
        """Replicas finish what they have while the proxies still stand, then Serve is ended unless others use it.

        ``serve.shutdown`` alone ends the proxies first, and with them every request under way.
        """
        ray, _ = _ray()
        began_s = clock.now()
        with contextlib.suppress(ray.exceptions.RayError, serve.exceptions.RayServeException):
            serve.delete(APPLICATION, _blocking=False)  # blocking, it looks once a second, and for a minute at most
            while APPLICATION in serve.status().applications:
                clock.sleep(POLL_S)
            self._drained = clock.now() - began_s < self._request.settings.drain_s
            if not serve.status().applications:
                serve.shutdown()

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
            name=DEPLOYMENT,
            ray_actor_options={"num_cpus": plan.cpus},
            max_ongoing_requests=4 * plan.ongoing,
            health_check_period_s=5.0,
            health_check_timeout_s=10.0,
            graceful_shutdown_timeout_s=self._request.settings.drain_s,
            graceful_shutdown_wait_loop_s=WAIT_LOOP_S,
            **plan.autoscaling(),
        )
        return deployment.bind(replace(self._request, models=models), sent(models, _ray()[0].put))

    def _connect(self) -> None:
        ray, _ = _ray()
        if not ray.is_initialized():
            with _quiet():
                join(self._plan.address)
            self._own_cluster = True
        address = self._plan.address or ""
        self._head = address if address.startswith("ray://") else ray.get_runtime_context().gcs_address

    def _disconnect(self) -> None:
        if self._own_cluster:
            _ray()[0].shutdown()


def replaced(applications: Mapping[str, Any]) -> str | None:
    """Which of a cluster's ``applications`` (``serve.status()``'s, by name) ours takes the place of; None for none.

    It must: after a kill -9 nobody else ends what was left.
    """
    found = applications.get(APPLICATION)
    if found is None:
        return None
    since = datetime.fromtimestamp(found.last_deployed_time_s, UTC).isoformat(timespec="seconds")
    return (
        f"replaces the models of the application {APPLICATION!r}, which this cluster has served since {since}; where "
        "another assay serve --ray still runs there, its end will end this one: --ray local --http-port PORT is a "
        "cluster of its own"
    )


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


def _with_threads(model: Serving, threads: int) -> Serving:
    """An engine takes every core it sees; in a replica it has the plan's."""
    batching = model.batching
    return model if batching.threads is not None else replace(model, batching=replace(batching, threads=threads))


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
def _starting(serve: Any) -> Iterator[None]:
    """Ray's own errors as ours."""
    ray, _ = _ray()
    try:
        yield
    except AssayError:
        raise
    except (RuntimeError, ray.exceptions.RayError) as error:
        # With a RayError Serve itself has ended, and there is nobody to ask.
        cause = _cause(serve) if isinstance(error, RuntimeError) else None
        raise cause or NotAvailable(
            f"Ray Serve could not start the application: {str(error).strip().splitlines()[-1]}"
        ) from error


def _cause(serve: Any) -> AssayError | None:
    """Why no replica could be started; Ray's error only says that none could, its status what the last one raised."""
    application = serve.status().applications.get(APPLICATION)
    deployment = None if application is None else application.deployments.get(DEPLOYMENT)
    return failure_in(deployment.message) if deployment is not None and deployment.message else None
