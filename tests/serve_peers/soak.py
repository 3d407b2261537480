"""Long load on ``assay serve``: no error, flat memory; then reloads under load with nothing lost.

    scripts/soak [--minutes 10] [--reloads 1000] [--bundle FOLDER]

Without a bundle it serves the small model of the differential test, whose requests are all the server's own
work.  Load: Poisson arrivals at 80 % of what eight closed-loop clients reach first, JSON and binary in turns.
Memory: the resident size of the server's processes, a sample a second; the medians of the second and the last
quarter of the time differ by 3 % at most.  Exit code 1 when anything of this does not hold.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tests.serve_peers.corpus import infer
from tests.serve_peers.models import bundles
from tests.serve_peers.open_loop import capacity, poisson_times, send
from tests.serve_peers.ours import Ours, ours

from assay.bundle.contents import read_bundle
from assay.core.child import tree_rss
from assay.core.stats import percentile
from assay.core.tensors import DTYPES

LOAD, FLAT, CHUNK_S = 0.8, 0.03, 5.0
WIRE = {"float32": "FP32", "float16": "FP16", "float64": "FP64", "int64": "INT64", "int32": "INT32", "uint8": "UINT8"}


@dataclass
class Soaked:
    """What happened: requests, those not answered with 200 by status, memory in bytes, p99 by chunk, reloads."""

    rate: float = 0.0
    requests: int = 0
    failed: dict[int, int] = field(default_factory=dict)
    memory: list[int] = field(default_factory=list)
    p99_s: list[float] = field(default_factory=list)
    reloads: int = 0
    refused_reloads: list[str] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Median memory of the last quarter over that of the second, less 1."""
        quarter = max(1, len(self.memory) // 4)
        before, after = self.memory[quarter : 2 * quarter] or self.memory, self.memory[-quarter:]
        return statistics.median(after) / statistics.median(before) - 1


def messages_for(folder: Path) -> list[bytes]:
    """One JSON and one binary request of one row."""
    bundle = read_bundle(folder)
    inputs, described, tail = [], [], b""
    for spec in bundle.signature.inputs:
        shape = [1 if not isinstance(d, int) else d for d in spec.shape]
        array = np.ones(shape, DTYPES[spec.dtype])
        common = {"name": spec.name, "shape": shape, "datatype": WIRE[spec.dtype]}
        inputs.append({**common, "data": array.ravel().tolist()})
        described.append({**common, "parameters": {"binary_data_size": array.nbytes}})
        tail += array.tobytes()
    out = {"parameters": {"binary_data_output": True}}
    binary = infer(bundle.model, {**out, "inputs": described}, tail)
    return [binary] if len(tail) > 50_000 else [infer(bundle.model, {"inputs": inputs}), binary]


def soak(server: Ours, messages: Sequence[bytes], duration_s: float, load: float = LOAD) -> Soaked:
    """Poisson arrivals at ``load`` of the capacity, which is measured first."""
    found = Soaked()
    found.rate = load * capacity(server.http, messages, 8, min(3.0, max(0.5, duration_s / 10)))
    with _Memory(server.process.pid, found.memory):
        until = time.monotonic() + duration_s
        while (left := until - time.monotonic()) > 0.05:
            _press(server, messages, found, min(CHUNK_S, left), seed=len(found.p99_s))
    return found


def reload_under_load(server: Ours, name: str, messages: Sequence[bytes], count: int, load: float = LOAD / 2) -> Soaked:
    """``count`` loads of the served model while requests go on; ``found.failed`` is what was lost.

    Loading takes its share of the processor, hence the lower load.
    """
    found = Soaked(rate=load * capacity(server.http, messages, 8, 1.0))
    done = threading.Event()

    def reload() -> None:
        try:
            for _ in range(count):
                url = f"{server.url}/v2/repository/models/{name}/load"
                request = urllib.request.Request(url, b"{}", {"Content-Type": "application/json"}, method="POST")
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        answer.read()
                    found.reloads += 1
                except OSError as error:
                    found.refused_reloads.append(str(error))
        finally:
            done.set()

    thread = threading.Thread(target=reload)
    with _Memory(server.process.pid, found.memory):
        thread.start()
        while not done.is_set():
            _press(server, messages, found, 1.0, seed=found.requests)
        thread.join()
    return found


def _press(server: Ours, messages: Sequence[bytes], found: Soaked, duration_s: float, seed: int) -> None:
    arrived = send(server.http, messages, poisson_times(found.rate, duration_s, seed))
    found.requests += len(arrived.latencies_s)
    found.p99_s.append(percentile(arrived.latencies_s, 0.99))
    for status, number in arrived.others.items():
        found.failed[status] = found.failed.get(status, 0) + number


class _Memory:
    """Samples the resident size of a process tree, once a second or often enough for eight samples."""

    def __init__(self, pid: int, into: list[int]) -> None:
        self._pid, self._into = pid, into
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        pause = 0.1
        while True:
            self._into.append(tree_rss(self._pid))
            if self._stop.wait(pause):
                return
            pause = min(1.0, pause * 1.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--bundle", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bundle = arguments.bundle or bundles(Path(name))["small"]
        messages = messages_for(bundle)
        with ours([bundle], Path(name) / "log", "--admin") as server:
            good = _report("soak", soak(server, messages, 60 * arguments.minutes), memory=arguments.minutes >= 1)
            if arguments.reloads:
                found = reload_under_load(server, read_bundle(bundle).model, messages, arguments.reloads)
                good &= _report(f"{found.reloads} reloads", found, memory=False)
                good &= found.reloads == arguments.reloads
            server.process.terminate()
            code = server.process.wait(40)
            print(f"ended with {code}")
    return 0 if good and code == 0 else 1


def _report(what: str, found: Soaked, *, memory: bool) -> bool:
    lost = json.dumps(found.failed) if found.failed else "none"
    print(f"{what}: {found.requests} requests at {found.rate:.0f}/s, not answered with 200: {lost}")
    first, last = found.memory[0] / 2**20, found.memory[-1] / 2**20
    p99 = f"{1e3 * statistics.median(found.p99_s):.1f} ms, worst {1e3 * max(found.p99_s):.1f} ms"
    print(f"  memory {first:.0f} → {last:.0f} MiB, growth {found.growth:+.1%} (quarters 2 and 4); p99 {p99}")
    for text in dict.fromkeys(found.refused_reloads):
        print(f"  a reload failed: {text}")
    return not found.failed and not found.refused_reloads and (not memory or abs(found.growth) <= FLAT)


if __name__ == "__main__":
    sys.exit(main())
