"""One replica of ``assay serve --ray``, and how it tells why it cannot serve."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.core import checked, clock
from assay.core.errors import EXIT_BAD_INPUT, AssayError, BadInput, NotAvailable
from assay.core.units import Seconds
from assay.job.serve.options import ServeRequest
from assay.scale.ray_files import Sent, moved

READY_S: Seconds = 120.0
POLL_S: Seconds = 0.05
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer", "host"})
"""RFC 9110 §7.6.1: these concern one connection; the length is said anew."""
OF_THE_PROXY = HOP_BY_HOP | {"x-request-id", "date", "server"}
"""What Ray's proxy puts on an answer itself; the request id is the one it sent."""


class CannotServe(RuntimeError):
    """An AssayError on its way: of what a replica raises, Ray hands on the traceback's text alone."""

    @classmethod
    def because(cls, error: AssayError, given: Mapping[str, str]) -> CannotServe:
        """``given`` is, by the place of a file here, what its user calls it."""

        def as_given(text: str) -> str:
            for place in sorted(given, key=len, reverse=True):
                text = text.replace(place, given[place])
            return text

        remedy = None if error.remedy is None else as_given(error.remedy)
        return cls(json.dumps({"message": as_given(error.message), "remedy": remedy, "exit_code": error.exit_code}))


def failure_in(traceback: str) -> AssayError | None:
    """What a replica raised, from the text of its traceback: BadInput where it was that, else NotAvailable.

    None for no text.
    """
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    if not lines:
        return None
    _, told, content = lines[-1].partition(f"{CannotServe.__name__}: ")
    try:
        found = checked.loads(content) if told else None
        kind = BadInput if found and found["exit_code"] == EXIT_BAD_INPUT else NotAvailable
        message, remedy = (found["message"], found["remedy"]) if found else (lines[-1], None)
    except (ValueError, KeyError, TypeError):
        return NotAvailable(f"a replica cannot serve: {lines[-1]}")
    return kind(f"a replica cannot serve: {message}", remedy=remedy)


class Replica:
    """In an actor on some node: a server of its own, and a client that hands it what Ray's proxy got."""

    def __init__(self, request: ServeRequest, files: Mapping[str, Sent]) -> None:
        import ray

        self._folder = tempfile.TemporaryDirectory(prefix="assay-replica-")
        folder = Path(self._folder.name)
        places = {text: one.placed(folder / str(i), ray.get) for i, (text, one) in enumerate(files.items())}
        try:
            self._open(replace(request, models=tuple(moved(m, places) for m in request.models)))
        except AssayError as error:
            raise CannotServe.because(error, {there: given for given, there in places.items()}) from None

    def _open(self, request: ServeRequest) -> None:
        from assay.job.serve.run import Serve

        settings = replace(request.settings, host="127.0.0.1", http_port=0, grpc_port=None, metrics_port=None)
        self._failure: BaseException | None = None
        self._serve = Serve(replace(request, settings=settings), _nothing)
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


def _exact(url: str) -> Any:
    """The URL as it came, not normalised."""
    from yarl import URL

    return URL(url, encoded=True)


def _nothing(event: str, about: Mapping[str, Any]) -> None:
    """A replica's events stay in Ray's own logs."""
