"""ModelInfer and ModelStreamInfer: messages into requests for the repository, and answers back.

An answer is written on the event loop; the instance threads hand over whole batches
(``call_soon_threadsafe`` once per batch).
"""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from assay.core import clock
from assay.core.units import Bytes, Seconds
from assay.serve.dtypes import wire_datatype
from assay.serve.errors import INVALID, TOO_LARGE, ServeError, serve_error
from assay.serve.grpc import tensors, wire
from assay.serve.grpc.calls import Served
from assay.serve.grpc.connection import Connection
from assay.serve.grpc.head import Head
from assay.serve.grpc.message import OutputHead, RequestReader, ResponseHead, ResponseWriter, WireRequest
from assay.serve.grpc.status import ENCODINGS, GrpcError
from assay.serve.grpc.stream import Incoming, MessageMemory, Stream
from assay.serve.grpc.wire import Buffer, MalformedMessage
from assay.serve.http.asked import REGION
from assay.serve.http.codec import raw_bytes
from assay.serve.inference import InferRequest, OnDone, RequestedOutput
from assay.serve.lingering import Linger

FINAL = "triton_final_response"
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class Models(Protocol):
    """What takes requests: ``Repository``, or a canary around it."""

    def submit(self, request: InferRequest, on_done: OnDone) -> None: ...


@dataclass(frozen=True)
class Beside:
    """``executor`` runs what would block the loop; ``inflated`` is the most a compressed message may become;
    ``broken`` is told of errors nobody expected."""

    executor: Executor
    inflated: Bytes
    broken: Callable[[BaseException], None]


class InferPath:
    """Shared by all calls of one server; used on its event loop, but for ``_elsewhere``."""

    def __init__(self, models: Models, served: Served, messages: MessageMemory, beside: Beside) -> None:
        self._models = models
        self._lookup = served.repository.lookup
        self._memory = served.memory
        self._messages = messages
        self._beside = beside
        self._loop = asyncio.get_running_loop()
        self._loops_own = threading.get_ident()
        self._linger = Linger(self._loop)
        self._reader = RequestReader()
        self._writer = ResponseWriter()
        self._on_done = self._elsewhere
        self._now = clock.current().now

    def start(self, asked: Asked, message: Incoming, deadline_s: Seconds | None) -> None:
        """Read a message and queue it; ``asked.call.answered`` follows.

        Raises ServeError or GrpcError; then nothing follows.  A compressed message is inflated beside the loop.
        """
        if not message.compressed:
            self._queue(asked, message.data, deadline_s)
            return
        encoding, most = asked.call.encoding, self._beside.inflated

        def run() -> None:
            try:
                data = inflated(message.data, encoding, most)
            except (GrpcError, ServeError) as error:
                asked.error = error
                self._soon(self._ended, asked)
            else:
                self._soon(self._go_on, asked, data, deadline_s)

        self._beside.executor.submit(run)

    def release(self, asked: Asked) -> None:
        """Nobody looks at the message's bytes any more."""
        lease, asked.lease = asked.lease, None
        if lease is not None:
            self._messages.give(lease)
        self._messages.held.used -= asked.inflated
        asked.inflated = 0

    def response(self, request: InferRequest, parameters: Mapping[str, Any]) -> tuple[list[Buffer], int]:
        """The ModelInferResponse of a request that succeeded, with ``parameters``.  Raises ServeError."""
        response = request.response
        assert response is not None
        asked = {output.name: output.parameters for output in request.outputs if output.parameters}
        heads: list[OutputHead] = []
        raw: list[Buffer] = []
        for name, array in response.outputs.items():
            data = raw_bytes(array)
            wanted = asked.get(name)
            placed: Mapping[str, Any] = {}
            if wanted is not None and REGION in wanted:
                placed = tensors.into_region(data, wanted, self._memory, name)
                data = b""
            heads.append(OutputHead(name, wire_datatype(array), array.shape, placed))
            raw.append(data)
        head = ResponseHead(response.model, response.version, response.id, parameters)
        return self._writer.write(head, heads, raw)

    def _queue(self, asked: Asked, data: memoryview, deadline_s: Seconds | None) -> None:
        try:
            try:
                read = self._reader.read(data)
            except MalformedMessage as error:
                raise GrpcError("INTERNAL", f"the request cannot be read: {error}") from None
            asked.id = read.id
            request = self._request(read)
            request.deadline_s = deadline_s
            request.context = asked
            asked.request = request
            self._models.submit(request, self._on_done)
        except BaseException:
            self.release(asked)
            raise

    def _go_on(self, asked: Asked, data: memoryview, deadline_s: Seconds | None) -> None:
        try:
            if asked.gone:
                raise GrpcError("CANCELLED", "the caller is gone")
            self.release(asked)
            self._messages.held.add(len(data))
            asked.inflated = len(data)
            self._queue(asked, data, deadline_s)
        except Exception as error:
            asked.error = error if isinstance(error, GrpcError) else serve_error(error)
            self._ended(asked)

    def _ended(self, asked: Asked) -> None:
        self.release(asked)
        try:
            asked.call.answered(asked)
        except Exception as error:
            self._beside.broken(error)

    def _soon(self, function: Callable[..., object], *arguments: Any) -> None:
        if threading.get_ident() == self._loops_own:
            self._loop.call_soon(function, *arguments)
            self._linger.begin()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _request(self, read: WireRequest) -> InferRequest:
        self._lookup(read.model_name, read.model_version)  # an unknown model is told before a wrong tensor
        request = InferRequest(read.model_name, tensors.read_inputs(read.inputs, read.raw, self._memory), self._now())
        request.version = read.model_version
        request.id = read.id
        if read.parameters:
            request.parameters = read.parameters
            request.priority = _natural(read.parameters, "priority")
            request.timeout_us = _natural(read.parameters, "timeout")
        if read.outputs:
            request.outputs = [RequestedOutput(o.name, o.parameters) for o in read.outputs]
            for output in request.outputs:
                if REGION in output.parameters:
                    if "classification" in output.parameters:
                        raise ServeError(INVALID, "shared memory can't be requested for a classification output")
                    tensors.region(output.parameters, self._memory, output.name)
        return request

    def _elsewhere(self, requests: Sequence[InferRequest]) -> None:
        """On an instance thread, once per batch."""
        self._soon(self._deliver, requests)

    def _deliver(self, requests: Sequence[InferRequest]) -> None:
        for request in requests:
            self._ended(request.context)


