"""Requests that no client would send, at ``assay serve``: each gets an answer below 500 or a closed connection.

    scripts/fuzz-serve [--count 10000] [--seed 0]

REST: the requests of corpus.py with bytes changed, cut, doubled or put in, JSON of wrong shapes, wrong lengths,
negative and huge dims, deep nesting, truncated bodies, header floods.  gRPC: garbage, and HTTP/2 sessions with
random frames.  Beside them, connections that send a byte now and then (slow loris).  Afterwards the server must
be alive, answer as before, and hold no more connections, threads (but for pools that grew) or memory (within
5 %) than after a tenth of the requests.  Every request comes from (seed, number), so that a finding can be
repeated with --only NUMBER.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.serve_peers.corpus import ROW, cases, infer, request, x
from tests.serve_peers.exchange import exchange, read_answer
from tests.serve_peers.models import bundles
from tests.serve_peers.ours import Ours, ours

from assay.core.child import tree_rss

HANG_S = 20.0
GROWTH, THREADS = 0.05, 8
"""Memory and threads that may come: pools grow to their full size at some time, leaks with every request."""
LORIS = 8
WORKERS = 4
CORPUS = [case.content for case in cases() if len(case.content) < 50_000]
PLAIN = json.dumps({"inputs": [x()]}).encode()
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Fuzzed:
    """Outcomes by kind ("400", "closed", …), and what must not be: (number, kind, what)."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[int, str, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """What was still held, or not answered, at the end."""


def mutated(draw: random.Random) -> bytes:
    content = bytearray(draw.choice(CORPUS))
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(content) + 1)
        what = draw.randrange(5)
        if what == 0 and at < len(content):
            content[at] = draw.randrange(256)
        elif what == 1:
            del content[at : at + draw.randint(1, 20)]
        elif what == 2:
            content[at:at] = draw.randbytes(draw.randint(1, 20))
        elif what == 3:
            content[at:at] = content[at : at + draw.randint(1, 200)]
        else:
            words = (
                b"\r\n",
                b"\0",
                b"-1",
                b"9" * 30,
                b"[[[[",
                b'"',
                b"NaN",
                b"%00",
                b"../",
                b"chunked",
                b"{}",
                b"e999",
            )
            content[at:at] = draw.choice(words)
    return bytes(content)


def odd_document(draw: random.Random) -> bytes:
    """JSON of the right form with wrong things in it."""

    def thing(depth: int = 0) -> object:
        plain: list[Callable[[], object]] = [
            lambda: draw.choice([None, True, False, "", "x", "FP32", "ü\0", [], {}]),
            lambda: draw.choice([0, 1, -1, 16, 1 << 31, 1 << 63, -(1 << 63), 1 << 200, 1e308, 1e-320, 0.5]),
        ]
        deeper: list[Callable[[], object]] = [
            lambda: [thing(depth + 1) for _ in range(draw.randint(0, 4))],
            lambda: {draw.choice(["name", "shape", "data", "a", ""]): thing(depth + 1) for _ in range(3)},
        ]
        return draw.choice(plain if depth > 3 else plain + deeper)()

    given: dict[str, object] = dict(x())
    for _ in range(draw.randint(1, 3)):
        given[draw.choice(["name", "shape", "datatype", "data", "parameters"])] = thing()
    document: dict[str, object] = {"inputs": [given]}
    if draw.random() < 0.5:
        document[draw.choice(["id", "parameters", "outputs", "inputs"])] = thing()
    return infer(draw.choice(["small", "pair", "id_BYTES", "id_INT8"]), document)


def odd_shape(draw: random.Random) -> bytes:
    shape = [
        draw.choice([-1, 0, 1, 2, 16, 17, 1 << 20, 1 << 40, 1 << 63, -(1 << 62)]) for _ in range(draw.randint(0, 9))
    ]
    raw = draw.randbytes(draw.choice([0, 1, 63, 64, 65, 128]))
    if draw.random() < 0.5:
        return infer("small", {"inputs": [x(ROW * draw.randint(0, 3), shape)]})
    given = {
        "name": "x",
        "shape": shape,
        "datatype": "FP32",
        "parameters": {"binary_data_size": draw.choice([len(raw), 64])},
    }
    return infer("small", {"inputs": [given]}, raw)


def deep(draw: random.Random) -> bytes:
    depth = draw.choice([100, 1_000, 50_000])
    left, right = draw.choice([(b"[", b"]"), (b'{"a":', b"}")])
    body = left * depth + (b"1" + right * depth if draw.random() < 0.5 else b"")
    return infer("small", b'{"inputs": ' + body + b"}")


def wrong_length(draw: random.Random) -> bytes:
    length = draw.choice([0, 1, len(PLAIN) - 1, len(PLAIN) + 1, len(PLAIN) + 1000, 1 << 40, -1, "x", "1e3", "0x1", ""])
    headers = {"Content-Length": str(length)}
    if draw.random() < 0.4:
        headers["Inference-Header-Content-Length"] = str(draw.choice([0, 1, -1, 1 << 62, "x", len(PLAIN), 5]))
    return request("POST", "/v2/models/small/infer", PLAIN, headers)


def truncated(draw: random.Random) -> bytes:
    content = draw.choice(CORPUS)
    return content[: draw.randrange(len(content))]


def flood(draw: random.Random) -> bytes:
    headers = {f"X-{i}": "a" * draw.choice([1, 10, 1000]) for i in range(draw.choice([50, 500, 5000]))}
    return request("POST", "/v2/models/small/infer", PLAIN, headers)


def chunks(draw: random.Random) -> bytes:
    body = b""
    for _ in range(draw.randint(1, 6)):
        size = draw.choice([b"5", b"0", b"fffffffffffffffff", b"-1", b"", b"5;a=b", b" 5", b"z", b"000000000005"])
        body += size + draw.choice([b"\r\n", b"\n", b""]) + draw.randbytes(5) + draw.choice([b"\r\n", b""])
    return request("POST", "/v2/models/small/infer", body, {"Transfer-Encoding": "chunked"})


def garbage(draw: random.Random) -> bytes:
    return draw.randbytes(draw.choice([1, 10, 100, 5000]))


def frames(draw: random.Random) -> bytes:
    """An HTTP/2 session as a gRPC client begins it, with random frames."""
    content = PREFACE + _frame(4, 0, 0, b"")
    for _ in range(draw.randint(1, 12)):
        kind = draw.choice([0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 200])
        payload = draw.randbytes(draw.choice([0, 1, 4, 5, 6, 8, 9, 40, 300]))
        if kind == 1 and draw.random() < 0.7:
            payload = _headers(draw)
        if kind == 0 and draw.random() < 0.7:
            payload = struct.pack(">BI", draw.choice([0, 1, 2]), draw.choice([0, 3, len(payload), 1 << 31])) + payload
        stream = draw.choice([0, 1, 1, 1, 2, 3, 5, 1 << 30])
        content += _frame(kind, draw.choice([0, 1, 4, 5, 8, 255]), stream, payload)
    return content[: draw.randrange(len(content))] if draw.random() < 0.2 else content


def _headers(draw: random.Random) -> bytes:
    """Literal header fields without indexing (RFC 7541 §6.2.2), some of them wrong."""
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"a"), (b"te", b"trailers")]
    method = draw.choice(
        [b"ModelInfer", b"ServerLive", b"Nothing", b"ModelStreamInfer", draw.randbytes(4).hex().encode()]
    )
    fields += [(b":path", b"/inference.GRPCInferenceService/" + method), (b"content-type", b"application/grpc")]
    if draw.random() < 0.3:
        fields.append((b"grpc-timeout", draw.choice([b"1n", b"-1S", b"99999999H", b"x", b""])))
    if draw.random() < 0.3:
        fields.pop(draw.randrange(len(fields)))
    draw.shuffle(fields)
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


REST = (
    mutated,
    mutated,
    mutated,
    odd_document,
    odd_document,
    odd_shape,
    deep,
    wrong_length,
    truncated,
    flood,
    chunks,
    garbage,
)
GRPC = (frames, frames, frames, garbage)


def one(number: int, seed: int) -> tuple[str, Callable[[random.Random], bytes], bytes]:
    """(protocol, what made it, the bytes): always the same for a number."""
    draw = random.Random(seed * 1_000_003 + number)
    protocol = "grpc" if number % 5 == 4 else "rest"
    make = draw.choice(GRPC if protocol == "grpc" else REST)
    return protocol, make, make(draw)


def fuzz(server: Ours, count: int, seed: int = 0, numbers: Iterator[int] | None = None) -> Fuzzed:
    found = Fuzzed()
    lock = threading.Lock()

    def shoot(number: int) -> None:
        protocol, make, content = one(number, seed)
        outcome = _ask(server.http if protocol == "rest" else server.grpc, content, protocol)
        with lock:
            found.outcomes[f"{protocol} {outcome}"] += 1
            if outcome == "hang" or outcome.startswith("5"):
                found.wrong.append((number, make.__name__, outcome))

    with _loris(server), ThreadPoolExecutor(WORKERS) as pool:
        for _ in pool.map(shoot, numbers or range(count)):
            if server.process.poll() is not None:
                break
    return found


def _ask(port: int, content: bytes, protocol: str) -> str:
    """Send, say that nothing more will come, and see what happens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            if protocol == "rest":
                return str(read_answer(connection.makefile("rb"), "HEAD" if content[:5] == b"HEAD " else "GET").status)
            while connection.recv(65536):
                pass
            return "closed"
    except TimeoutError:
        return "hang"
    except (ConnectionError, ValueError, IndexError, OSError):
        return "closed"


