"""What the batcher itself costs, and how well the simulator foretells a real run.

    python benchmarks/batcher.py [--repeats 30] [--requests 6000] [--only cost] [--json FILE]

(a) A closed loop of 10 virtual clients (a count of outstanding requests, driven by one thread)
    against the null engine: every request crosses from the driver's thread to an instance thread
    and back, and every latency is recorded.  Directly (each request run alone; to reach: 65 000
    requests/s) and through the dynamic batcher (largest batch 4, rows of 4 bytes; to reach:
    20 µs per request, that is 1 / throughput).
(b) A session that sleeps t(b), pressed by clients and by Poisson arrivals, against the simulator
    given the t(b) and the turnaround measured just before (to reach: within 10 %).

The best of many short repeats counts, since other processes only ever slow this down; the median
stands beside it, and so does the processor time per request (all threads).  Exit code 1 when a figure is missed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from verdict import MISSED

from assay.batching.arrivals import poisson, trace
from assay.batching.batcher import DynamicBatcher
from assay.batching.direct import Direct
from assay.batching.errors import Dropped
from assay.batching.profiling import profile_at_load
from assay.batching.request import Request
from assay.batching.settings import BatcherSettings
from assay.batching.simulator import Clients, Machine, simulate
from assay.core.engine import OpenOptions
from assay.core.stats import Vector
from assay.core.tensors import Feed, Signature, TensorSpec
from assay.engines.null import NullEngine, null_artifact

CLIENTS = 10
LIMIT_DIRECT = 65_000.0
LIMIT_BATCHED_US = 20.0
LIMIT_PREDICTION = 0.10
SIGNATURE = Signature((TensorSpec("x", "float32", ("n", 1)),), (TensorSpec("y", "float32", ("n", 1)),))
ROW: Feed = {"x": np.ones((1, 1), np.float32)}


def closed_loop(target: DynamicBatcher | Direct, clients: int, total: int) -> tuple[float, list[float]]:
    """Press ``target`` with ``clients`` outstanding requests; seconds taken, and every request's latency."""
    done: SimpleQueue[Sequence[Request]] = SimpleQueue()
    latencies: list[float] = []
    began = time.perf_counter()
    target.submit_many([ROW] * clients, done.put)
    sent = clients
    while len(latencies) < total:
        requests = done.get()
        latencies += [r.finished_s - r.enqueued_s for r in requests]
        again = min(len(requests), total - sent)
        if again:
            target.submit_many([ROW] * again, done.put)
            sent += again
    return time.perf_counter() - began, latencies


