"""A client that sends every request at its own time, whatever happened to those before it.

It has at most ``CONNECTIONS``; a request that finds all of them busy waits for one, and its latency counts from the
moment it was due.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

CONNECTIONS = 256
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")


@dataclass(frozen=True)
class Arrived:
    """Seconds from the scheduled moment to the answer (inf where it was not 200), and the other statuses.

    Status 0 is a connection that ended without an answer.
    """

    latencies_s: np.ndarray[Any, Any]
    others: dict[int, int]


def send(port: int, messages: Sequence[bytes], times_s: Any, *, patience_s: float = 60.0) -> Arrived:
    """Send ``messages`` in turns at ``times_s`` (seconds from now)."""
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    found: Arrived = run(_send(port, messages, times_s, patience_s))
    return found


def poisson_times(rate: float, duration_s: float, seed: int) -> Any:
    gaps = np.random.default_rng(seed).exponential(1.0 / rate, max(1, round(rate * duration_s)))
    return np.cumsum(gaps)


def capacity(port: int, messages: Sequence[bytes], clients: int, duration_s: float) -> float:
    """Requests/s of ``clients`` that each send the next request when the last is answered."""
    return asyncio.run(_closed(port, messages, clients, duration_s))


class Exchange(asyncio.Protocol):
    """One connection, one request at a time.  Answers have a Content-Length."""

    def __init__(self) -> None:
        self.transport: Any = None
        self._waiter: asyncio.Future[int] | None = None
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, message: bytes) -> asyncio.Future[int]:
        self._waiter = asyncio.get_running_loop().create_future()
        if self.transport.is_closing():
            self._waiter.set_result(0)
        else:
            self.transport.write(message)
        return self._waiter

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        found = _LENGTH.search(head)
        length = int(found[1]) if found else 0
        if len(body) >= length and self._waiter is not None and not self._waiter.done():
            status = int(head.split(b" ", 2)[1])
            del self._buffer[:]
            self._waiter.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(0)


async def _send(port: int, messages: Sequence[bytes], times_s: Any, patience_s: float) -> Arrived:
    loop = asyncio.get_running_loop()
    latencies = np.full(len(times_s), np.inf)
    others: Counter[int] = Counter()
    idle = [await _connect(port) for _ in range(16)]
    waiting: set[asyncio.Task[None]] = set()
    room = asyncio.Semaphore(CONNECTIONS)

    async def one(index: int, due: float) -> None:
        async with room:
            while idle and idle[-1].transport.is_closing():
                idle.pop()
            connection = idle.pop() if idle else await _connect(port)
            status = await connection.send(messages[index % len(messages)])
            if status == 200:
                latencies[index] = time.perf_counter() - due
            else:
                others[status] += 1
            if status:
                idle.append(connection)

    start = time.perf_counter() + 0.02
    for index, offset in enumerate(times_s):
        due = start + float(offset)
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = loop.create_task(one(index, due))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    if waiting:
        await asyncio.wait_for(asyncio.gather(*waiting), patience_s)
    for connection in idle:
        connection.transport.close()
    return Arrived(latencies, dict(others))


async def _connect(port: int) -> Exchange:
    _, connection = await asyncio.get_running_loop().create_connection(Exchange, "127.0.0.1", port)
    return connection


async def _closed(port: int, messages: Sequence[bytes], clients: int, duration_s: float) -> float:
    until = time.perf_counter() + duration_s
    done = 0

    async def client(first: int) -> None:
        nonlocal done
        connection, index = await _connect(port), first
        while time.perf_counter() < until:
            status = await connection.send(messages[index % len(messages)])
            if status != 200:
                raise RuntimeError(f"status {status} while the capacity was measured")
            index, done = index + 1, done + 1
        connection.transport.close()

    await asyncio.gather(*(client(i) for i in range(clients)))
    return done / duration_s
