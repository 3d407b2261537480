"""FrameReceiver: bytes from a socket into HTTP/2 frames.

Bytes of a large message are received straight into the message's buffer: this server allows frames of up
to ``FRAME_BYTES``, so that a tensor is one or a few frames, and reads the rest of a frame with ``recv``
where it belongs.
"""

from __future__ import annotations

import asyncio

from assay.core.units import Bytes
from assay.serve.errors import ServeError
from assay.serve.grpc import frames
from assay.serve.grpc.frames import ConnectionFault
from assay.serve.grpc.head import MOST_HEADER_BYTES
from assay.serve.grpc.status import GrpcError
from assay.serve.grpc.stream import Incoming, Stream

FRAME_BYTES = 4 << 20
SCRATCH_BYTES = 64 << 10
DIRECT_BYTES = 32 << 10
"""From here on the rest of a frame is received into its message's buffer."""


def greeting(window: Bytes, streams: int) -> bytes:
    """What this side takes: so many streams, each with that window; the connection's own is wide open."""
    values = {
        frames.MAX_CONCURRENT_STREAMS: streams,
        frames.INITIAL_WINDOW_SIZE: window,
        frames.MAX_FRAME_SIZE: FRAME_BYTES,
        frames.MAX_HEADER_LIST_SIZE: MOST_HEADER_BYTES,
    }
    return frames.settings(values) + frames.window_update(0, frames.MAX_WINDOW - frames.DEFAULT_WINDOW)


class FrameReceiver(asyncio.BufferedProtocol):
    """What the frames mean is its subclass's."""

    def __init__(self) -> None:
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._start = self._end = 0
        self._greeted = self._direct = False
        # The DATA frame being read: whose it is (None: nobody's), what is left of it, and how it ends.
        self._stream: Stream | None = None
        self._payload = self._skip = 0
        self._ends = False

    def frame(self, kind: int, number: int, flags: int, payload: memoryview) -> None:
        """A whole frame other than DATA."""
        raise NotImplementedError

    def check(self, kind: int, number: int) -> None:
        """Whether such a frame may come now, before its payload is looked at.  Raises ConnectionFault."""
        raise NotImplementedError

    def data_begins(self, number: int, size: int, flags: int) -> Stream | None:
        """A DATA frame of ``size`` bytes; whose messages it holds, None to throw it away."""
        raise NotImplementedError

    def data_ends(self, stream: Stream, last: bool) -> None:
        raise NotImplementedError

    def received(self, stream: Stream, message: Incoming) -> None:
        raise NotImplementedError

    def refused(self, stream: Stream, error: GrpcError | ServeError) -> None:
        """The stream's message cannot be taken."""
        raise NotImplementedError

    def greeted_wrongly(self, text: bool) -> None:
        """The peer does not speak HTTP/2; ``text``: probably HTTP/1."""
        raise NotImplementedError

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._start == self._end:
            self._start = self._end = 0
            if self._payload >= DIRECT_BYTES and self._stream is not None:
                room = self._stream.assembler.room()
                if room is not None and len(room) >= DIRECT_BYTES:
                    self._direct = True
                    return room[: self._payload]
        self._direct = False
        return self._scratch[self._end :]

    def forget(self) -> None:
        """Nothing comes any more: the memory goes now, not when the garbage collector finds this connection."""
        self._scratch = memoryview(b"")
        self._stream = None

    def advance(self, nbytes: int) -> None:
        """``nbytes`` were put into the buffer handed out last.  Raises ConnectionFault."""
        if not self._direct:
            self._end += nbytes
            self._parse()
            return
        stream = self._stream
        assert stream is not None
        self._payload -= nbytes
        try:
            message = stream.assembler.filled(nbytes)
        except ServeError as error:
            self._stream = None
            self.refused(stream, error)
        else:
            if message is not None:
                self.received(stream, message)
        if not self._payload:
            self._data_done()

    def _parse(self) -> None:
        if not self._greeted and not self._greet():
            return
        scratch = self._scratch
        while True:
            available = self._end - self._start
            if self._payload:
                if not available:
                    break
                count = min(available, self._payload)
                self._take(scratch[self._start : self._start + count])
                self._start += count
                self._payload -= count
                if not self._payload:
                    self._data_done()
            elif self._skip:
                if not available:
                    break
                count = min(available, self._skip)
                self._start += count
                self._skip -= count
            elif available < frames.HEADER_BYTES or not self._one(available):
                break
        if self._start and self._start != self._end:
            rest = bytes(scratch[self._start : self._end])
            scratch[: len(rest)] = rest
            self._start, self._end = 0, len(rest)

    def _greet(self) -> bool:
        seen = bytes(self._scratch[: min(self._end, len(frames.PREFACE))])
        if not frames.PREFACE.startswith(seen):
            self.greeted_wrongly(seen[:1].isalpha())
            self._start = self._end
            return False
        if len(seen) < len(frames.PREFACE):
            return False
        self._start = len(seen)
        self._greeted = True
        return True

    def _one(self, available: int) -> bool:
        """Read one frame's header, and its payload unless that is DATA.  False: more bytes are needed."""
        scratch, at = self._scratch, self._start + frames.HEADER_BYTES
        size, kind, flags, number = frames.read_header(scratch, self._start)
        if size > FRAME_BYTES:
            raise ConnectionFault(frames.FRAME_SIZE_ERROR, f"a frame of {size} bytes")
        self.check(kind, number)
        if kind == frames.DATA:
            padding = 0
            if flags & frames.PADDED:
                if available <= frames.HEADER_BYTES:
                    return False
                padding = scratch[at] + 1
                if padding > size:
                    raise ConnectionFault(frames.PROTOCOL_ERROR, "more padding than frame")
                at += 1
            self._start = at
            self._ends = bool(flags & frames.END_STREAM)
            self._payload, self._skip = size - padding, max(0, padding - 1)
            self._stream = self.data_begins(number, size, flags)
            if not self._payload:
                self._data_done()
            return True
        if kind > frames.CONTINUATION:  # extensions are ignored
            self._start, self._skip = at, size
            return True
        if size > SCRATCH_BYTES - frames.HEADER_BYTES:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, f"{size} bytes in a frame of kind {kind}")
        if available < frames.HEADER_BYTES + size:
            return False
        self._start = at + size
        self.frame(kind, number, flags, scratch[at : at + size])
        return True

    def _take(self, data: memoryview) -> None:
        while len(data) and (stream := self._stream) is not None:
            try:
                message, count = stream.assembler.feed(data)
            except (GrpcError, ServeError) as error:
                self._stream = None
                self.refused(stream, error)
                return
            if message is not None:
                self.received(stream, message)
            data = data[count:]

    def _data_done(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self.data_ends(stream, self._ends)
