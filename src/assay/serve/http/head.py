"""The head of an HTTP request: parsed by llhttp, then checked for what a server must not guess about."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from assay.serve.errors import EXPECTATION, INVALID, MEDIA_TYPE, ServeError

MOST_HEADERS = 100
KNOWN_HEADS = 256
SHORT_HEAD = 1024
"""Heads up to this size are remembered: a client sends the same one with every request."""
ONCE = frozenset({"content-length", "host", "transfer-encoding", "inference-header-content-length", "authorization"})
ENCODINGS = ("", "identity", "gzip", "deflate")


class Head:
    """A request's first line and headers (lower-case names); equal names are joined with ``", "``.

    ``length`` is None for a chunked body; ``json_length`` is Inference-Header-Content-Length or None.
    """

    __slots__ = (
        "chunked",
        "encoding",
        "expects",
        "headers",
        "json_length",
        "keep_alive",
        "length",
        "method",
        "path",
        "query",
        "route",
    )

    def __init__(self, method: str, target: str, headers: dict[str, str], keep_alive: bool) -> None:
        path, _, query = target.partition("?")
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.keep_alive = keep_alive
        self.route: Any = None
        self.chunked = _chunked(headers)
        self.length: int | None = None if self.chunked else _natural(headers, "content-length", 0)
        self.json_length = _natural(headers, "inference-header-content-length", None)
        self.encoding = headers.get("content-encoding", "").lower()
        if self.encoding not in ENCODINGS:
            raise ServeError(MEDIA_TYPE, f"Content-Encoding {self.encoding!r}; known: gzip, deflate")
        expect = headers.get("expect", "").lower()
        if expect not in ("", "100-continue"):
            raise ServeError(EXPECTATION, f"Expect: {expect!r} is not known here")
        self.expects = bool(expect)

    def segments(self) -> tuple[str, ...]:
        """The path's parts, decoded."""
        return tuple(unquote(part) for part in self.path.split("/") if part)


class HeadParser:
    """Remembers the heads it saw last."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def parse(self, raw: bytes) -> Head:
        """``raw`` ends with the empty line.  Raises ServeError for anything doubtful."""
        found = self._known.get(raw)
        if found is not None:
            return found
        made = _parse(raw)
        if len(raw) <= SHORT_HEAD:
            if len(self._known) >= KNOWN_HEADS:
                self._known.clear()
            self._known[raw] = made
        return made


class _Collector:
    """llhttp's callbacks."""

    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def _parse(raw: bytes) -> Head:
    import httptools

    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # answered like any other request; nothing here upgrades
    except httptools.HttpParserError as error:
        raise ServeError(INVALID, f"this is not an HTTP request ({error})") from None
    if not collector.complete:
        raise ServeError(INVALID, "the request's header is not complete")
    if parser.get_http_version() not in ("1.1", "1.0"):
        raise ServeError(INVALID, f"HTTP {parser.get_http_version()} is not spoken here")
    if len(collector.headers) > MOST_HEADERS:
        raise ServeError(INVALID, f"{len(collector.headers)} headers; at most {MOST_HEADERS} are read")
    headers = _headers(collector.headers)
    wishes = {word.strip().lower() for word in headers.get("connection", "").split(",")}
    keep_alive = "close" not in wishes and (parser.get_http_version() == "1.1" or "keep-alive" in wishes)
    return Head(parser.get_method().decode("ascii"), collector.url.decode("latin-1"), headers, keep_alive)


def _headers(found: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in found:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
        if name in headers:
            if name in ONCE:
                raise ServeError(INVALID, f"the header {name} stands there twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    if "content-length" in headers and "transfer-encoding" in headers:
        raise ServeError(INVALID, "Content-Length and Transfer-Encoding contradict each other")
    return headers


def _chunked(headers: dict[str, str]) -> bool:
    coding = headers.get("transfer-encoding", "").lower()
    if coding not in ("", "chunked"):
        raise ServeError(INVALID, f"Transfer-Encoding {coding!r} is not known here; chunked is")
    return bool(coding)


def _natural(headers: dict[str, str], name: str, missing: Any) -> Any:
    text = headers.get(name)
    if text is None:
        return missing
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise ServeError(INVALID, f"{name} must be a number of bytes, not {text[:40]!r}")
    return int(text)
