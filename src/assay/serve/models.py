"""ServedModel: one version of one model, with its queue, its decoder and its statistics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from assay.core import clock
from assay.core.errors import BadInput
from assay.core.tensors import Array, Feed, Signature
from assay.core.units import Seconds
from assay.serve import description
from assay.serve.classification import classified
from assay.serve.decoding import DecodePool
from assay.serve.errors import CANCELLED, INVALID, UNAVAILABLE, ServeError, serve_error
from assay.serve.inference import Cancellable, InferRequest, InferResponse, OnDone
from assay.serve.statistics import BatchDone, ModelStatistics


class Finished(Protocol):
    """What a queue hands back (``batching.request.Request``).  ``context`` is the InferRequest."""

    context: Any
    outputs: dict[str, Array] | None
    error: Any
    enqueued_s: Seconds
    started_s: Seconds
    batch_rows: int
    spans: tuple[Seconds, Seconds, Seconds] | None


class Queue(Protocol):
    """What merges requests (``batching.batcher.DynamicBatcher``): never blocks, calls back once per batch."""

    @property
    def statistics(self) -> Any: ...

    def submit(
        self,
        feed: Feed,
        on_done: Callable[[Sequence[Any]], object],
        *,
        priority: int = 0,
        deadline_s: Seconds | None = None,
        context: Any = None,
    ) -> Cancellable: ...

    def close(self, drain_s: Seconds = 30.0) -> bool: ...


@dataclass(frozen=True)
class ModelParts:
    """Everything a version is made of; the rim makes it.

    * ``signature`` — what callers see (free batch); ``max_batch`` — the largest request in rows.
    * ``decode`` — one encoded picture -> one row of the only input, without batch axis; may raise BadInput.
    * ``release`` — closes the session, called after the queue is closed.
    * ``batching``, ``parameters``, ``platform``, ``backend``, ``instances`` — for the configuration.
    * ``key`` — changes when the files do.
    """

    name: str
    version: str
    signature: Signature
    queue: Queue
    release: Callable[[], None]
    max_batch: int = 1
    priority_levels: int = 1
    instances: int = 1
    instance_kind: str = "KIND_CPU"
    platform: str = ""
    backend: str = ""
    labels: tuple[str, ...] | None = None
    decode: Callable[[bytes], Array] | None = None
    batching: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    key: str = ""


class Retired(Exception):
    """This version takes no more requests: another one took its place."""


class _Decoding:
    """One request's pictures on their way; ``left`` of them are not decoded yet."""

    __slots__ = ("encoded", "error", "left", "request", "rows")

    def __init__(self, request: InferRequest, encoded: list[bytes]) -> None:
        self.request = request
        self.encoded = encoded
        self.rows: list[Any] = [None] * len(encoded)
        self.left = len(encoded)
        self.error: ServeError | None = None


