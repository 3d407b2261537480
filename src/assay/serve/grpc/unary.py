"""UnaryCall: any method of the table, through protobuf."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from assay.serve.errors import serve_error
from assay.serve.grpc.calls import Method, Served
from assay.serve.grpc.connection import Connection
from assay.serve.grpc.infer import Beside, inflated
from assay.serve.grpc.status import GrpcError
from assay.serve.grpc.stream import Incoming, MessageMemory, Stream

MOST_BYTES = 1 << 20
"""None of these messages has a reason to be larger."""


class UnaryCall:
    limited = False  # loading a model takes what it takes

    def __init__(self, connection: Connection, stream: Stream, method: Method, encoding: str) -> None:
        self._connection = connection
        self._stream = stream
        self._method = method
        self._encoding = encoding
        self._asked: Any = None
        self._served: Served
        self._beside: Beside
        self._messages: MessageMemory

    def attach(self, served: Served, beside: Beside, messages: MessageMemory) -> UnaryCall:
        self._served, self._beside, self._messages = served, beside, messages
        return self

    def message(self, message: Incoming) -> None:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

        if self._asked is not None:
            self._give(message)
            raise GrpcError("INTERNAL", "a unary call has one message")
        try:
            data = inflated(message.data, self._encoding, MOST_BYTES) if message.compressed else message.data
            if len(data) > MOST_BYTES:
                raise GrpcError("RESOURCE_EXHAUSTED", f"{len(data)} bytes; this method takes up to {MOST_BYTES}")
            self._asked = _class(self._method.request).FromString(bytes(data))
        except DecodeError:
            raise GrpcError("INTERNAL", f"this is no {self._method.request}") from None
        finally:
            self._give(message)

    def half_closed(self) -> None:
        if self._asked is None:
            raise GrpcError("INTERNAL", "a unary call has one message; this one had none")
        if not self._method.slow:
            self._answer(self._method.handler(self._served, self._asked))
            return
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                found = self._method.handler(self._served, self._asked)
            except Exception as error:
                failure = serve_error(error)
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._connection.end, self._stream, failure)
                return
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._answer_late, found)

        self._beside.executor.submit(run)

    def cancelled(self) -> None:
        """What has begun is finished; nobody reads the answer."""

    def _answer(self, found: Mapping[str, Any]) -> None:
        from google.protobuf import json_format  # type: ignore[import-untyped]

        answer = _class(self._method.response)()
        json_format.ParseDict(found, answer, ignore_unknown_fields=True)
        content = answer.SerializeToString()
        self._connection.reply(self._stream, [content], len(content))

    def _answer_late(self, found: Mapping[str, Any]) -> None:
        """On the loop, where nobody else would notice that the answer cannot be written."""
        try:
            self._answer(found)
        except Exception as error:
            self._beside.broken(error)
            self._connection.end(self._stream, serve_error(error))

    def _give(self, message: Incoming) -> None:
        if message.lease is not None:
            self._messages.give(message.lease)


def _class(name: str) -> Any:
    from assay.serve.grpc.inference_pb2 import message

    return message(name)


class HealthCall:
    """``grpc.health.v1.Health/Check`` as Kubernetes probes it: SERVING (1) or NOT_SERVING (2), for the whole server."""

    limited = False

    def __init__(self, connection: Connection, stream: Stream, served: Served, messages: MessageMemory) -> None:
        self._connection = connection
        self._stream = stream
        self._served = served
        self._messages = messages

    def message(self, message: Incoming) -> None:
        if message.lease is not None:
            self._messages.give(message.lease)

    def half_closed(self) -> None:
        content = b"\x08\x01" if self._served.repository.ready else b"\x08\x02"
        self._connection.reply(self._stream, [content], len(content))

    def cancelled(self) -> None:
        pass