def inflated(data: memoryview, encoding: str, most: Bytes) -> memoryview:
    """A compressed message's content, writable.  Raises GrpcError, or ServeError beyond ``most`` bytes."""
    if encoding not in _WINDOW_BITS:
        raise GrpcError("INTERNAL", f"a compressed message, but its encoding is {encoding[:40]!r}")
    inflater = zlib.decompressobj(_WINDOW_BITS[encoding])
    try:
        content = inflater.decompress(data, most + 1)
    except zlib.error:
        raise GrpcError("INTERNAL", f"a message that is not valid {encoding}") from None
    if len(content) > most:
        raise ServeError(TOO_LARGE, f"a message of more than {most} bytes when inflated")
    if not inflater.eof:
        raise GrpcError("INTERNAL", f"a {encoding} message that ends too soon")
    return memoryview(bytearray(content))


def _natural(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ServeError(INVALID, f"invalid value for the parameter '{name}': a whole number of at least 0 is expected")
    return value


class Asked:
    """One request, the buffer its tensors lie in, and what became of it: a response, or an error.

    ``begun``: the connection's gate counts it.  ``message``: what it will begin with.  ``inflated``: bytes counted
    for its inflated message.
    """

    __slots__ = ("begun", "call", "error", "gone", "id", "inflated", "lease", "message", "request")

    def __init__(self, call: InferCall, lease: Any) -> None:
        self.call = call
        self.lease = lease
        self.request: InferRequest | None = None
        self.error: ServeError | GrpcError | None = None
        self.id = ""
        self.gone = self.begun = False
        self.message: Incoming | None = None
        self.inflated: Bytes = 0

    def cancel(self) -> None:
        self.gone = True
        if self.request is not None and not self.done:
            self.request.cancel()

    @property
    def done(self) -> bool:
        request = self.request
        return self.error is not None or (
            request is not None and (request.response is not None or request.error is not None)
        )

    def result(self) -> InferRequest:
        """The request with its response.  Raises its ServeError or GrpcError."""
        request = self.request
        error = self.error or (None if request is None else request.error)
        if error is not None:
            raise error
        assert request is not None
        return request


class InferCall:
    """Base of both calls."""

    limited = False

    def __init__(self, path: InferPath, connection: Connection, stream: Stream, head: Head) -> None:
        if head.encoding not in ENCODINGS:
            raise GrpcError("UNIMPLEMENTED", f"encoding {head.encoding[:40]!r}; known: {', '.join(ENCODINGS)}")
        self.path = path
        self.connection = connection
        self.stream = stream
        self.encoding = head.encoding
        self.deadline_s = None if head.timeout_s is None else stream.began_s + head.timeout_s

    def answered(self, asked: Asked) -> None:
        """On the event loop: ``asked.request`` has its response or its error."""
        raise NotImplementedError


class UnaryInfer(InferCall):
    """ModelInfer: one message in, one out."""

    limited = True
    _message: Incoming | None = None
    _asked: Asked | None = None

    def message(self, message: Incoming) -> None:
        if self._message is not None:
            self._give(message)
            raise GrpcError("INTERNAL", "a unary call has one message")
        self._message = message

    def half_closed(self) -> None:
        if self._message is None:
            raise GrpcError("INTERNAL", "a unary call has one message; this one had none")
        self.connection.gate.enter(self.stream, self._begin)

    def _begin(self) -> None:
        message, self._message = self._message, None
        assert message is not None
        self._asked = asked = Asked(self, message.lease)
        self.path.start(asked, message, self.deadline_s)

    def cancelled(self) -> None:
        message, self._message = self._message, None
        if message is not None:
            self._give(message)
        if self._asked is not None:
            self._asked.cancel()

    def answered(self, asked: Asked) -> None:
        size: Bytes | None = None
        try:
            parts, size = self.path.response(asked.result(), {})
        except GrpcError as error:
            self.connection.end(self.stream, error)
        except Exception as error:
            self.connection.end(self.stream, serve_error(error))
        else:
            self.connection.reply(self.stream, parts, size)
        finally:
            asked.request = None  # what waits to be sent holds its own part of the answer
            self.connection.gate.left(size)

    def _give(self, message: Incoming) -> None:
        self.path.release(Asked(self, message.lease))


class StreamInfer(InferCall):
    """ModelStreamInfer: any number of messages; answers in the order of the questions, errors as answers."""

    def __init__(self, path: InferPath, connection: Connection, stream: Stream, head: Head) -> None:
        super().__init__(path, connection, stream, head)
        stream.streaming = True
        self._asked: deque[Asked] = deque()
        self._closed = self._gone = False

    def message(self, message: Incoming) -> None:
        asked = Asked(self, message.lease)
        asked.message = message
        self._asked.append(asked)
        self.connection.gate.enter(self.stream, partial(self._begin, asked))

    def _begin(self, asked: Asked) -> None:
        message, asked.message = asked.message, None
        assert message is not None
        asked.begun = True
        try:
            self.path.start(asked, message, self.deadline_s)
        except ServeError as error:
            asked.error = error
            self._send_ready()
        except BaseException:
            asked.begun = False
            raise

    def half_closed(self) -> None:
        self._closed = True
        self._send_ready()

    def cancelled(self) -> None:
        self._gone = True
        left, self._asked = self._asked, deque()
        for asked in left:
            asked.cancel()
            if asked.message is not None:  # it never began
                asked.message = None
                self.path.release(asked)
            elif asked.done:
                self._leave(asked, None)

    def answered(self, asked: Asked) -> None:
        if self._gone:
            self._leave(asked, None)
        else:
            self._send_ready()

    def _leave(self, asked: Asked, size: Bytes | None) -> None:
        asked.request = None
        if asked.begun:
            asked.begun = False
            self.connection.gate.left(size)

    def _send_ready(self) -> None:
        while self._asked and self._asked[0].done and not self._gone:
            asked = self._asked.popleft()
            parts, size = self._written(asked)
            self.connection.send(self.stream, parts, size)
            failed = asked.error or asked.request is None or asked.request.error
            self._leave(asked, None if failed else size)
        if self._closed and not self._asked and not self._gone:
            self.connection.end(self.stream)

    def _written(self, asked: Asked) -> tuple[list[Buffer], int]:
        """A ModelStreamInferResponse."""
        try:
            parts, size = self.path.response(asked.result(), {FINAL: True})
        except GrpcError as error:
            text = error.message
        except Exception as error:
            text = serve_error(error).message
        else:
            mark = b"\x12" + wire.put_varint(size)
            return [mark, *parts], len(mark) + size
        content = wire.put_text(1, text or "unknown error") + wire.put_bytes(2, wire.put_text(3, asked.id))
        return [content], len(content)