def one_cost(target: DynamicBatcher | Direct, total: int) -> dict[str, float]:
    closed_loop(target, CLIENTS, total // 10)
    gc.collect()
    gc.disable()
    try:
        cpu = time.process_time()
        seconds, latencies = closed_loop(target, CLIENTS, total)
        cpu = time.process_time() - cpu
    finally:
        gc.enable()
    assert len(latencies) == total
    return {"us": 1e6 * seconds / total, "cpu_us": 1e6 * cpu / total, "p50_us": 1e6 * statistics.median(latencies)}


class Sleeper:
    """A session whose batches take ``base_s + each_s * rows``; it sleeps, so that
    instances do not disturb each other."""

    signature = SIGNATURE
    parallelism = 4

    def __init__(self, base_s: float, each_s: float) -> None:
        self._base_s, self._each_s = base_s, each_s

    def run(self, feed: Feed, out: Any = None, spans: Any = None) -> dict[str, Any]:
        x = feed["x"]
        time.sleep(self._base_s + self._each_s * len(x))
        return {"y": x + 1}


def open_loop(batcher: DynamicBatcher, arrivals: Vector) -> tuple[float, list[float], Vector]:
    """Submit at the scheduled moments; seconds from the first to the last answer, latencies, real arrival times."""
    done: SimpleQueue[Sequence[Request]] = SimpleQueue()
    came: list[float] = []
    began = time.perf_counter() + 0.01
    sent = 0
    for at in arrivals:
        wait = began + at - time.perf_counter()
        if wait > 0:
            time.sleep(wait)
        came.append(time.perf_counter())
        try:
            batcher.submit(ROW, done.put)
            sent += 1
        except Dropped:
            continue
    answered: list[Request] = []
    while sent:
        requests = done.get()
        sent -= len(requests)
        answered += [r for r in requests if r.error is None]
    last = max(r.finished_s for r in answered)
    return last - came[0], [r.finished_s - r.enqueued_s for r in answered], trace(came)


def prediction(name: str, settings: BatcherSettings, session: Sleeper, load: Clients | float) -> dict[str, Any]:
    """The simulator's throughput, median latency and goodput against a real run's: medians of three pairs."""
    pairs = [_pair(settings, session, load) for _ in range(3)]
    ratio = {k: statistics.median(said[k] / real[k] for said, real in pairs) for k in pairs[0][0]}
    return {"name": name, "pairs": [{"simulated": said, "real": real} for said, real in pairs], "ratio": ratio}


def _pair(
    settings: BatcherSettings, session: Sleeper, load: Clients | float
) -> tuple[dict[str, float], dict[str, float]]:
    """(simulated, real).  The simulator gets t(b) and the turnaround, both measured just before, and the
    arrivals as they really came: a busy machine sends late, which is no fault of the simulator's."""
    times = profile_at_load(session, ROW, settings, calls=15)  # type: ignore[arg-type]
    aside_s = turnaround_s(session, times.typical(1))
    machine = Machine.measured(times, overhead_s=aside_s / 2)
    with DynamicBatcher(session, settings, times) as batcher:  # type: ignore[arg-type]
        if isinstance(load, Clients):
            simulated = simulate(settings, machine, replace(load, think_s=aside_s / 2))
            seconds, latencies = closed_loop(batcher, load.clients, load.total)
        else:
            seconds, latencies, came = open_loop(batcher, poisson(load, 1500, seed=4))
            simulated = simulate(settings, machine, came)
    limit_s = settings.slo_s or 0.05
    real = {
        "throughput": len(latencies) / seconds,
        "p50": statistics.median(latencies),
        "goodput": sum(v <= limit_s for v in latencies) / seconds,
    }
    said = {
        "throughput": simulated.throughput,
        "p50": simulated.latency(0.5),
        "goodput": simulated.goodput(limit_s),
    }
    return said, real


def turnaround_s(session: Sleeper, service_s: float) -> float:
    """What one client's cycle takes beyond t(1): the batcher's work and the client's own."""
    with DynamicBatcher(session, BatcherSettings(max_batch=1, policy="eager")) as batcher:  # type: ignore[arg-type]
        seconds, latencies = closed_loop(batcher, 1, 60)
    return max(0.0, seconds / len(latencies) - service_s)


TEN = Clients(10, 1500)
PREDICTIONS: list[tuple[str, BatcherSettings, tuple[float, float], Clients | float]] = [
    ("eager, 10 clients", BatcherSettings(max_batch=16, policy="eager"), (0.004, 0.0005), TEN),
    ("delay 5 ms, 10 clients", BatcherSettings(max_batch=16, policy="delay", max_delay_s=0.005), (0.004, 0.0005), TEN),
    ("adaptive, 10 clients", BatcherSettings(max_batch=16, policy="adaptive"), (0.004, 0.0005), TEN),
    ("eager, 2 instances, 500/s", BatcherSettings(max_batch=8, policy="eager", instances=2), (0.004, 0.001), 500.0),
    ("adaptive, 50 ms, 700/s", BatcherSettings(max_batch=16, policy="adaptive", slo_s=0.05), (0.010, 0.0005), 700.0),
    ("adaptive, 50 ms, 900/s", BatcherSettings(max_batch=16, policy="adaptive", slo_s=0.05), (0.010, 0.0005), 900.0),
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--requests", type=int, default=6_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=("cost", "prediction"))
    options = parser.parse_args()
    result: dict[str, Any] = {"load_average": os.getloadavg()[0], "cores": os.cpu_count()}
    print(f"{os.cpu_count()} cores, load average {result['load_average']:.1f}")
    missed = []
    if options.only != "prediction":
        result["cost"] = costs(options.requests, options.repeats)
        missed += judge_costs(result["cost"])
    if options.only != "cost":
        result["prediction"] = [
            prediction(name, settings, Sleeper(base_s, each_s), load)
            for name, settings, (base_s, each_s), load in PREDICTIONS
        ]
        missed += judge_predictions(result["prediction"])
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))
    return MISSED if missed else 0


