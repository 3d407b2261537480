"""Bodies of all clients together: what came is counted until it is answered, what was only announced is not."""

import gzip
import io
import json
import socket
import time

import pytest
from PIL import Image

from assay.serve.http.listener import Listener

LIMIT = 40_000
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}
BODY = json.dumps({"inputs": [TENSOR]}).encode()


@pytest.fixture
def listeners(monkeypatch):
    """Those that servers make; a server's first one is REST's."""
    made = []

    class Noted(Listener):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr("assay.serve.server.Listener", Noted)
    return made


@pytest.fixture
def small(running, null, listeners):
    limits = {"body": LIMIT // 2, "inflated": LIMIT // 2, "bodies": 1}
    with running({"model": [{"source": str(null), "name": "null"}], "limits": limits}) as found:
        found.memory = listeners[0].memory
        assert found.memory.limit == LIMIT
        yield found


def until(server, count):
    deadline = time.monotonic() + 10
    while server.memory.used != count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.memory.used == count


def head(length, *more):
    lines = ["POST /v2/models/null/infer HTTP/1.1", "Host: localhost", length, *more, "", ""]
    return "\r\n".join(lines).encode()


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def everything(client):
    return b"".join(iter(lambda: client.recv(65536), b""))


def asked(server, body, *more):
    """The status and whether it says when to come again."""
    with connect(server) as client:
        client.sendall(head(f"Content-Length: {len(body)}", "Connection: close", *more) + body)
        said = everything(client)
    return int(said.split()[1]), b"retry-after: 1" in said.lower()


@pytest.mark.parametrize("form", ["length", "chunked"])
def test_what_came_is_counted_and_more_is_refused_until_there_is_room(small, form):
    slow = [connect(small) for _ in range(2)]
    for one in slow:
        if form == "length":
            one.sendall(head(f"Content-Length: {LIMIT // 2}") + bytes(19_000))
        else:
            one.sendall(head("Transfer-Encoding: chunked") + b"4a39\r\n" + bytes(19_000))
    until(small, 38_000)
    assert asked(small, BODY)[0] == 200
    assert asked(small, BODY + b" " * 3_000) == (503, True)
    assert asked(small, gzip.compress(BODY + b" " * 10_000), "Content-Encoding: gzip") == (503, True)
    until(small, 38_000)
    for one in slow:
        one.close()
    until(small, 0)
    assert asked(small, BODY + b" " * 3_000)[0] == 200
    assert asked(small, gzip.compress(BODY + b" " * 10_000), "Content-Encoding: gzip")[0] == 200
    until(small, 0)


def test_what_is_only_announced_locks_nobody_out(small):
    silent = [connect(small) for _ in range(20)]
    for one in silent:
        one.sendall(head(f"Content-Length: {LIMIT // 2}") + b"{")
    until(small, 20)
    assert asked(small, BODY + b" " * 19_000)[0] == 200
    for one in silent:
        one.close()
    until(small, 0)


def test_refused_and_broken_requests_hold_nothing(small):
    assert asked(small, b"{" * 5_000)[0] == 400
    assert asked(small, bytes(LIMIT))[0] == 413
    assert asked(small, b"no gzip", "Content-Encoding: gzip")[0] == 400
    until(small, 0)


def test_one_byte_chunks_hold_what_they_carry(small):
    """The framing of a chunk takes six times what it carries here."""
    chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in BODY + b" " * 12_000) + b"0\r\n\r\n"
    with connect(small) as client:
        client.sendall(head("Transfer-Encoding: chunked", "Connection: close") + chunks)
        said = everything(client)
    assert said.startswith(b"HTTP/1.1 200 ")
    until(small, 0)


def test_a_picture_is_held_until_it_is_answered(running, classifier, listeners, monkeypatch):
    """Its bytes wait for a decoder long after they were received."""
    seen = []
    png = io.BytesIO()
    Image.effect_noise((400, 400), 90).convert("RGB").save(png, "png")
    content = png.getvalue()
    with running({"model": [{"source": str(classifier), "name": "pictures"}]}) as server:
        (rest, *_) = listeners
        submit = rest.application._submits.submit

        def noted(request, done):
            seen.append(rest.memory.used)
            return submit(request, done)

        monkeypatch.setattr(rest.application._submits, "submit", noted)
        with connect(server) as client:
            lines = ["POST /predict/pictures HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
            client.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + content)
            said = everything(client)
        assert said.startswith(b"HTTP/1.1 200 "), said[:300]
    assert seen == [len(content)]
    assert rest.memory.used == 0
