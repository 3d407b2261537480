"""The inference server as HTTP sees it: what is asked is found, read, queued, and answered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qs

import numpy as np

from assay._version import __version__
from assay.core.errors import AssayError
from assay.core.tensors import Array
from assay.serve.classification import ranked
from assay.serve.errors import INVALID, ServeError, serve_error
from assay.serve.http import openapi
from assay.serve.http.access import Gate
from assay.serve.http.administration import Administration
from assay.serve.http.body import inflated
from assay.serve.http.codec import Body, InferCodec, SharedMemory, json_elements
from assay.serve.http.exchange import Exchange
from assay.serve.http.head import Head
from assay.serve.http.message import Answer, empty_answer, json_answer
from assay.serve.http.routes import Route, route
from assay.serve.http.tensors import to_json
from assay.serve.inference import InferRequest, OnDone
from assay.serve.lingering import Linger
from assay.serve.models import ServedModel
from assay.serve.repository import Repository
from assay.serve.settings import ServeSettings

EXTENSIONS = (
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
LONG_JSON = 64 * 1024
"""JSON beyond this many bytes (or values) is read and written beside the event loop, which others wait for."""
MOST_CLASSES = 1000
MOST_FIELDS = 20
Handler = Callable[[Exchange, Route], Answer | None]


def server_metadata(*, memory: bool) -> dict[str, Any]:
    """Name, version and the extensions that are really there."""
    extensions = [e for e in EXTENSIONS if memory or e != "system_shared_memory"]
    return {"name": "assay", "version": __version__, "extensions": extensions}


def _silent(error: BaseException) -> None:
    pass


class Submits(Protocol):
    """What takes inferences: the repository, or a canary around it."""

    def submit(self, request: InferRequest, on_done: OnDone) -> None: ...


@dataclass(frozen=True)
class Surroundings:
    """``executor`` runs what would block the loop; ``memory`` None: no shared memory; ``models`` None: the
    repository takes the inferences itself; ``broken`` is told of errors nobody expected."""

    executor: Executor
    memory: SharedMemory | None = None
    models: Submits | None = None
    broken: Callable[[BaseException], object] = _silent


class InferenceApplication:
    """Made on its event loop."""

    def __init__(self, repository: Repository, settings: ServeSettings, surroundings: Surroundings) -> None:
        self._repository = repository
        self._submits = surroundings.models or repository
        self._executor = surroundings.executor
        self._broken = surroundings.broken
        self._memory = surroundings.memory if settings.access.admin else None
        self._codec = InferCodec(self._memory)
        self._gate = Gate(settings.access, settings.host)
        self._limits = settings.limits
        self._loop = asyncio.get_running_loop()
        self._loops_own = threading.get_ident()
        self._linger = Linger(self._loop)
        self._on_done = self._done_elsewhere
        administration = Administration(repository, self._memory)
        self._handlers: dict[str, Handler] = {
            "server": lambda e, r: json_answer(server_metadata(memory=self._memory is not None)),
            "live": lambda e, r: empty_answer(),
            "ready": lambda e, r: empty_answer(200 if repository.ready else 503),
            "model_ready": self._model_ready,
            "metadata": lambda e, r: json_answer(repository.metadata(r.name, r.version)),
            "config": lambda e, r: json_answer(repository.lookup(r.name, r.version).config()),
            "statistics": lambda e, r: json_answer(repository.statistics(r.name, r.version)),
            "docs": lambda e, r: openapi.page(),
            "openapi": lambda e, r: json_answer(openapi.description(repository)),
            "infer": self._infer,
            "predict": self._predict,
        }
        self._slow = administration.handlers()

    # The listener's side

    def admit(self, head: Head) -> None:
        """Raises ServeError for what need not be read any further."""
        try:
            found = head.route
            if found is None:
                found = head.route = route(head)
            self._gate.check(head, found)
            if found.action in ("infer", "predict"):
                self._repository.lookup(found.name, found.version)
        except ServeError:
            raise
        except Exception as error:
            self._broken(error)
            raise serve_error(error) from error

    def handle(self, exchange: Exchange) -> None:
        head = exchange.head
        try:
            if head.encoding in ("gzip", "deflate"):
                self._aside(exchange, self._inflate)
                return
            self._dispatch(exchange)
        except Exception as error:
            self._failed(exchange, error)

    # Dispatching

    def _dispatch(self, exchange: Exchange) -> None:
        found: Route = exchange.head.route
        handler = self._handlers.get(found.action)
        if handler is not None:
            answer = handler(exchange, found)
            if answer is not None:
                exchange.release()
                exchange.reply(answer)
            return
        slow = self._slow[found.action]
        self._aside(exchange, lambda e: slow(bytes(e.body), found))

    def _failed(self, exchange: Exchange, error: BaseException) -> None:
        exchange.request = None
        if not isinstance(error, AssayError):
            self._broken(error)
        exchange.release()
        exchange.fail(serve_error(error))

    def _aside(self, exchange: Exchange, work: Callable[[Exchange], Any]) -> None:
        """Run ``work`` beside the loop; what it returns is the answer, or a function to go on with on the loop."""

        def run() -> None:
            try:
                found = work(exchange)
            except Exception as error:
                self._call(partial(self._failed, exchange, error))
                return
            self._call(lambda: self._go_on(exchange, found))

        self._executor.submit(run)

    def _go_on(self, exchange: Exchange, found: Any) -> None:
        try:
            if isinstance(found, Answer):
                exchange.release()
                exchange.reply(found)
            else:
                found()
        except Exception as error:
            self._failed(exchange, error)

    def _call(self, function: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def _inflate(self, exchange: Exchange) -> Callable[[], None]:
        content = inflated(exchange.body, exchange.head.encoding, self._limits.inflated)
        # Writable, as what is received uncompressed is: engines copy what they may not write.
        exchange.body = memoryview(bytearray(content))

        def go_on() -> None:
            exchange.hold(len(content))
            self._dispatch(exchange)

        return go_on

    # Inference

    def _infer(self, exchange: Exchange, found: Route) -> None:
        served = self._repository.lookup(found.name, found.version)
        length = exchange.head.json_length
        json_length = len(exchange.body) if length is None else length
        if json_length <= LONG_JSON:
            self._submit(exchange, self._read(exchange, found, served))
            return
        self._aside(exchange, lambda e: self._then_submit(e, self._read(e, found, served)))

    def _read(self, exchange: Exchange, found: Route, served: ServedModel) -> InferRequest:
        body = Body(exchange.body, exchange.head.json_length)
        return self._codec.read((found.name, found.version), body, served, exchange.arrived_s)

    def _then_submit(self, exchange: Exchange, request: InferRequest) -> Callable[[], None]:
        return lambda: self._submit(exchange, request)

    def _submit(self, exchange: Exchange, request: InferRequest) -> None:
        request.context = exchange
        exchange.request = request
        self._submits.submit(request, self._on_done)

    def _done_elsewhere(self, requests: Sequence[InferRequest]) -> None:
        """Once per batch: on an instance thread, or on the loop's own where the batch was a brief one."""
        if threading.get_ident() == self._loops_own:
            self._deliver(requests)
            self._linger.begin()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, requests)

    def _deliver(self, requests: Sequence[InferRequest]) -> None:
        for request in requests:
            exchange: Exchange = request.context
            exchange.request = None
            if request.error is not None:
                exchange.release()
                exchange.fail(request.error)
                continue
            try:
                if json_elements(request) > LONG_JSON:
                    self._aside(exchange, lambda e, r=request: self._write(e, r))  # type: ignore[misc]
                    continue
                answer = self._write(exchange, request)
            except Exception as error:
                self._failed(exchange, error)
                continue
            exchange.release()
            exchange.reply(answer)

    def _write(self, exchange: Exchange, request: InferRequest) -> Answer:
        if exchange.context is not None:
            return _predicted(request, exchange.context)
        return self._codec.write(request)

    def _predict(self, exchange: Exchange, found: Route) -> None:
        served = self._repository.lookup(found.name)
        if not served.takes_pictures:
            raise ServeError(
                INVALID, f"model '{found.name}' has no transform for pictures; send tensors to /v2/models/…/infer"
            )
        if not len(exchange.body):
            raise ServeError(INVALID, "the body must be a picture: curl --data-binary @picture.jpg")
        kind = exchange.head.headers.get("content-type", "")
        if kind.startswith("multipart/"):
            raise ServeError(INVALID, "send the picture itself, not a form: curl --data-binary @picture.jpg")
        encoded = np.empty(1, dtype=object)
        encoded[0] = bytes(exchange.body)
        exchange.free_buffer()
        exchange.context = _asked(exchange.head.query)
        request = InferRequest(found.name, {served.signature.inputs[0].name: encoded}, exchange.arrived_s)
        self._submit(exchange, request)

    def _model_ready(self, exchange: Exchange, found: Route) -> Answer:
        try:
            ready = self._repository.is_ready(found.name, found.version) and not self._repository.closing
        except ServeError:
            ready = False
        return empty_answer(200 if ready else 400)


