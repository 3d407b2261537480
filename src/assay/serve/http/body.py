"""Bodies that do not come as they are: chunked, and compressed."""

from __future__ import annotations

import re
import zlib

from assay.core.units import Bytes
from assay.serve.errors import INVALID, TOO_LARGE, ServeError

LONGEST_LINE = 256
MOST_TRAILERS: Bytes = 8192
_SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_SIZE, _DATA, _END, _TRAILER, _DONE = range(5)


class ChunkedBody:
    """Takes a chunked body apart (RFC 9112, section 7.1); extensions and trailers are read and dropped."""

    def __init__(self, most: Bytes) -> None:
        self.content = bytearray()
        self._most = most
        self._state = _SIZE
        self._rest = bytearray()
        self._left = 0
        self._trailers = 0

    @property
    def done(self) -> bool:
        return self._state == _DONE

    def feed(self, data: memoryview | bytes) -> bytes:
        """Take what came.  Returns what lies behind the body once it is ``done``, else nothing.

        Raises ServeError for what is not chunked (invalid) or grows over the limit (too large).
        """
        self._rest += data
        while self._step():
            pass
        if self._state != _DONE:
            return b""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def _step(self) -> bool:
        """One transition; False when more bytes are needed or it is done."""
        rest = self._rest
        if self._state == _SIZE:
            return self._size()
        if self._state == _DATA:
            if not rest:
                return False
            piece = rest[: self._left]
            self.content += piece
            del rest[: len(piece)]
            self._left -= len(piece)
            if not self._left:
                self._state = _END
            return True
        if self._state == _END:
            if len(rest) < 2:
                return False
            if rest[:2] != b"\r\n":
                raise ServeError(INVALID, "chunked body: a chunk is longer than its size says")
            del rest[:2]
            self._state = _SIZE
            return True
        return self._state == _TRAILER and self._trailer()

    def _size(self) -> bool:
        rest = self._rest
        end = rest.find(b"\n", 0, LONGEST_LINE)
        if end < 0:
            if len(rest) >= LONGEST_LINE:
                raise ServeError(INVALID, "chunked body: no chunk size where one should stand")
            return False
        match = _SIZE_LINE.fullmatch(rest[: end + 1])
        if match is None:
            raise ServeError(INVALID, "chunked body: no chunk size where one should stand")
        self._left = int(match[1], 16)
        if len(self.content) + self._left > self._most:
            raise ServeError(TOO_LARGE, f"the body is larger than {self._most} bytes")
        del rest[: end + 1]
        self._state = _DATA if self._left else _TRAILER
        return True

    def _trailer(self) -> bool:
        rest = self._rest
        end = rest.find(b"\r\n")
        if end < 0:
            if len(rest) > MOST_TRAILERS:
                raise ServeError(TOO_LARGE, "chunked body: the trailers are too long")
            return False
        self._trailers += end
        if self._trailers > MOST_TRAILERS:
            raise ServeError(TOO_LARGE, "chunked body: the trailers are too long")
        del rest[: end + 2]
        if end == 0:
            self._state = _DONE
        return end != 0


def inflated(data: memoryview | bytes, encoding: str, most: Bytes) -> bytes:
    """A ``gzip`` or ``deflate`` body as it was.  Raises ServeError for a broken one or more than ``most`` bytes.

    ``deflate`` is the zlib format (RFC 9110); the bare form that some clients send is understood too.
    """
    if encoding == "gzip":
        return _inflated(data, 16 + zlib.MAX_WBITS, most)
    bare = len(data) < 2 or data[0] & 0x0F != 8 or (data[0] * 256 + data[1]) % 31 != 0
    return _inflated(data, -zlib.MAX_WBITS if bare else zlib.MAX_WBITS, most)


def _inflated(data: memoryview | bytes, window: int, most: Bytes) -> bytes:
    stream = zlib.decompressobj(window)
    try:
        made = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise ServeError(INVALID, f"the compressed body is broken ({error})") from None
    if len(made) > most:
        raise ServeError(TOO_LARGE, f"the body inflates to more than {most} bytes")
    if not stream.eof:
        raise ServeError(INVALID, "the compressed body is incomplete")
    return made