class ServedModel:
    """Any thread may call anything.  ``submit`` never blocks."""

    def __init__(self, parts: ModelParts, pool: DecodePool | None = None) -> None:
        self.parts = parts
        self.name = parts.name
        self.version = parts.version
        self.signature = parts.signature
        self.statistics = ModelStatistics(parts.name, parts.version)
        self.ready = True
        self._pool = pool
        self._done = self._finished
        """Bound once: a queue calls equal callables once per batch, and a fresh bound method is not the same one."""
        self._output_names = parts.signature.output_names
        self._known_outputs = frozenset(self._output_names)
        self._picture = self._picture_input()
        self._lock = threading.Lock()
        self._decoding = 0
        self._idle = threading.Condition(self._lock)

    def metadata(self, versions: Sequence[str] = ()) -> dict[str, Any]:
        return description.metadata(self.parts, versions or (self.version,))

    def config(self) -> dict[str, Any]:
        return description.configuration(self.parts)

    @property
    def pending(self) -> int:
        """Requests that wait: for their pictures to be decoded or in the queue."""
        return int(self.parts.queue.statistics.pending) + self._decoding

    @property
    def takes_pictures(self) -> bool:
        return self._picture is not None

    def submit(self, request: InferRequest, on_done: OnDone) -> None:
        """Queue ``request`` and return.  ``on_done`` is called once per batch with finished requests.

        Raises ServeError (then ``on_done`` is not called for it), or Retired.
        """
        request.on_done = on_done
        request.served = self
        if request.outputs:
            self._check_outputs(request)
        picture = self._picture
        if picture is not None:
            encoded = request.inputs.get(picture)
            if encoded is not None and encoded.dtype == object and len(request.inputs) == 1:
                self._start_decoding(request, encoded)
                return
        self._queue(request, request.inputs)

    def close(self, drain_s: Seconds = 30.0) -> bool:
        """Take no more, finish what was taken, release the session.  Whether everything was finished in time."""
        self.ready = False
        until_s = clock.now() + drain_s
        with self._idle:
            drained = self._idle.wait_for(lambda: self._decoding == 0, timeout=drain_s)
        finished = self.parts.queue.close(max(0.0, until_s - clock.now()))
        if finished:
            self.parts.release()
        return finished and drained

    def _picture_input(self) -> str | None:
        inputs = self.signature.inputs
        if self.parts.decode is None or self._pool is None or len(inputs) != 1 or inputs[0].dtype == "string":
            return None
        return inputs[0].name

    def _check_outputs(self, request: InferRequest) -> None:
        for output in request.outputs:
            if output.name not in self._known_outputs:
                raise ServeError(
                    INVALID,
                    f"unexpected inference output '{output.name}' for model '{self.name}'; "
                    f"it has: {', '.join(self._output_names)}",
                )

    def _queue(self, request: InferRequest, feed: Feed) -> None:
        priority = request.priority if request.priority <= self.parts.priority_levels else 0
        deadline_s = request.deadline_s
        if request.timeout_us:
            late_s = request.arrived_s + 1e-6 * request.timeout_us
            deadline_s = late_s if deadline_s is None else min(deadline_s, late_s)
        try:
            handle = self.parts.queue.submit(
                feed, self._done, priority=priority, deadline_s=deadline_s, context=request
            )
        except Exception as error:
            # Not bound to a name here: an error that its own traceback's frame refers to keeps the request's arrays.
            raise self._refused(request, error) from error
        if request.response is None and request.error is None:
            request.handle = handle  # a brief batch is over already: request and handle would keep each other's arrays
        if request.cancelled:
            request.cancel()

    def _refused(self, request: InferRequest, error: Exception) -> Exception:
        """What a queue's refusal is answered with, counted; Retired where the next version is to be asked."""
        found = serve_error(error)
        if found.reason == "closed":
            return Retired()
        self._count_failure(request, found)
        return found

    def _count_failure(self, request: InferRequest, error: ServeError) -> None:
        self.statistics.failed(error.kind.reason, clock.now() - request.arrived_s, error.reason)

    # Pictures

    def _start_decoding(self, request: InferRequest, encoded: Array) -> None:
        assert self._pool is not None
        if encoded.ndim > 2 or (encoded.ndim == 2 and encoded.shape[1] != 1) or encoded.size == 0:
            raise ServeError(INVALID, f"encoded pictures come as a BYTES tensor of shape [n], not {encoded.shape}")
        if encoded.size > self.parts.max_batch:
            raise ServeError(
                INVALID, f"{encoded.size} pictures in one request; model '{self.name}' takes {self.parts.max_batch}"
            )
        with self._lock:
            if not self.ready:
                raise Retired
            self._decoding += 1
        work = _Decoding(request, list(encoded.ravel()))
        try:
            for index in range(len(work.rows)):
                self._pool.submit(partial(self._decode, work, index))
        except ServeError as error:
            self._overrun(work, index, error)

    def _overrun(self, work: _Decoding, begun: int, error: ServeError) -> None:
        """The pool took the first ``begun`` pictures and no more: the last of them ends the request."""
        with self._lock:
            work.error = work.error or error
            work.left -= len(work.rows) - begun
            last = work.left == 0
        if last:
            self._decoded()
            self._count_failure(work.request, error)
            raise error

    def _decode(self, work: _Decoding, index: int) -> None:
        """On a decode thread: the last picture's way out ends in the queue or in ``on_done``."""
        assert self.parts.decode is not None
        found: Any = None
        error: ServeError | None = None
        if work.error is None and not work.request.cancelled:
            try:
                found = self.parts.decode(work.encoded[index])
            except Exception as failure:
                error = serve_error(failure)
        with self._lock:
            work.rows[index] = found
            work.error = work.error or error
            work.left -= 1
            last = work.left == 0
        if last:
            self._queue_decoded(work)

    def _queue_decoded(self, work: _Decoding) -> None:
        request, error = work.request, work.error
        if error is None and request.cancelled:
            error = ServeError(CANCELLED, "the caller is gone", reason="cancelled")
        counted = False
        if error is None:
            try:
                self._queue(request, {self._picture or "": self._stacked(work.rows)})
            except Retired:
                error = ServeError(UNAVAILABLE, f"model '{self.name}' was unloaded")
            except Exception as failure:
                error, counted = serve_error(failure), isinstance(failure, ServeError)
        self._decoded()
        if error is not None:
            if not counted:
                self._count_failure(request, error)
            request.error = error
            request.on_done([request])

    def _stacked(self, rows: Sequence[Array]) -> Array:
        (spec,) = self.signature.inputs
        axis = spec.batch_axis
        if axis is None:
            if len(rows) != 1:
                raise BadInput(f"model '{self.name}' takes one picture at a time")
            return rows[0]
        return rows[0][(slice(None),) * axis + (None,)] if len(rows) == 1 else np.stack(rows, axis)

    def _decoded(self) -> None:
        with self._idle:
            self._decoding -= 1
            if not self._decoding:
                self._idle.notify_all()

    # Answers

    def _finished(self, batch: Sequence[Finished]) -> None:
        """On an instance thread, once per batch: make responses, count, tell the front ends."""
        queued: list[Seconds] = []
        total: list[Seconds] = []
        now_s = clock.now()
        done: list[InferRequest] = []
        for ended in batch:
            request: InferRequest = ended.context
            if ended.error is not None:
                request.error = serve_error(ended.error)
            else:
                try:
                    request.response = self._response(request, ended.outputs or {})
                    queued.append(ended.started_s - ended.enqueued_s)
                    total.append(now_s - request.arrived_s)
                except Exception as error:
                    request.error = serve_error(error)
            if request.error is not None:
                self._count_failure(request, request.error)
            request.handle = None
            done.append(request)
        if total:
            first = next(e for e in batch if e.error is None)
            spans = first.spans or (0.0, 0.0, 0.0)
            self.statistics.batch(BatchDone(first.batch_rows, spans, queued, total), _wall_ms())
        _tell(done)

    def _response(self, request: InferRequest, outputs: Mapping[str, Array]) -> InferResponse:
        if request.outputs:
            outputs = {o.name: self._wanted(o.parameters, o.name, outputs[o.name]) for o in request.outputs}
        return InferResponse(self.name, self.version, request.id, outputs)

    def _wanted(self, parameters: Mapping[str, Any], name: str, array: Array) -> Array:
        if "classification" not in parameters:
            return array
        batched = self.signature.output(name).batch_axis == 0
        return classified(array, parameters["classification"], self.parts.labels, batched=batched)


def _tell(done: Sequence[InferRequest]) -> None:
    first = done[0].on_done
    if all(request.on_done is first for request in done):
        first(done)
        return
    groups: dict[OnDone, list[InferRequest]] = {}
    for request in done:
        groups.setdefault(request.on_done, []).append(request)
    for on_done, requests in groups.items():
        on_done(requests)


def _wall_ms() -> int:
    return int(1e3 * clock.current().wall().timestamp())
