"""One client's connection: receives heads and bodies, keeps answers in order, closes on what is slow or doubtful."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from assay.core import clock
from assay.core.units import Bytes, Seconds
from assay.serve.errors import EXPIRED, HEAD_TOO_LARGE, SLOW, TOO_LARGE, UNAVAILABLE, ServeError
from assay.serve.http.body import ChunkedBody
from assay.serve.http.exchange import Exchange
from assay.serve.http.head import Head
from assay.serve.http.message import CONTINUE, error_answer

if TYPE_CHECKING:
    from assay.serve.http.listener import Listener

END = b"\r\n\r\n"
HEAD: Bytes = 8 * 1024
"""What a connection has for a head at first; it grows up to the limit."""
JOINED: Bytes = 16 * 1024
"""Answers up to this size are sent as one piece of memory."""
DISCARDED: Bytes = 4 * 1024 * 1024
"""A refused request's body up to this size is read and dropped, so that the client gets to read the refusal."""
LINGER_S: Seconds = 2.0
_HEAD, _BODY, _CHUNKED, _DISCARD, _DEAF = range(5)


class Connection(asyncio.BufferedProtocol):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._limits = listener.limits
        self._now = clock.current().now
        self._transport: asyncio.Transport | None = None
        self._state = _HEAD
        self._head = bytearray(min(HEAD, self._limits.head))
        self._head_view = memoryview(self._head)
        self._filled = 0
        self._scanned = 0
        self._exchanges: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._refusal: ServeError | None = None
        self._target = memoryview(b"")
        self._received = 0
        self._left = 0
        self._chunked: ChunkedBody | None = None
        self._since_s: Seconds = self._now()
        self._due_s: Seconds = 0.0
        self._stuck_s: Seconds | None = None
        self.closed_s: Seconds | None = None
        self._paused = False
        self._last = False
        self._lingers = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        if not self._listener.joined(self):
            self._refuse(ServeError(UNAVAILABLE, "too many connections", retry_after_s=1.0))

    def connection_lost(self, error: Exception | None) -> None:
        self._state = _DEAF
        self._transport = None
        self._listener.left(self)
        if self._current is not None:
            self._current.release()
            self._current = None
        for exchange in self._exchanges:
            exchange.abandon()
        self._exchanges.clear()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._state == _BODY:
            return self._target[self._received :]
        if self._state == _HEAD and self._filled < len(self._head):
            return self._head_view[self._filled :]
        if self._state == _DISCARD:  # what follows is the next request's
            return self._listener.scratch[: self._left]
        return self._listener.scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._state == _HEAD:
            if not self._filled:
                self._since_s = self._now()
            self._filled += nbytes
            self._scan()
        elif self._state == _BODY:
            self._received += nbytes
            if self._holds(nbytes) and self._received == len(self._target):
                self._complete()
        elif self._state == _CHUNKED:
            self._feed(self._listener.scratch[:nbytes])
            self._scan()
        elif self._state == _DISCARD:
            self._drop(nbytes)

    def eof_received(self) -> None:
        """The client hung up, as far as anybody can tell: what it asked is not run for nobody."""
        self.close()

    def pause_writing(self) -> None:
        self._stuck_s = self._now()
        self._pause()

    def resume_writing(self) -> None:
        self._stuck_s = None
        self._resume()

    # The listener's side

    @property
    def idle(self) -> bool:
        return self._state == _HEAD and not self._filled and not self._exchanges

    def drain(self) -> None:
        """Answer what was begun, then close."""
        self._last = True
        if self.idle:
            self.close()

    def close(self) -> None:
        """When everything that was written is sent."""
        self.closed_s = self.closed_s or self._now()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now_s: Seconds) -> None:
        """Called every second: whoever is too slow is told so or left."""
        limits = self._limits
        if self._stuck_s is not None and now_s - self._stuck_s > limits.write_s:
            self.abort()
            return
        if self._exchanges:
            first = self._exchanges[0]
            waits = first is not self._current and first.answer is None  # a body on its way has a limit of its own
            if waits and now_s - first.arrived_s > limits.request_s:
                first.abandon()
                first.fail(ServeError(EXPIRED, f"no answer within {limits.request_s:g} s"))
        if self._state == _HEAD:
            if self._filled and not self._paused and now_s - self._since_s > limits.head_s:
                self._refuse(ServeError(SLOW, f"the request's header took longer than {limits.head_s:g} s"))
            elif self.idle and now_s - self._since_s > limits.idle_s:
                self.close()
        elif self._state != _DEAF and now_s > self._due_s:
            self._refuse(ServeError(SLOW, "the request's body came too slowly"))

    # Heads

    def _scan(self) -> None:
        """Take every complete head out of what was received, as long as requests may be begun."""
        while self._state == _HEAD and self._filled:
            if len(self._exchanges) >= self._limits.pipelined:
                self._pause()
                return
            at = self._head.find(END, max(0, self._scanned - 3), self._filled)
            if at < 0:
                self._scanned = self._filled
                if self._filled >= len(self._head):
                    self._grow()
                return
            end = at + len(END)
            raw = bytes(self._head_view[:end])
            self._scanned = 0
            try:
                head = self._listener.heads.parse(raw)
            except ServeError as error:
                self._refuse(error)
                return
            self._begin(head, end)

    def _grow(self) -> None:
        """The head does not end within what there is for it."""
        most = self._limits.head
        if len(self._head) >= most:
            self._refuse(ServeError(HEAD_TOO_LARGE, f"the request's header is larger than {most} bytes"))
            return
        self._make_room(min(2 * len(self._head), most))

    def _make_room(self, size: Bytes) -> None:
        larger = bytearray(size)
        larger[: self._filled] = self._head_view[: self._filled]
        self._head, self._head_view = larger, memoryview(larger)

    def _begin(self, head: Head, end: int) -> None:
        """The head is ``[:end]`` of what was received; the body, or the next head, follows."""
        now_s = self._now()
        exchange = self._current = Exchange(self, head, now_s, self._listener.memory)
        self._exchanges.append(exchange)
        self._refusal = self._refused(head)
        length = head.length
        if self._refusal is not None and (length is None or length > DISCARDED or head.expects):
            self._refuse_current(self._refusal)
            return
        self._due_s = now_s + self._limits.body_s + (length or self._limits.body) / self._limits.slowest
        if head.expects and self._transport is not None:
            self._transport.write(CONTINUE)
        rest = self._filled - end
        if length is None:
            self._state = _CHUNKED
            self._chunked = ChunkedBody(self._limits.body)
            data = bytes(self._head_view[end : self._filled])
            self._filled = 0
            self._feed(data)
            return
        if self._refusal is not None:
            self._state, self._left = _DISCARD, length
            taken = min(rest, length)
            self._shift(end + taken)
            self._drop(taken)
            return
        if length == 0:
            self._shift(end)
            self._complete()
            return
        buffer = exchange.buffer = self._listener.pool.take(length, head.json_length or 0)
        self._target = buffer.view
        taken = self._received = min(rest, length)
        self._target[:taken] = self._head_view[end : end + taken]
        self._shift(end + taken)
        self._state = _BODY
        if self._holds(taken) and taken == length:
            self._complete()

    def _refused(self, head: Head) -> ServeError | None:
        if head.length is not None and head.length > self._limits.body:
            return ServeError(TOO_LARGE, f"a body of {head.length} bytes; at most {self._limits.body} are taken")
        try:
            self._listener.application.admit(head)
        except ServeError as error:
            return error
        return None

    def _shift(self, taken: int) -> None:
        """Move what lies behind the first ``taken`` bytes to the front."""
        rest = self._filled - taken
        if rest:
            self._head[:rest] = self._head[taken : self._filled]
        self._filled = rest
        self._since_s = self._now()

    # Bodies

    def _feed(self, data: memoryview | bytes) -> None:
        chunked, exchange = self._chunked, self._current
        assert chunked is not None
        assert exchange is not None
        before = len(chunked.content)
        try:
            rest = chunked.feed(data)
        except ServeError as error:
            self._refuse_current(error)
            return
        if not self._holds(len(chunked.content) - before) or not chunked.done:
            return
        exchange.body = memoryview(chunked.content)
        self._chunked = None
        self._state = _HEAD
        if len(rest) > len(self._head):
            self._make_room(len(rest))  # at most what one read gives: the scratch buffer's 64 KiB
        self._head[: len(rest)] = rest
        self._filled = len(rest)
        self._complete()

    def _holds(self, nbytes: int) -> bool:
        """Count what came of the current body; where all bodies are too much together, it is refused."""
        assert self._current is not None
        try:
            self._current.hold(nbytes)
        except ServeError as error:
            self._refuse_current(error)
            return False
        return True

    def _drop(self, nbytes: int) -> None:
        """Bytes of a body nobody wants."""
        self._left -= nbytes
        if self._left <= 0 and self._refusal is not None:
            exchange, error = self._current, self._refusal
            self._current, self._refusal = None, None
            self._state = _HEAD
            assert exchange is not None
            exchange.fail(error)
            self._scan_later()

    def _complete(self) -> None:
        """The current request is whole: hand it over."""
        exchange = self._current
        assert exchange is not None
        self._current = None
        if self._state == _BODY:
            exchange.body = self._target
            self._target = memoryview(b"")
        self._state = _HEAD
        exchange.arrived_s = self._since_s = self._now()
        self._listener.application.handle(exchange)
        self._scan_later()

    def _scan_later(self) -> None:
        """A pipelined request may already lie there; ``_scan``'s own loop sees it when it was the caller."""
        if self._filled and self._state == _HEAD:
            self._listener.loop.call_soon(self._scan)

    # Answers

    def flush(self) -> None:
        """Send every answer whose turn it is."""
        transport, exchanges = self._transport, self._exchanges
        if transport is None:
            return
        while exchanges and (answer := exchanges[0].answer) is not None:
            exchange = exchanges[0]
            if exchange is self._current and self._state != _DEAF:
                return  # its body is still on its way
            exchanges.popleft()
            close = not exchange.head.keep_alive or (self._last and not exchanges)
            head = answer.head(close=close, request_id=exchange.request_id)
            if answer.size <= JOINED:
                transport.write(b"".join([head, *answer.parts]))
            else:
                transport.writelines([head, *answer.parts])
            self._listener.answered(exchange, answer)
            if close:
                self._state = _DEAF
                self._hang_up(transport)
                return
        if not exchanges:
            self._since_s = self._now() if not self._filled else self._since_s
        if self._paused and self._stuck_s is None:
            self._resume()

    def _refuse_current(self, error: ServeError) -> None:
        """Answer the request whose body will not be read, and close: what follows could not be told from a body."""
        exchange = self._current
        assert exchange is not None
        self._current, self._refusal, self._chunked = None, None, None
        self._last = self._lingers = True
        self._state = _DEAF
        exchange.release()
        exchange.fail(error)

    def _refuse(self, error: ServeError) -> None:
        """Answer something that is no request, and close; where answers are still owed, the last of them is the end."""
        if self._current is not None:
            self._refuse_current(error)
            return
        self._last = True
        self._state = _DEAF
        if self._transport is not None and not self._exchanges:
            answer = error_answer(error)
            self._transport.write(b"".join([answer.head(close=True, request_id=""), *answer.parts]))
            self.close()

    def _hang_up(self, transport: asyncio.Transport) -> None:
        """Closing while the client still sends would reset the connection, and the answer would be lost with it."""
        if self._lingers and transport.can_write_eof():
            transport.write_eof()
            self._listener.loop.call_later(LINGER_S, transport.abort)
        else:
            self.close()

    def _pause(self) -> None:
        if not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and self._transport is not None and len(self._exchanges) < self._limits.pipelined:
            self._paused = False
            self._transport.resume_reading()
            self._since_s = self._now()
            self._scan_later()
