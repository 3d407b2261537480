"""Clients for benchmarks/serve.py: perf_analyzer and wrk, and one for arrivals on a schedule.

perf_analyzer (NVIDIA's, in the wheel tritonclient 2.51.0) and wrk are the same programs with the same arguments
for every server.  CPU seconds of servers are read from /proc around each block, those of clients from rusage.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.serve_peers import triton as peer
from tests.serve_peers.open_loop import Arrived, poisson_times, send

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Block:
    """One stretch of load: requests/s, latencies in seconds, CPU seconds a request of server and client, and the
    mean seconds that the engine was at work on the batch a request was in, as the server counts them."""

    rate: float
    p50_s: float
    p99_s: float
    server_cpu_s: float = float("nan")
    client_cpu_s: float = float("nan")
    engine_s: float = float("nan")


@dataclass(frozen=True)
class Target:
    """Where a model is served.  ``pids`` are the roots of the server's processes."""

    name: str
    http: int
    grpc: int
    model: str
    pid: int


def perf_analyzer(target: Target, protocol: str, clients: int, duration_s: float) -> Block:
    """``clients`` requests outstanding for ``duration_s``, in three windows: the program takes no fewer.

    (Told to send a number of requests, it rounds the time they took up to whole seconds.)
    """
    found = peer.perf_analyzer()
    if found is None:
        raise SystemExit("no perf_analyzer: scripts/install-triton")
    program, environment = found
    port = target.http if protocol == "http" else target.grpc
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.csv"
        command = [str(program), "-m", target.model, "-u", f"127.0.0.1:{port}", "-i", protocol]
        command += ["--concurrency-range", str(clients), "--max-trials", "3", "--stability-percentage", "999"]
        command += ["-f", str(report), "--measurement-interval"]
        for longer in (1, 4, 16):  # windows in which nothing ends, or hardly anything, are an error to it
            before, worked_before = served(target)
            window_ms = max(100, round(1e3 * longer * duration_s / 3))
            done, server_s, client_s = _timed(target, partial(_run, [*command, str(window_ms)], environment))
            after, worked = served(target)
            requests = after - before
            if done.returncode == 0:
                break
        if done.returncode or not report.is_file() or not requests:
            raise SystemExit(f"perf_analyzer failed on {target.name}:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
        (row,) = list(csv.DictReader(report.open()))
    rate = float(row["Inferences/Second"])
    p50, p99 = (float(row[f"{p} latency"]) / 1e6 for p in ("p50", "p99"))
    return Block(rate, p50, p99, server_s / requests, client_s / requests, (worked - worked_before) / requests)


def served(target: Target) -> tuple[int, float]:
    """Successful requests so far and the engine's seconds on each of them together, as the server counts them."""
    url = f"http://127.0.0.1:{target.http}/v2/models/{target.model}/stats"
    with urllib.request.urlopen(url, timeout=30) as answer:
        (stats,) = json.load(answer)["model_stats"]
    found = stats["inference_stats"]
    return int(found["success"]["count"]), int(found["compute_infer"]["ns"]) / 1e9


def wrk(target: Target, clients: int, duration_s: float, request: WrkRequest) -> Block:
    """Closed loop; it counts whole seconds only."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "body").write_bytes(request.body)
        script = folder / "post.lua"
        headers = "".join(f"wrk.headers[{json.dumps(k)}]={json.dumps(v)}\n" for k, v in request.headers.items())
        script.write_text(
            f'wrk.method="POST"\nlocal f=io.open("{folder / "body"}","rb")\nwrk.body=f:read("*all")\nf:close()\n'
            f"{headers}"
            'done=function(s,l,r) io.write(string.format("RESULT %d %d %d %d %d %f %f\\n",s.requests,s.duration,'
            "s.errors.connect+s.errors.read+s.errors.write+s.errors.timeout,s.errors.status,s.bytes,"
            "l:percentile(50),l:percentile(99))) end\n"
        )
        url = f"http://127.0.0.1:{target.http}{request.path}"
        command = [
            "wrk",
            "-t1",
            f"-c{clients}",
            f"-d{max(1, math.ceil(duration_s))}s",
            "--timeout",
            "20s",
            "-s",
            str(script),
            url,
        ]
        done, server_s, client_s = _timed(target, lambda: _run(command, dict(os.environ)))
    match = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)", done.stdout)
    if done.returncode or not match:
        raise SystemExit(f"wrk failed: {done.stdout[-800:]}{done.stderr[-800:]}")
    requests, microseconds, broken, refused = (int(match[i]) for i in (1, 2, 3, 4))
    if broken or refused or not requests:
        raise SystemExit(f"{target.name} at {clients}: {broken} broken, {refused} refused of {requests}")
    p50, p99 = float(match[6]) / 1e6, float(match[7]) / 1e6
    return Block(requests / (microseconds / 1e6), p50, p99, server_s / requests, client_s / requests)


@dataclass(frozen=True)
class WrkRequest:
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


def raw_binary(model: str, content: bytes) -> WrkRequest:
    """The smallest form of a tensor request: header length 0, the body is the tensor."""
    headers = {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"}
    return WrkRequest(f"/v2/models/{model}/infer", content, headers)


def through_regions(model: str, input_bytes: int, output_bytes: int) -> WrkRequest:
    """A request whose tensors lie in the registered regions ``in`` and ``out``."""

    def where(region: str, size: int) -> dict[str, Any]:
        return {"shared_memory_region": region, "shared_memory_byte_size": size}

    given = {"name": "input", "shape": [1, 3, 224, 224], "datatype": "FP32", "parameters": where("in", input_bytes)}
    made = {"name": "output", "parameters": where("out", output_bytes)}
    return WrkRequest(f"/v2/models/{model}/infer", json.dumps({"inputs": [given], "outputs": [made]}).encode())


def _run(command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


def _timed(target: Target, call: Callable[[], Any]) -> tuple[Any, float, float]:
    before, client = cpu_seconds(target.pid), _children_s()
    found = call()
    return found, cpu_seconds(target.pid) - before, _children_s() - client


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cpu_seconds(pid: int) -> float:
    """User and system seconds of a process and everything below it, to a clock tick (10 ms)."""
    total = 0
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        try:
            fields = Path(f"/proc/{current}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
            for task in Path(f"/proc/{current}/task").iterdir():
                waiting += [int(c) for c in (task / "children").read_text().split()]
        except (OSError, IndexError):
            continue
    return total / TICKS


# Arrivals on a schedule


def poisson(target: Target, request: WrkRequest, rate: float, duration_s: float, seed: int) -> Arrived:
    """Open loop: every request is sent at its own time, whatever happened to those before it."""
    return send(target.http, [_message(request)], poisson_times(rate, duration_s, seed))


def _message(request: WrkRequest) -> bytes:
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(request.body)), **request.headers}
    head = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return f"POST {request.path} HTTP/1.1\r\n{head}\r\n".encode() + request.body
