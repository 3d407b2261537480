"""One HTTP exchange on a raw socket: requests that no client library would send, and what came back."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Answer:
    """``status`` None: the connection was closed (or nothing came in time) without an answer."""

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    late: bool = False

    @property
    def document(self) -> Any:
        """The JSON part of the body, or None."""
        length = self.headers.get("inference-header-content-length")
        try:
            return json.loads(self.body[: int(length)] if length is not None else self.body)
        except ValueError:
            return None

    @property
    def tail(self) -> bytes:
        """What follows the JSON: binary tensors."""
        return self.body[int(self.headers.get("inference-header-content-length", len(self.body))) :]


def exchange(port: int, content: bytes, *, timeout_s: float = 5.0, method: str = "POST") -> Answer:
    """Send ``content`` as it is and read one answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A server may answer and close before it has read everything.
        with contextlib.suppress(ConnectionError):
            connection.sendall(content)
        try:
            return read_answer(connection.makefile("rb"), method)
        except TimeoutError:
            return Answer(None, late=True)
        except (ConnectionError, ValueError):
            return Answer(None)


def read_answer(stream: Any, method: str = "POST") -> Answer:
    """Raises ConnectionError where the stream ends before an answer does."""
    while True:
        line = stream.readline(65536)
        if not line:
            raise ConnectionError("closed")
        status = int(line.split()[1])
        headers: dict[str, str] = {}
        while (line := stream.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        if status != 100:
            break
    if method == "HEAD" or status in (204, 304):
        return Answer(status, headers)
    if "chunked" in headers.get("transfer-encoding", ""):
        return Answer(status, headers, _chunks(stream))
    if "content-length" in headers:
        return Answer(status, headers, _exactly(stream, int(headers["content-length"])))
    return Answer(status, headers, stream.read())


def _exactly(stream: Any, count: int) -> bytes:
    found = stream.read(count)
    if len(found) != count:
        raise ConnectionError(f"{len(found)} of {count} bytes")
    return bytes(found)


def _chunks(stream: Any) -> bytes:
    parts = []
    while size := int(stream.readline().split(b";")[0], 16):
        parts.append(_exactly(stream, size))
        stream.readline()
    stream.readline()
    return b"".join(parts)