@contextlib.contextmanager
def _loris(server: Ours) -> Iterator[None]:
    """Connections that send a byte a second and never finish; the server may close them."""
    stop = threading.Event()

    def drip(index: int) -> None:
        port = server.grpc if index % 4 == 3 else server.http
        content = PREFACE if index % 4 == 3 else request("POST", "/v2/models/small/infer", PLAIN)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            for byte in content:
                connection.sendall(bytes([byte]))
                if stop.wait(1.0):
                    return

    threads = [threading.Thread(target=drip, args=(i,), daemon=True) for i in range(LORIS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


@dataclass(frozen=True)
class Held:
    connections: int
    threads: int
    memory: int


def held(server: Ours) -> Held:
    """What the server's process holds, once it has had time to let go of what it no longer needs."""
    process = Path(f"/proc/{server.process.pid}")
    found = []
    for _ in range(20):
        links = [link for link in (process / "fd").iterdir() if link.is_symlink()]
        names = []
        for link in links:
            with contextlib.suppress(OSError):
                names.append(str(link.readlink()))
        sockets = sum(name.startswith("socket:") for name in names)
        found.append(Held(sockets, len(list((process / "task").iterdir())), tree_rss(server.process.pid)))
        if len(found) > 3 and found[-1].connections == min(h.connections for h in found):
            break
        time.sleep(0.25)
    return found[-1]


def compare(server: Ours, before: Held, found: Fuzzed, *, memory: bool) -> None:
    """Fill ``found.left`` with what is not as it was."""
    if server.process.poll() is not None:
        found.left.append(f"the server ended with {server.process.returncode}")
        return
    answer = exchange(server.http, infer("small", {"inputs": [x()]}), timeout_s=HANG_S)
    if answer.status != 200:
        found.left.append(f"a good request is answered with {answer.status}")
    now = held(server)
    if now.connections > before.connections:
        found.left.append(f"{now.connections - before.connections} connections more than before")
    if now.threads > before.threads + THREADS:
        found.left.append(f"{now.threads - before.threads} threads more than before")
    if memory and now.memory > before.memory * (1 + GROWTH):
        found.left.append(f"memory grew from {before.memory / 2**20:.0f} to {now.memory / 2**20:.0f} MiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="NUMBER", help="send just this one, and show it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        made = bundles(Path(name))
        names = ("small", "pair", "id_BYTES", "id_INT8")
        with ours([made[n] for n in names], Path(name) / "log") as server:
            if arguments.only is not None:
                protocol, make, content = one(arguments.only, arguments.seed)
                print(protocol, make.__name__, content[:2000])
                print(exchange(server.http if protocol == "rest" else server.grpc, content, timeout_s=5.0))
                return 0
            tenth = arguments.count // 10
            fuzz(server, tenth, arguments.seed + 1)
            before = held(server)
            found = fuzz(server, arguments.count - tenth, arguments.seed)
            compare(server, before, found, memory=arguments.count >= 5000)
            log = (Path(name) / "log").read_text()
    for outcome, number in sorted(found.outcomes.items()):
        print(f"{outcome:<14} {number}")
    for number, kind, what in found.wrong[:20]:
        print(f"WRONG: request {number} ({kind}): {what}")
    for text in found.left:
        print(f"WRONG: {text}")
    if "Traceback" in log:
        print("WRONG: a traceback in the server's log:\n" + log[log.index("Traceback") :][:3000])
    return 1 if found.wrong or found.left or "Traceback" in log else 0


if __name__ == "__main__":
    sys.exit(main())