def costs(requests: int, repeats: int) -> dict[str, dict[str, float]]:
    """Per path and switch interval; the repeats of the paths alternate, so that a busy minute hits all alike."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = null_artifact(SIGNATURE, Path(folder) / "null.json")
        null = NullEngine().open(artifact, OpenOptions(instances=2))
    print(f"the null session alone: {1e6 * min(_seconds(lambda: null.run(ROW)) for _ in range(5)):.1f} µs per call")
    paths: dict[str, Callable[[], DynamicBatcher | Direct]] = {
        "direct": lambda: Direct(null, 1),
        "batched, eager": lambda: DynamicBatcher(null, BatcherSettings(max_batch=4, policy="eager")),
        "batched, adaptive": lambda: DynamicBatcher(null, BatcherSettings(max_batch=4, policy="adaptive")),
    }
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for interval_s in (0.005, 0.0001):
            sys.setswitchinterval(interval_s)
            for name, make in paths.items():
                with make() as target:
                    runs.setdefault(f"{name}, switch interval {1e3 * interval_s:g} ms", []).append(
                        one_cost(target, requests)
                    )
    null.close()
    return {name: _best(found) for name, found in runs.items()}


def _best(runs: list[dict[str, float]]) -> dict[str, float]:
    best = min(runs, key=lambda r: r["us"])
    return {
        "us_per_request": best["us"],
        "requests_per_s": 1e6 / best["us"],
        "median_us_per_request": statistics.median(r["us"] for r in runs),
        "cpu_us_per_request": min(r["cpu_us"] for r in runs),
        "latency_p50_us": best["p50_us"],
    }


def judge_costs(found: dict[str, dict[str, float]]) -> list[str]:
    for name, cost in found.items():
        print(
            f"{name:41}: best {cost['us_per_request']:5.1f} µs/request ({cost['requests_per_s']:7,.0f}/s), "
            f"median {cost['median_us_per_request']:5.1f}, processor {cost['cpu_us_per_request']:5.1f} µs, "
            f"latency p50 {cost['latency_p50_us']:.0f} µs"
        )
    direct = max(c["requests_per_s"] for n, c in found.items() if n.startswith("direct"))
    batched = min(c["us_per_request"] for n, c in found.items() if n.startswith("batched"))
    return [
        *_judge("direct, requests/s", direct, LIMIT_DIRECT, direct >= LIMIT_DIRECT),
        *_judge("batched, µs/request", batched, LIMIT_BATCHED_US, batched <= LIMIT_BATCHED_US),
    ]


def judge_predictions(rows: list[dict[str, Any]]) -> list[str]:
    missed = []
    for row in rows:
        ratios = ", ".join(f"{name} {value:.3f}" for name, value in row["ratio"].items())
        ok = all(abs(value - 1) <= LIMIT_PREDICTION for value in row["ratio"].values())
        rate = statistics.median(p["real"]["throughput"] for p in row["pairs"])
        print(f"simulated / real, {row['name']:26}: {ratios}  ({rate:.0f}/s){'' if ok else '  MISSED'}")
        missed += [] if ok else [row["name"]]
    return missed


def _seconds(call: Callable[[], object], number: int = 2000) -> float:
    began = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - began) / number


def _judge(what: str, found: float, limit: float, ok: bool) -> list[str]:
    print(f"{what}: {found:,.1f} against {limit:,.0f}: ratio {found / limit:.3f}{'' if ok else '  MISSED'}")
    return [] if ok else [what]


if __name__ == "__main__":
    sys.exit(main())