class Asked:
    """What a predict request wants to see: the ``top`` classes."""

    def __init__(self, top: int) -> None:
        self.top = top


def _asked(query: str) -> Asked:
    try:
        text = parse_qs(query, max_num_fields=MOST_FIELDS).get("top", ["5"])[-1]
    except ValueError:
        raise ServeError(INVALID, f"a query has at most {MOST_FIELDS} fields") from None
    if not (text.isascii() and text.isdigit() and 0 < int(text[:9]) <= MOST_CLASSES):
        raise ServeError(INVALID, f"top must be a number from 1 to {MOST_CLASSES}, not {text[:40]!r}")
    return Asked(int(text))


def _predicted(request: InferRequest, asked: Asked) -> Answer:
    response, served = request.response, request.served
    assert response is not None
    assert served is not None
    head: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    scores = _scores(served, response.outputs)
    if scores is not None:
        return json_answer({**head, "predictions": ranked(scores, asked.top, served.parts.labels)})
    outputs = [
        {"name": name, "shape": list(array.shape), "data": to_json(array, name)}
        for name, array in response.outputs.items()
    ]
    return json_answer({**head, "outputs": outputs})


def _scores(served: ServedModel, outputs: Any) -> Array | None:
    """The row of class scores, where the model has one output of shape (rows, classes)."""
    specs = served.signature.outputs
    if len(specs) != 1 or len(specs[0].shape) != 2 or specs[0].batch_axis != 0 or "float" not in specs[0].dtype:
        return None
    found: Array = outputs[specs[0].name][0]
    return found
