"""One request of a connection and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from assay.core.units import Bytes, Seconds
from assay.serve.errors import ServeError
from assay.serve.http.message import Answer, error_answer

if TYPE_CHECKING:
    from assay.serve.http.buffers import Buffer, Held
    from assay.serve.http.head import Head
    from assay.serve.inference import InferRequest


class Answered(Protocol):
    def flush(self) -> None: ...


class Exchange:
    """``body`` may be looked at until ``release``.  Answers leave in the order of requests; only the first counts."""

    __slots__ = ("answer", "arrived_s", "body", "buffer", "connection", "context", "head", "held", "memory", "request")

    def __init__(self, connection: Answered, head: Head, arrived_s: Seconds, memory: Held) -> None:
        self.connection = connection
        self.memory = memory
        self.held: Bytes = 0
        self.head = head
        self.arrived_s = arrived_s
        self.body: memoryview | bytes = b""
        self.buffer: Buffer | None = None
        self.answer: Answer | None = None
        self.request: InferRequest | None = None
        self.context: Any = None

    @property
    def request_id(self) -> str:
        return self.head.headers.get("x-request-id", "")[:128]

    def reply(self, answer: Answer) -> None:
        if self.answer is None:
            self.answer = answer
            self.connection.flush()

    def fail(self, error: ServeError) -> None:
        self.reply(error_answer(error))

    def hold(self, count: Bytes) -> None:
        """So many bytes more belong to the body until ``release``.  Raises ServeError where all are too many."""
        self.memory.add(count)
        self.held += count

    def release(self) -> None:
        """The body is not needed any more."""
        self.memory.used -= self.held
        self.held = 0
        self.free_buffer()

    def free_buffer(self) -> None:
        """The body was copied: its buffer serves the next request."""
        self.body = b""
        if self.buffer is not None:
            self.buffer.release()
            self.buffer = None

    def abandon(self) -> None:
        """Nobody waits for the answer."""
        if self.request is not None:
            self.request.cancel()


class Application(Protocol):
    """What a listener serves.  Both are called on the event loop and must not block."""

    def admit(self, head: Head) -> None:
        """Called before the body is read.  Raises ServeError to refuse the request."""
        ...

    def handle(self, exchange: Exchange) -> None:
        """The request is complete.  It calls ``reply`` or ``fail``, and ``release``, now or later; never raises."""
        ...
