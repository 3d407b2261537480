"""Answers as bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from assay.serve.errors import METHOD, UNAUTHENTICATED, ServeError

REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}
JSON = "application/json"
BINARY = "application/octet-stream"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Part = bytes | memoryview


class Answer:
    """``parts`` follow each other as the body; ``headers`` are lines besides type, length and connection."""

    __slots__ = ("content_type", "headers", "parts", "status")

    def __init__(
        self, status: int, parts: Sequence[Part] = (), content_type: str = JSON, headers: Sequence[str] = ()
    ) -> None:
        self.status = status
        self.parts = parts
        self.content_type = content_type
        self.headers = headers

    @property
    def size(self) -> int:
        return sum([len(part) for part in self.parts])

    def head(self, *, close: bool, request_id: str) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {REASONS[self.status]}\r\nContent-Type: {self.content_type}"]
        lines.append(f"Content-Length: {self.size}")
        lines.extend(self.headers)
        if request_id:
            lines.append(f"X-Request-ID: {request_id}")
        if close:
            lines.append("Connection: close")
        lines.append("\r\n")
        return "\r\n".join(lines).encode("latin-1")


def json_answer(value: Any, status: int = 200) -> Answer:
    return Answer(status, (json.dumps(value, separators=(",", ":")).encode(),))


def empty_answer(status: int = 200) -> Answer:
    return Answer(status, (), "text/plain")


def error_answer(error: ServeError) -> Answer:
    """The protocol's error object, with Retry-After (whole seconds, at least 1) where waiting helps."""
    headers: list[str] = []
    if error.retry_after_s is not None:
        headers.append(f"Retry-After: {max(1, math.ceil(min(error.retry_after_s, 3600)))}")
        headers.append(f"X-Retry-After-Ms: {math.ceil(1e3 * min(error.retry_after_s, 3600))}")
    if error.kind is UNAUTHENTICATED:
        headers.append('WWW-Authenticate: Bearer realm="assay"')
    if error.kind is METHOD:
        headers.append(f"Allow: {error.allow}")
    return Answer(error.kind.status, (json.dumps({"error": error.message}).encode(),), JSON, headers)
