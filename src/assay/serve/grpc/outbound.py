"""Outbound: what a connection sends, within what the peer lets through (RFC 9113 section 5.2) and reads.

What it does not take yet waits in its streams and is counted; the transport's own buffer holds one piece at most.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence

from assay.core.units import Bytes
from assay.serve.grpc import frames, status
from assay.serve.grpc.stream import Stream
from assay.serve.grpc.wire import Buffer
from assay.serve.http.buffers import Held

JOINED_BYTES = 16_384
"""Up to this size an answer is copied into one buffer; above, its parts go to ``writev``."""
WHOLE_BYTES = 1 << 20
"""Up to this size an answer is handed to the transport in one go."""
STEP_BYTES = 256 << 10
"""What is handed over at one time of those that are larger, or had to wait."""
PIECE_BYTES = 256
"""What a piece that waits costs besides its content."""
_UNCOMPRESSED = b"\x00"
_HEADERS_SIZE = len(status.HEADERS)


class Outbound:
    """``finished`` is called for every stream whose last byte was handed over.  ``answers`` counts what waits on all
    connections; ``held`` is this one's share, ``sent`` what it handed over of messages."""

    def __init__(self, finished: Callable[[Stream], None], answers: Held | None = None) -> None:
        self._finished = finished
        self._answers = answers or Held(sys.maxsize)
        self.held: Bytes = 0
        self.sent: Bytes = 0
        self._paused = False
        self._transport: asyncio.WriteTransport | None = None
        self._window = frames.DEFAULT_WINDOW
        self._blocked: dict[int, Stream] = {}
        """Streams that only the connection's window, or a client that does not read, holds back, the longest-waiting
        first."""
        self.initial_window = frames.DEFAULT_WINDOW
        self.max_frame = frames.DEFAULT_FRAME_BYTES

    def attach(self, transport: asyncio.WriteTransport | None) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Control frames: sent at once."""
        if self._transport is not None:
            self._transport.write(data)

    def message(self, stream: Stream, parts: Sequence[Buffer], size: int, trailers: bytes | None = None) -> None:
        """One message of ``size`` bytes; with ``trailers`` it is the last and the stream ends."""
        total = size + 5
        prefix = _UNCOMPRESSED + size.to_bytes(4, "big")
        room = 0 if self._paused or stream.waiting else min(stream.send_window, self._window, WHOLE_BYTES)
        if total > room:
            self._wait(stream, [prefix, *parts], total)
            stream.trailers = trailers
            self._pump(stream)
            return
        stream.send_window -= total
        self._window -= total
        self.sent += total
        out: list[Buffer] = []
        if not stream.headers_sent:
            stream.headers_sent = True
            out.append(frames.header(_HEADERS_SIZE, frames.HEADERS, frames.END_HEADERS, stream.id) + status.HEADERS)
        if total <= self.max_frame:
            out.append(frames.header(total, frames.DATA, 0, stream.id) + prefix)
            out.extend(parts)
        else:
            self._split(stream.id, [prefix, *parts], total, out)
        if trailers is not None:
            out.append(_end(stream.id, trailers))
        self._send(out, total)
        if trailers is not None:
            self._finished(stream)

    def end(self, stream: Stream, trailers: bytes) -> None:
        """The call's status, after what still waits; alone it is the whole answer ("trailers-only")."""
        if stream.waiting:
            stream.trailers = trailers
            return
        block = trailers if stream.headers_sent else status.HEADERS + trailers
        stream.headers_sent = True
        self.write(_end(stream.id, block))
        self._finished(stream)

    def refuse(self, stream: int, http_status: int) -> None:
        """An HTTP status for what is no gRPC call."""
        self.write(_end(stream, status.http_refusal(http_status)))

    def forget(self, stream: Stream) -> None:
        """The stream is gone: send nothing more of it."""
        self._blocked.pop(stream.id, None)
        stream.waiting.clear()
        self._count(stream, -stream.held)

    def credit(self, stream: Stream | None, increment: int) -> None:
        """A WINDOW_UPDATE came; ``stream`` None: for the connection.  Raises ConnectionFault or StreamFault."""
        if stream is None:
            if not increment:
                raise frames.ConnectionFault(frames.PROTOCOL_ERROR, "a window update of nothing")
            self._window += increment
            if self._window > frames.MAX_WINDOW:
                raise frames.ConnectionFault(frames.FLOW_CONTROL_ERROR, "the connection's window overflows")
            self._pump_blocked()
            return
        if not increment:
            raise frames.StreamFault(stream.id, frames.PROTOCOL_ERROR)
        stream.send_window += increment
        if stream.send_window > frames.MAX_WINDOW:
            raise frames.StreamFault(stream.id, frames.FLOW_CONTROL_ERROR)
        if stream.waiting:
            self._pump(stream)

    def configure(self, values: Sequence[tuple[int, int]], streams: Sequence[Stream]) -> None:
        """The peer's SETTINGS.  Raises ConnectionFault for values out of range."""
        window = self.initial_window
        for name, value in values:
            if name == frames.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise frames.ConnectionFault(frames.FLOW_CONTROL_ERROR, f"an initial window of {value}")
                window = value
            elif name == frames.MAX_FRAME_SIZE:
                if not frames.DEFAULT_FRAME_BYTES <= value < 1 << 24:
                    raise frames.ConnectionFault(frames.PROTOCOL_ERROR, f"a frame size of {value}")
                self.max_frame = value
            elif name == frames.ENABLE_PUSH and value > 1:
                raise frames.ConnectionFault(frames.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
        if window != self.initial_window:
            self._resize(window, streams)
        self.write(frames.SETTINGS_ACK)
        for stream in [s for s in streams if s.waiting and s.send_window > 0]:
            self._pump(stream)

    def _resize(self, window: int, streams: Sequence[Stream]) -> None:
        """Once for the last of a frame's values: there may be thousands, and as many streams."""
        change, self.initial_window = window - self.initial_window, window
        for stream in streams:
            stream.send_window += change
            if stream.send_window > frames.MAX_WINDOW:
                raise frames.ConnectionFault(frames.FLOW_CONTROL_ERROR, "a stream's window overflows")

    def pause(self) -> None:
        """The peer does not read: nothing but control frames until ``resume``."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._pump_blocked()

    def _wait(self, stream: Stream, parts: Sequence[Buffer], total: Bytes) -> None:
        pieces: Sequence[Buffer] = [b"".join(parts)] if total <= JOINED_BYTES else [p for p in parts if len(p)]
        stream.waiting.extend(memoryview(p) for p in pieces)
        self._count(stream, total + PIECE_BYTES * len(pieces))

    def _count(self, stream: Stream, change: Bytes) -> None:
        stream.held += change
        self.held += change
        self._answers.used += change

    def _pump_blocked(self) -> None:
        while self._blocked and self._window > 0 and not self._paused:  # each step sends: that much was let through
            self._pump(next(iter(self._blocked.values())))

    def _pump(self, stream: Stream) -> None:
        """Send of ``stream.waiting`` what the windows and the peer's reading allow."""
        while not self._paused and self._step(stream):
            pass
        if stream.waiting and stream.send_window > 0:
            self._blocked[stream.id] = stream
        else:  # the stream's own window opens with an update of its own
            self._blocked.pop(stream.id, None)

    def _step(self, stream: Stream) -> bool:
        """Whether more may be sent at once."""
        allowed = min(stream.send_window, self._window, STEP_BYTES)
        out: list[Buffer] = []
        if not stream.headers_sent:
            stream.headers_sent = True
            out.append(frames.header(_HEADERS_SIZE, frames.HEADERS, frames.END_HEADERS, stream.id) + status.HEADERS)
        taken: list[Buffer] = []
        total = 0
        pieces = 0
        while stream.waiting and total < allowed:
            piece = stream.waiting.popleft()
            if len(piece) > allowed - total:
                stream.waiting.appendleft(piece[allowed - total :])
                piece = piece[: allowed - total]
            else:
                pieces += 1
            taken.append(piece)
            total += len(piece)
        if total:
            stream.send_window -= total
            self._window -= total
            self.sent += total
            self._split(stream.id, taken, total, out)
            self._count(stream, -(total + PIECE_BYTES * pieces))
        if stream.waiting:
            self._send(out, total)
            return min(stream.send_window, self._window) > 0
        ends = stream.trailers
        if ends is not None:
            out.append(_end(stream.id, ends))
        self._send(out, total)
        if ends is not None:
            self._finished(stream)
        return False

    def _split(self, stream: int, pieces: Sequence[Buffer], total: int, out: list[Buffer]) -> None:
        """DATA frames of at most the peer's size."""
        room = 0
        for piece in pieces:
            view = memoryview(piece)
            while len(view):
                if not room:
                    room = min(self.max_frame, total)
                    out.append(frames.header(room, frames.DATA, 0, stream))
                part = view[:room]
                out.append(part)
                room -= len(part)
                total -= len(part)
                view = view[len(part) :]

    def _send(self, out: list[Buffer], size: int) -> None:
        if self._transport is None or not out:
            return
        if size <= JOINED_BYTES:
            self._transport.write(b"".join(out))
        else:
            self._transport.writelines(out)


def _end(stream: int, block: bytes) -> bytes:
    return frames.header(len(block), frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream) + block
