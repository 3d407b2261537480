"""Connection: HTTP/2 from a client (RFC 9113), as far as gRPC uses it.

What a hostile client could make expensive is bounded: header blocks, streams, messages being received and answers
not taken (over all connections), frames without content, time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar, cast

from assay.core import clock
from assay.core.units import Bytes, Seconds
from assay.serve.errors import ServeError, serve_error
from assay.serve.grpc import frames, status
from assay.serve.grpc.frames import ConnectionFault, StreamFault
from assay.serve.grpc.front import Front
from assay.serve.grpc.gate import Gate
from assay.serve.grpc.head import Head, HeaderBlocks
from assay.serve.grpc.outbound import Outbound
from assay.serve.grpc.patience import Patience
from assay.serve.grpc.receiver import FrameReceiver, greeting
from assay.serve.grpc.status import GrpcError
from assay.serve.grpc.stream import Assembler, Incoming, Stream
from assay.serve.grpc.wire import Buffer

MOST_STREAMS = 1000
MOST_ODD = 2000
"""Frames a second that ask for work and carry nothing: pings, settings, resets, empty data."""


class Connection(FrameReceiver):
    def __init__(self, front: Front) -> None:
        super().__init__()
        self._front = front
        self._now = clock.current().now
        self._heads = HeaderBlocks()
        self._out = Outbound(self._finished, front.answers)
        self.gate = Gate(self._out, front.limits.answers, self._begin_late)
        self._transport: asyncio.Transport | None = None
        self.streams: dict[int, Stream] = {}
        self._last = self._odd = self._credited = 0
        self._draining = False
        self._patience = Patience(front.limits, self._now())
        self.closed_s: Seconds | None = None

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = made = cast(asyncio.Transport, transport)  # uvloop's derives from nothing
        self._out.attach(made)
        limits = self._front.limits
        try:
            self._front.joined(self)
        except ServeError as error:
            self._fail(frames.ENHANCE_YOUR_CALM, error.message)
            return
        self._window = min(frames.MAX_WINDOW, limits.body + (1 << 20))
        self._out.write(greeting(self._window, MOST_STREAMS))

    def buffer_updated(self, nbytes: int) -> None:
        try:
            self.advance(nbytes)
            self.gate.run()  # answers may have left
        except ConnectionFault as fault:
            self._fail(fault.code, str(fault))
        except Exception as error:
            self._front.broken(error)
            self._fail(frames.INTERNAL_ERROR, "internal error")

    def eof_received(self) -> None:
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._out.attach(None)
        for stream in list(self.streams.values()):
            self._drop(stream)
        self.forget()
        self._front.lost(self)

    def pause_writing(self) -> None:
        """The client does not read: what it asks meanwhile is not read either."""
        self._patience.paused(self._now())
        self._out.pause()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._patience.resumed(self._now(), self.streams.values())
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
            self._out.resume()
            self.gate.run()

    # What calls use

    def reply(self, stream: Stream, parts: list[Buffer], size: int) -> None:
        """The one message of a unary call, and its end."""
        self.send(stream, parts, size, status.OK_TRAILERS)

    def send(self, stream: Stream, parts: list[Buffer], size: int, trailers: bytes | None = None) -> None:
        """One message of several; the last with ``trailers``."""
        if stream.id in self.streams:
            self._out.message(stream, parts, size, trailers)
            self._front.make_room()

    def end(self, stream: Stream, error: GrpcError | ServeError | None = None) -> None:
        """The call's status: OK without an error."""
        if stream.id in self.streams:
            block = status.OK_TRAILERS if error is None else status.trailers(*status.status_of(error))
            stream.assembler.drop()
            self.gate.forget(stream)
            if self._stream is stream:
                self._stream = None
            self._out.end(stream, block)
            call, stream.call = stream.call, None
            if call is not None and error is not None:
                call.cancelled()

    # What the server uses

    def drain(self) -> None:
        """Take no more calls; close when those in flight are answered."""
        if not self._draining:
            self._draining = True
            self._out.write(frames.goaway(self._last, frames.NO_ERROR))
            if not self.streams:
                self._close()

    @property
    def held(self) -> Bytes:
        """What of its answers was not taken."""
        return self._out.held

    def shed(self) -> bool:
        """End the call whose answers wait with the most; False where there is none, or nothing but one message."""
        stream = max(self.streams.values(), key=lambda s: s.held, default=None)
        if stream is None or stream.held in (0, self._front.answers.used):
            return False
        self._out.forget(stream)
        self.end(stream, GrpcError("RESOURCE_EXHAUSTED", "too many answers wait for their clients to take them"))
        return True

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now_s: Seconds) -> None:
        """About once a second: cut off what is too slow."""
        self._odd = 0
        if self._patience.over(now_s):
            self.abort()
        for stream in list(self.streams.values()):
            error = self._patience.fault(stream, now_s, self._out.sent)
            if isinstance(error, StreamFault):
                self._reset(error)
            elif error is not None:
                self.end(stream, error)
        self.gate.run()

    # DATA

    def data_begins(self, number: int, size: int, flags: int) -> Stream | None:
        if not number or number > self._last:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"DATA on stream {number}, which is not open")
        self._credited += size
        if self._credited > frames.MAX_WINDOW // 2:
            self._out.write(frames.window_update(0, self._credited))
            self._credited = 0
        if not size and not flags & frames.END_STREAM:
            self._oddity()
        stream = self.streams.get(number)
        if stream is None:
            return None
        stream.received += size
        if stream.remote_closed or stream.received > self._window:
            code = frames.STREAM_CLOSED if stream.remote_closed else frames.FLOW_CONTROL_ERROR
            self._reset(StreamFault(number, code))
            return None
        return stream

    def data_ends(self, stream: Stream, last: bool) -> None:
        if last:
            self._half_closed(stream)
        else:
            self._credit(stream)

    def _credit(self, stream: Stream) -> None:
        """Let the client send more, unless what it sent has not even begun."""
        if stream.received > self._window // 2 and not stream.deferred:
            self._out.write(frames.window_update(stream.id, stream.received))
            stream.received = 0

    def received(self, stream: Stream, message: Incoming) -> None:
        call = stream.call
        if call is None:
            if message.lease is not None:
                self._front.memory.give(message.lease)
            return
        stream.began_s = self._now()
        self._guard(stream, lambda: call.message(message))

    def refused(self, stream: Stream, error: GrpcError | ServeError) -> None:
        self.end(stream, error)

    def _half_closed(self, stream: Stream) -> None:
        stream.remote_closed = True
        if not stream.assembler.empty:
            self.end(stream, GrpcError("INTERNAL", "the stream ended within a message"))
            return
        call = stream.call
        if call is not None:
            self._guard(stream, call.half_closed)

    def _begin_late(self, stream: Stream, begin: Callable[[], None]) -> None:
        if stream.streaming:
            stream.began_s = self._now()
        self._guard(stream, begin)
        if stream.id in self.streams and not stream.remote_closed:
            self._credit(stream)

    def _guard(self, stream: Stream, act: Callable[[], None]) -> None:
        """Errors of a call end that call."""
        try:
            act()
        except (GrpcError, ServeError) as error:
            self.end(stream, error)
        except Exception as error:
            self._front.broken(error)
            self.end(stream, serve_error(error))

    # Other frames

    def check(self, kind: int, number: int) -> None:
        block = self._heads.stream
        if block is not None and (kind != frames.CONTINUATION or number != block):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a header block is interrupted")
        if not self._patience.settled and kind != frames.SETTINGS:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "SETTINGS must come first")
        if kind > frames.CONTINUATION:
            self._oddity()

    def greeted_wrongly(self, text: bool) -> None:
        if not text:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "this is not HTTP/2")
        self._out.write(frames.HTTP1_REFUSAL)
        self._close()

    def frame(self, kind: int, number: int, flags: int, payload: memoryview) -> None:
        try:
            self._KINDS[kind](self, number, flags, payload)
        except StreamFault as fault:
            self._reset(fault)

    def _headers(self, number: int, flags: int, payload: memoryview) -> None:
        self._open(number, self._heads.headers(number, flags, payload))

    def _continuation(self, number: int, flags: int, payload: memoryview) -> None:
        self._open(number, self._heads.continuation(number, flags, payload))

    def _open(self, number: int, block: tuple[Head, bool] | None) -> None:
        if block is None:
            return
        head, ends = block
        if not number % 2:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"a client cannot open stream {number}")
        found = self.streams.get(number)
        if found is not None:  # trailers of a request
            if not ends or found.remote_closed:
                raise StreamFault(number, frames.PROTOCOL_ERROR)
            self._half_closed(found)
            return
        if number <= self._last:
            raise StreamFault(number, frames.STREAM_CLOSED)
        self._last = number
        if self._draining or len(self.streams) >= MOST_STREAMS:
            raise StreamFault(number, frames.REFUSED_STREAM)
        if head.refusal:
            self._oddity()
            self._out.refuse(number, head.refusal)
            if not ends:
                self._out.write(frames.reset(number, frames.NO_ERROR))
            return
        assembler = Assembler(self._front.memory, self._front.limits.body)
        stream = Stream(number, self._now(), assembler, self._out.initial_window)
        self.streams[number] = stream

        def begin() -> None:
            stream.call = self._front.call(self, stream, head)

        self._guard(stream, begin)
        if ends and number in self.streams:
            self._half_closed(stream)

    def _priority(self, number: int, flags: int, payload: memoryview) -> None:
        self._oddity()
        if len(payload) != 5:
            raise StreamFault(number, frames.FRAME_SIZE_ERROR)

    def _rst_stream(self, number: int, flags: int, payload: memoryview) -> None:
        frames.uint31(payload)
        if not number or number > self._last:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"reset of stream {number}, which is not open")
        self._oddity()
        stream = self.streams.get(number)
        if stream is not None:
            self._drop(stream)

    def _settings(self, number: int, flags: int, payload: memoryview) -> None:
        if number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & frames.ACK:
            if len(payload):
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "SETTINGS acknowledged with content")
            return
        self._oddity()
        self._patience.settled = True
        self._out.configure(frames.read_settings(payload), list(self.streams.values()))

    def _push_promise(self, number: int, flags: int, payload: memoryview) -> None:
        raise ConnectionFault(frames.PROTOCOL_ERROR, "a client cannot push")

    def _ping(self, number: int, flags: int, payload: memoryview) -> None:
        if number or len(payload) != 8:
            code = frames.PROTOCOL_ERROR if number else frames.FRAME_SIZE_ERROR
            raise ConnectionFault(code, "PING has eight bytes and no stream")
        self._oddity()
        if not flags & frames.ACK:
            self._out.write(frames.pong(bytes(payload)))

    def _goaway(self, number: int, flags: int, payload: memoryview) -> None:
        if number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "GOAWAY on a stream")
        self._oddity()

    def _window_update(self, number: int, flags: int, payload: memoryview) -> None:
        increment = frames.uint31(payload)
        if number > self._last:
            raise ConnectionFault(frames.PROTOCOL_ERROR, f"window of stream {number}, which is not open")
        stream = self.streams.get(number) if number else None
        if stream is not None or not number:
            self._out.credit(stream, increment)

    _KINDS: ClassVar[dict[int, Callable[[Connection, int, int, memoryview], None]]] = {
        frames.HEADERS: _headers,
        frames.PRIORITY: _priority,
        frames.RST_STREAM: _rst_stream,
        frames.SETTINGS: _settings,
        frames.PUSH_PROMISE: _push_promise,
        frames.PING: _ping,
        frames.GOAWAY: _goaway,
        frames.WINDOW_UPDATE: _window_update,
        frames.CONTINUATION: _continuation,
    }

    # Ends

    def _oddity(self) -> None:
        self._odd += 1
        if self._odd > MOST_ODD:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "too many frames without content")

    def _reset(self, fault: StreamFault) -> None:
        self._oddity()
        self._out.write(frames.reset(fault.stream, fault.code))
        stream = self.streams.get(fault.stream)
        if stream is not None:
            self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        """The client does not want, or cannot have, an answer."""
        self._finished(stream, told=True)
        self._out.forget(stream)
        call, stream.call = stream.call, None
        if call is not None:
            call.cancelled()

    def _finished(self, stream: Stream, told: bool = False) -> None:
        self.streams.pop(stream.id, None)
        if self._stream is stream:
            self._stream = None
        stream.assembler.drop()
        self.gate.forget(stream)
        if not stream.remote_closed and not told:
            self._out.write(frames.reset(stream.id, frames.NO_ERROR))
        if self._draining and not self.streams:
            self._close()

    def _fail(self, code: int, message: str) -> None:
        self._out.write(frames.goaway(self._last, code, message))
        self._close()

    def _close(self) -> None:
        self.closed_s = self.closed_s or self._now()
        for stream in list(self.streams.values()):
            self._drop(stream)
        if self._transport is not None:
            self._transport.close()
