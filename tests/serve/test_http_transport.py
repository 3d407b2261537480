"""HTTP itself, byte by byte: bodies in every form, order, limits, and what must be refused."""

import asyncio
import gzip
import json
import socket
import time
import zlib

import numpy as np
import pytest

from assay.serve.http.listener import Listener
from assay.serve.http.message import Answer
from assay.serve.settings import Limits

X = np.arange(8, dtype=np.float32).reshape(2, 4)


def infer_json(x=X, **more):
    tensor = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return json.dumps({"inputs": [tensor], **more}).encode()


def post(path, body=b"", headers=()):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Wire:
    """A client that says exactly what it is told."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.rest = b""

    def say(self, data):
        self.socket.sendall(data)
        return self

    def answer(self):
        """(status, headers, body); None at the end of the stream."""
        while b"\r\n\r\n" not in self.rest:
            if not self._more():
                return None
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
        size = int(headers.get("content-length", 0))
        while len(self.rest) < size:
            assert self._more(), "the answer was cut short"
        body, self.rest = self.rest[:size], self.rest[size:]
        return int(first.split()[1]), headers, body

    def closed(self):
        """Whether the server hangs up without another word."""
        try:
            return not self.rest and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            return False
        self.rest += data
        return bool(data)


@pytest.fixture
def wire(server):
    made = []

    def connect(port=None):
        made.append(Wire(port or server.port))
        return made[-1]

    yield connect
    for one in made:
        one.socket.close()


def check(answer, x=X):
    status, _, body = answer
    assert status == 200, body
    (output,) = json.loads(body)["outputs"]
    assert output["shape"] == [len(x), 2]
    assert output["data"] == np.repeat(x[:, 0], 2).tolist()


INFER = "/v2/models/null/infer"


def test_a_connection_is_kept(wire):
    one = wire()
    for row in range(5):
        x = X + row
        check(one.say(post(INFER, infer_json(x))).answer(), x)


def test_pipelined_requests_are_answered_in_their_order(wire):
    requests = [X + n for n in range(40)]  # more than are worked on at one time
    one = wire().say(b"".join(post(INFER, infer_json(x)) for x in requests))
    for x in requests:
        check(one.answer(), x)


def test_slow_and_quick_requests_keep_their_order(wire):
    one = wire().say(
        post(INFER, infer_json())
        + b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n"
        + post("/v2/repository/index", b"{}", ["Content-Type: application/json"])
        + b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n"
        + post(INFER, infer_json(X + 1))
    )
    check(one.answer())
    assert one.answer()[0] == 200
    assert {m["name"] for m in json.loads(one.answer()[2])} == {"many", "null", "pictures"}
    assert one.answer()[0] == 404
    check(one.answer(), X + 1)


def test_a_request_may_come_byte_by_byte(wire):
    one = wire()
    for byte in post(INFER, infer_json()):
        one.say(bytes([byte]))
    check(one.answer())


@pytest.mark.parametrize("sizes", [(1,), (7, 3), (1000,), (60,)])
def test_chunked_bodies(wire, sizes):
    body, chunks, at = infer_json(), b"", 0
    while at < len(body):
        size = sizes[at % len(sizes)]
        piece = body[at : at + size]
        chunks += f"{len(piece):x};note=1\r\n".encode() + piece + b"\r\n"
        at += size
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    one = wire().say(head + chunks + b"0\r\nTrailer: x\r\n\r\n" + post(INFER, infer_json(X + 3)))
    check(one.answer())
    check(one.answer(), X + 3)


@pytest.mark.parametrize("broken", [b"zz\r\n", b"5\nhello\r\n", b"3\r\nhello\r\n", b"-1\r\n", b"1" * 300])
def test_broken_chunks_are_refused(wire, broken):
    one = wire().say(f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + broken)
    status, headers, _ = one.answer()
    assert status == 400
    assert headers["connection"] == "close"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "bare"])
def test_compressed_bodies(wire, coding):
    body = infer_json()
    if coding == "gzip":
        packed = gzip.compress(body)
    elif coding == "deflate":
        packed = zlib.compress(body)
    else:
        stream = zlib.compressobj(wbits=-15)
        packed = stream.compress(body) + stream.flush()
    name = "gzip" if coding == "gzip" else "deflate"
    check(wire().say(post(INFER, packed, [f"Content-Encoding: {name}"])).answer())


def test_broken_and_truncated_compression_is_refused(wire):
    packed = gzip.compress(infer_json())
    for body in (b"no gzip at all", packed[:-12]):
        assert wire().say(post(INFER, body, ["Content-Encoding: gzip"])).answer()[0] == 400
    assert wire().say(post(INFER, packed, ["Content-Encoding: br"])).answer()[0] == 415


def test_continue_is_said_before_the_body(wire):
    body = infer_json()
    head, _, _ = post(INFER, body, ["Expect: 100-continue"]).partition(b"\r\n\r\n")
    one = wire().say(head + b"\r\n\r\n")
    assert one.answer()[0] == 100
    check(one.say(body).answer())


def test_a_refused_request_is_not_told_to_continue(wire):
    body = infer_json()
    head, _, _ = post("/v2/models/nobody/infer", body, ["Expect: 100-continue"]).partition(b"\r\n\r\n")
    assert wire().say(head + b"\r\n\r\n").answer()[0] == 404


def test_after_a_refused_body_the_connection_goes_on(wire):
    one = wire().say(post("/v2/models/nobody/infer", infer_json()) + post(INFER, infer_json()))
    assert one.answer()[0] == 404
    check(one.answer())


HEADS = {
    "two lengths": [b"Content-Length: 3", b"Content-Length: 3"],
    "length and chunked": [b"Content-Length: 3", b"Transfer-Encoding: chunked"],
    "negative length": [b"Content-Length: -3"],
    "hex length": [b"Content-Length: 0x3"],
    "plus length": [b"Content-Length: +3"],
    "huge length": [b"Content-Length: 99999999999999999999999"],
    "unknown coding": [b"Transfer-Encoding: gzip, chunked"],
    "two hosts": [b"Host: b", b"Content-Length: 3"],
    "negative json": [b"Inference-Header-Content-Length: -1", b"Content-Length: 3"],
    "a space before the colon": [b"Content-Length : 3"],
    "a folded header": [b"X: a\r\n b", b"Content-Length: 3"],
    "a nul": [b"X: a\0b", b"Content-Length: 3"],
    "too many": [b"X%d: 1" % n for n in range(200)],
}


@pytest.mark.parametrize("name", HEADS)
def test_doubtful_heads_are_refused_and_the_connection_closed(wire, name):
    head = f"POST {INFER} HTTP/1.1\r\nHost: a\r\n".encode() + b"\r\n".join(HEADS[name])
    one = wire().say(head + b"\r\n\r\nabc")
    found = one.answer()
    assert found is None or (400 <= found[0] < 500 and one.closed())


@pytest.mark.parametrize(
    "text", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_what_is_no_request_is_refused(wire, text):
    one = wire().say(text)
    found = one.answer()
    assert found is None or found[0] == 400
    assert one.closed()


def test_errors_say_what_is_wrong_in_the_protocols_form(wire):
    one = wire().say(b"DELETE /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
    status, headers, body = one.answer()
    assert (status, headers["allow"]) == (405, "GET")
    assert "GET is" in json.loads(body)["error"]


def test_the_request_id_comes_back(wire):
    one = wire().say(b"GET /v2 HTTP/1.1\r\nHost: a\r\nX-Request-ID: abc-1\r\n\r\n")
    assert one.answer()[1]["x-request-id"] == "abc-1"


def test_old_and_closing_clients_are_left_after_the_answer(wire):
    for head in (b"GET /v2 HTTP/1.0\r\n\r\n", b"GET /v2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):
        one = wire().say(head)
        assert one.answer()[0] == 200
        assert one.closed()


def test_half_a_request_and_gone_leaves_nothing_behind(wire, server):
    for cut in (10, 100, 150):
        one = wire().say(post(INFER, infer_json())[:cut])
        one.socket.close()
    check(wire().say(post(INFER, infer_json())).answer())


# Limits


@pytest.fixture(scope="module")
def strict(running, null):
    limits = {
        "head": 1024,
        "body": 4096,
        "inflated": 4096,
        "connections": 8,
        "head_s": 0.3,
        "body_s": 0.3,
        "slowest": "1MB",
        "idle_s": 0.4,
    }
    with running({"model": [{"source": str(null), "name": "null"}], "limits": limits}) as found:
        yield found


def test_large_heads_and_bodies_are_refused(wire, strict):
    one = wire(strict.port).say(b"GET /v2 HTTP/1.1\r\nX: " + b"a" * 2000)
    assert one.answer()[0] == 431
    assert wire(strict.port).say(post(INFER, b"x" * 5000)).answer()[0] == 413
    one = wire(strict.port).say(
        f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n".encode()
    )
    assert one.answer()[0] == 413


def test_a_refusal_reaches_a_client_that_sends_on(wire, strict):
    one = wire(strict.port)
    one.say(f"POST {INFER} HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n".encode())
    for _ in range(20):
        one.say(b"x" * 10_000)
    assert one.answer()[0] == 413


def test_a_body_may_inflate_to_its_limit(wire, strict):
    body = infer_json().ljust(4096)
    check(wire(strict.port).say(post(INFER, gzip.compress(body), ["Content-Encoding: gzip"])).answer())
    one = wire(strict.port).say(post(INFER, gzip.compress(body + b" "), ["Content-Encoding: gzip"]))
    assert one.answer()[0] == 413


def test_a_bomb_is_not_inflated(wire, strict):
    packed = gzip.compress(b"0" * 10_000_000)[:4000]
    assert wire(strict.port).say(post(INFER, packed, ["Content-Encoding: gzip"])).answer()[0] == 413


def test_slow_heads_and_bodies_are_given_up(wire, strict):
    one = wire(strict.port).say(b"GET /v2 HTTP/1.1\r\nHos")
    assert one.answer()[0] == 408
    assert one.closed()
    one = wire(strict.port).say(post(INFER, infer_json())[:-5])
    assert one.answer()[0] == 408


def test_idle_connections_are_closed(wire, strict):
    one = wire(strict.port).say(b"GET /v2 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert one.answer()[0] == 200
    assert one.closed()


def test_too_many_connections_are_turned_away(wire, running, null):
    with running({"model": [{"source": str(null), "name": "null"}], "limits": {"connections": 8}}) as found:
        many = [wire(found.port) for _ in range(12)]
        for one in many[:8]:
            check(one.say(post(INFER, infer_json())).answer())
        status, headers, _ = many[-1].answer()
    assert status == 503
    assert int(headers["retry-after"]) >= 1


@pytest.mark.parametrize("size", [5_000, 20_000, 31_000])
def test_a_head_may_grow_up_to_its_limit(wire, size):
    one = wire().say(post(INFER, infer_json(), [f"X-Long: {'a' * size}"]) + post(INFER, infer_json(X + 2)))
    check(one.answer())
    check(one.answer(), X + 2)


def test_a_long_tail_of_pipelined_requests_behind_a_chunked_one(wire):
    body = infer_json()
    chunked = f"POST {INFER} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
    tail = b"".join(post(INFER, infer_json(X + n)) for n in range(60))
    one = wire().say(chunked + body + b"\r\n0\r\n\r\n" + tail)
    check(one.answer())
    for n in range(60):
        check(one.answer(), X + n)


def test_what_follows_a_refused_body_in_the_same_packet_is_the_next_request(wire):
    body = infer_json() + b" " * 20_000
    first = post("/v2/models/nobody/infer", body)
    one = wire().say(first[:12_000])
    time.sleep(0.1)  # the head and a part of the body are read before the rest comes
    one.say(first[12_000:] + post(INFER, infer_json()) + post(INFER, infer_json(X + 1)))
    assert one.answer()[0] == 404
    check(one.answer())
    check(one.answer(), X + 1)


def test_a_thousand_pipelined_chunked_requests_are_no_thousand_calls_deep(wire, server):
    live = b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    heard = len(server.events)
    one = wire().say(live[:-2])
    time.sleep(0.1)  # the rest is received as a chunked body's: 64 KiB at one time
    one.say(live[-2:] + live * 1500)
    for _ in range(1501):
        assert one.answer()[0] == 200
    assert len(server.events) == heard, server.events[heard:]


def test_a_client_that_does_not_read_the_last_answer_is_left():
    """What was written before ``close`` may wait for the client for ever: too little to be called stuck."""

    class Pages:
        def admit(self, head):
            pass

        def handle(self, exchange):
            exchange.release()
            exchange.reply(Answer(200, (bytes(8000),)))

    async def main():
        listener = Listener(Pages(), Limits(write_s=0.2))
        port = await listener.start("127.0.0.1", 0)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            while not listener.connections:
                await asyncio.sleep(0.01)
            (connection,) = listener._connections
            while connection._transport.get_write_buffer_size() == 0:
                client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                await asyncio.sleep(0.001)
            assert connection._stuck_s is None
            listener.stop_accepting()
            for _ in range(1000):
                if not listener.connections:
                    break
                await asyncio.sleep(0.01)
            left = listener.connections
        await listener.drained(0.0)
        return left

    assert asyncio.run(main()) == 0


def test_a_body_that_takes_longer_than_an_answer_may_is_answered_all_the_same():
    """``request_s`` counts from the complete request; the body has a limit of its own."""

    class Pages:
        def admit(self, head):
            pass

        def handle(self, exchange):
            size = len(exchange.body)
            exchange.release()
            exchange.reply(Answer(200, (str(size).encode(),)))

    async def main():
        listener = Listener(Pages(), Limits(request_s=0.01))
        port = await listener.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
        while not listener.connections:
            await asyncio.sleep(0.01)
        (connection,) = listener._connections
        while connection._current is None:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        connection.sweep(connection._now())
        writer.write(b"other")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        body = await reader.readexactly(2)
        writer.close()
        listener.stop_accepting()
        await listener.drained(0.0)
        return head.split()[1], body

    assert asyncio.run(main()) == (b"200", b"10")
