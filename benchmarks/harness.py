"""How fast the measuring itself is, and whether it agrees with its peers.  Every answer is a ratio of one run.

    python benchmarks/harness.py [null] [stall] [benchmark_app] [loadgen] [--pairs 10] [--seconds 3]

* ``null``: closed loop, 10 clients, an engine that computes nothing, every sample recorded, against
  65 227 requests/s (torchpipe's published idle figure); and µs per request through the dynamic batcher.
* ``stall``: an engine that holds still for 500 ms every 2 s, under constant arrivals: p99 from the scheduled
  arrival against its true value, and beside it what a tester would see that counts from sending.
* ``benchmark_app``: OpenVINO's own tool on the same model with streams, threads, requests, precision and the
  input's type pinned, in alternating pairs (A B B A); beside it this tool against itself (A/A), and the
  processor time of one call on either side, which others' load hardly moves.
* ``loadgen``: MLPerf LoadGen on the same session in SingleStream, Offline and Server; the session sleeps for
  drawn times, so that what is compared is the harnesses and not the moment's share of the processor.

Every ratio is this tool over its peer, with a 95 % interval over the pairs.  The exit code is 3 when a target
is missed; on a machine others use, read the A/A line first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from verdict import MISSED

from assay.batching.arrivals import constant, poisson
from assay.batching.batcher import DynamicBatcher
from assay.batching.direct import Direct
from assay.batching.settings import BatcherSettings
from assay.core import child, clock
from assay.core.artifact import file_artifact
from assay.core.engine import BuildOptions, OpenOptions
from assay.core.stats import Interval, mean_interval, percentile
from assay.core.tensors import Signature, TensorSpec
from assay.core.workload import Arrivals, Clients, StopRule, Workload
from assay.engines.null import NullEngine, null_artifact
from assay.engines.openvino import OpenVinoEngine
from assay.measure.clients import measure_clients
from assay.measure.environment import cores_granted
from assay.measure.loadgen import LoadGenSettings, run_loadgen
from assay.measure.server import measure_server
from assay.measure.throughput import measure_throughput

PUBLISHED = 65_227.0
BATCHER_LIMIT_US = 20.0
RATE_BAND, LATENCY_BAND, WIDTH = 0.02, 0.03, 0.02
THREADS = 1
SIDE = 160
ROW = Signature((TensorSpec("x", "float32", ("n", 1), 0),), (TensorSpec("y", "float32", ("n", 1), 0),))


class Echo:
    """Nothing at all: the path alone."""

    signature = ROW
    parallelism = 1

    def run(self, feed: Any, out: Any = None, spans: Any = None) -> Any:
        return {"y": feed["x"]}


# null


def null(_: argparse.Namespace) -> bool:
    feeds = [{"x": np.full((1, 1), i, np.float32)} for i in range(16)]
    good = True
    with tempfile.TemporaryDirectory() as folder:
        artifact = null_artifact(ROW, Path(folder) / "null.json")
        with NullEngine().open(artifact, OpenOptions()) as session:
            for name, target in (("the null engine", session), ("an echo (the path alone)", Echo())):
                rate, work = max(_closed(Direct(target), feeds) for _ in range(5))  # type: ignore[arg-type]
                text = f"{rate:,.0f} requests/s ({work} of processor time each)"
                good &= _said(f"10 clients, {name}", rate / PUBLISHED, text, rate >= 65_000)
                settings = BatcherSettings(max_batch=4)
                rate, work = max(_closed(DynamicBatcher(target, settings), feeds) for _ in range(5))  # type: ignore[arg-type]
                us = 1e6 / rate
                text = f"{us:.1f} µs per request ({work} of processor time)"
                good &= _said(f"… through the batcher, {name}", us / BATCHER_LIMIT_US, text, us <= BATCHER_LIMIT_US)
    return good


def _closed(dispatcher: Any, feeds: list[Any]) -> tuple[float, str]:
    """Requests/s, and the processor time of one: of all threads, and hardly moved by what else runs."""
    with dispatcher:
        found = measure_clients(dispatcher, feeds, Clients(10, 40_000))
    assert len(found.counted) > 0 and len(found.values) >= 40_000
    row = found.details["torchpipe"]
    return float(row["throughput::qps"]), f"{1e4 * row['cpu_usage'] / row['throughput::qps']:.1f} µs"


# stall


class Stalling:
    """1 ms a call, and a pause of 500 ms every 2 s."""

    signature = ROW
    parallelism = 1
    pause_s, every_s = 0.5, 2.0

    def __init__(self) -> None:
        self._next = clock.now() + self.every_s

    def run(self, feed: Any, out: Any = None, spans: Any = None) -> Any:
        clock.sleep(0.001)
        if clock.now() >= self._next:
            clock.sleep(self.pause_s)
            self._next += self.every_s
        return {"y": feed["x"]}


def stall(_: argparse.Namespace) -> bool:
    """A quarter of the time is pause, so of all arrivals 1 % wait longer than 500 ms · (1 − 0.01 / 0.25)."""
    rate, duration_s = 100.0, 20.0
    truth = Stalling.pause_s * (1 - 0.01 / (Stalling.pause_s / Stalling.every_s))
    with Direct(Stalling()) as dispatcher:  # type: ignore[arg-type]
        load = Arrivals(rate, duration_s, "constant", warmup_s=0.0)
        found = measure_server(dispatcher, [{"x": np.zeros((1, 1), np.float32)}], load, constant(rate, 2000))
    p99 = found.details["observed_s"]["p99"]
    columns = found.columns
    service = percentile(columns["ended_s"] - columns["started_s"], 0.99)
    good = _said(
        "stalled engine, p99", p99 / truth, f"{1e3 * p99:.0f} ms, true {1e3 * truth:.0f} ms", p99 >= 0.9 * truth
    )
    print(f"    label {found.label}; the same calls timed from their start: p99 {1e3 * service:.1f} ms")
    return good


# benchmark_app


@dataclass(frozen=True)
class Run:
    """``cpu_s`` is processor time a call, 0 where it was not read; ``outside_s`` is the median of what a call took
    besides the library's own latency, which is all that its tool counts."""

    rate: float
    p50_s: float
    cpu_s: float = 0.0
    outside_s: float = 0.0


def benchmark_app(arguments: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _network(folder)
        pinned = f"streams 1, threads {THREADS}, requests 1, f32, {arguments.seconds:g} s each"
        print(f"benchmark_app: {model.name}, {pinned}, {arguments.pairs} pairs")
        start_s = min(_theirs_once(model, folder, ["-niter", "1"])[1] for _ in range(3))
        ours = lambda: _ours(model, arguments.seconds)  # noqa: E731
        theirs = lambda: _theirs(model, arguments.seconds, folder, start_s)  # noqa: E731
        pairs = _pairs(ours, theirs, arguments.pairs)
        same = _pairs(ours, ours, arguments.pairs)
    good = True
    for what, band, read in (
        ("throughput", RATE_BAND, lambda run: run.rate),
        ("median latency", LATENCY_BAND, lambda run: run.p50_s),
    ):
        found, noise = _ratio(pairs, read), _ratio(same, read)
        good &= _banded(f"{what}, assay / benchmark_app", found, band)
        print(f"    A/A, assay / assay: {_shown(noise)}")
    work = _ratio(pairs, lambda run: run.cpu_s)
    print(f"    processor time a call, assay / benchmark_app: {_shown(work)}")
    print(f"    A/A, assay / assay: {_shown(_ratio(same, lambda run: run.cpu_s))}")
    outside_us = 1e6 * float(np.median([a.outside_s for a, _ in (*pairs, *same)]))
    print(f"    assay's latency holds {outside_us:.0f} µs outside the library's count: feeding, checks, copies")
    return good


def _network(folder: Path) -> Path:
    """A small convolutional network, its batch fixed to 1: about 9 ms a call, as a common network takes, so that
    the latencies' different ends (``outside_s``) lie well within the band."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    nodes, weights, last, channels = [], [], "x", 3
    for i, wide in enumerate((32, 64, 64, 64, 64, 64)):
        weights.append(
            numpy_helper.from_array((rng.normal(size=(wide, channels, 3, 3)) / 20).astype(np.float32), f"w{i}")
        )
        stride = [2, 2] if i == 0 else [1, 1]
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1], strides=stride))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        last, channels = f"r{i}", wide
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["y"]))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, channels, 1, 1])],
        weights,
    )
    path = folder / "convolutions.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _ours(model: Path, duration_s: float) -> Run:
    arguments = {"model": str(model), "duration_s": duration_s}
    found = child.run("harness:press_openvino", arguments, child.Limits(env=_PATH)).value
    return Run(*found)


_PATH = {"PYTHONPATH": str(Path(__file__).parent)}


def _feeds() -> list[Any]:
    rng = np.random.default_rng(0)
    return [{"x": rng.random((1, 3, SIDE, SIDE), dtype=np.float32)} for _ in range(4)]


def press_openvino(model: str, duration_s: float) -> tuple[float, float, float, float]:
    """The parts of a ``Run`` of this tool, in a process of its own."""
    found = OpenVinoEngine()
    with tempfile.TemporaryDirectory() as folder:
        artifact = found.build(file_artifact(Path(model), "onnx"), BuildOptions(), Path(folder))
        with found.open(artifact, OpenOptions(threads=THREADS, streams=1)) as session:
            stop = StopRule(max_s=duration_s, min_s=duration_s, within=0.0, max_calls=10**9)
            metered = _Metered(session)
            measured = measure_throughput(metered, _feeds(), Workload("offline", 1, stop, warmup_s=0.3))  # type: ignore[arg-type]
    rate, p50 = measured.figures["throughput"].value, measured.figures["latency.p50"].value
    assert rate is not None and p50 is not None
    return rate, p50, metered.cpu_s / len(measured.values), float(np.median(metered.outside_s))


class _Metered:
    """A session that counts the processor time of its calls, and what they take besides the library's own latency."""

    def __init__(self, session: Any) -> None:
        self._session, self.cpu_s = session, 0.0
        self._request = session._workers[0].infer
        self.outside_s: list[float] = []
        self.signature, self.parallelism = session.signature, session.parallelism

    def run(self, feed: Any, out: Any = None, spans: Any = None) -> Any:
        before, began = time.process_time(), time.perf_counter()
        found = self._session.run(feed, out, spans)
        self.outside_s.append(time.perf_counter() - began - self._request.latency / 1e3)
        self.cpu_s += time.process_time() - before
        return found


def _theirs(model: Path, duration_s: float, folder: Path, start_s: float) -> Run:
    """``start_s`` is the processor time of a run of one call, nearly all of it start and compilation."""
    results, cpu_s = _theirs_once(model, folder, ["-t", str(max(1, round(duration_s)))])
    calls = int(results["total number of iterations"])
    return Run(float(results["throughput"]), float(results["latency (ms)"]) / 1e3, (cpu_s - start_s) / calls)


def _theirs_once(model: Path, folder: Path, how_long: list[str]) -> tuple[dict[str, Any], float]:
    """Its results and the processor seconds of the whole process.

    The input's type is pinned too: left alone the tool reads three planes as a picture and feeds bytes,
    which puts a conversion in front of the model.
    """
    command = [str(Path(sys.executable).parent / "benchmark_app"), "-m", str(model), "-d", "CPU", "-hint", "none"]
    command += ["-nstreams", "1", "-nthreads", str(THREADS), "-nireq", "1", "-infer_precision", "f32", "-ip", "f32"]
    command += ["-api", "sync", *how_long, "-json_stats", "-report_type", "no_counters", "-report_folder", str(folder)]
    before = _children_s()
    # A session of its own, as this tool's child has: Linux shares the processor out between sessions.
    done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    report = folder / "benchmark_report.json"
    if done.returncode or not report.is_file():
        raise SystemExit(f"benchmark_app failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    results = json.loads(report.read_text())["execution_results"]
    report.unlink()
    return results, _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# LoadGen


class Sleeping:
    """Calls of drawn length, 2 ms and a tail: slept, so that a busy machine hardly lengthens them."""

    signature = ROW
    parallelism = 4

    def __init__(self) -> None:
        self._seconds = itertools.cycle(0.002 + np.random.default_rng(0).gamma(2.0, 0.001, 4096))

    def run(self, feed: Any, out: Any = None, spans: Any = None) -> Any:
        clock.sleep(next(self._seconds))
        return {"y": feed["x"]}


def loadgen(arguments: argparse.Namespace) -> bool:
    good = True
    print(
        f"LoadGen: calls of 2 ms and a gamma tail, 4 at a time, {arguments.seconds:g} s each, {arguments.pairs} pairs"
    )
    for scenario in ("SingleStream", "Offline", "Server"):
        table = loadgen_pairs(scenario, arguments.pairs, arguments.seconds)
        for what, pairs in table.items():
            found = _ratio([(Run(a, a), Run(b, b)) for a, b in pairs], lambda run: run.rate)
            agrees = found.low is not None and found.high is not None and found.low <= 1 <= found.high
            near = abs(found.value - 1) <= WIDTH
            good &= _said(f"{scenario}, {what}, assay / LoadGen", found.value, _shown(found), agrees or near)
    return good


def loadgen_pairs(scenario: str, pairs: int, duration_s: float) -> dict[str, list[tuple[float, float]]]:
    """Per figure the pairs (this tool, LoadGen), measured in turns on one session."""
    table: dict[str, list[tuple[float, float]]] = {}
    rate = 300.0
    with tempfile.TemporaryDirectory() as folder, Direct(Sleeping()) as dispatcher:  # type: ignore[arg-type]
        feeds = [{"x": np.zeros((1, 1), np.float32)}]
        for i in range(pairs):
            calls = {
                0: partial(_assay_side, dispatcher, feeds, scenario, (rate, duration_s, i)),
                1: partial(_loadgen_side, dispatcher, feeds, scenario, (rate, duration_s, Path(folder, str(i)))),
            }
            got = {which: calls[which]() for which in ((0, 1) if i % 2 == 0 else (1, 0))}
            for what in got[0]:
                table.setdefault(what, []).append((got[0][what], got[1][what]))
    return table


def _assay_side(dispatcher: Any, feeds: list[Any], scenario: str, how: tuple[float, float, int]) -> dict[str, float]:
    rate, duration_s, seed = how
    if scenario == "Server":
        load = Arrivals(rate, duration_s, warmup_s=0.0)
        schedule = poisson(rate, max(1, round(rate * duration_s)), seed)
        values = measure_server(dispatcher, feeds, load, schedule).values
    else:
        count = max(20, round(2 * rate * duration_s))
        clients = 1 if scenario == "SingleStream" else count
        found = measure_clients(dispatcher, feeds, Clients(clients, count, warmup_s=0.0))
        values = found.values[-count:]
        if scenario == "Offline":
            return {"samples/s": found.details["torchpipe"]["throughput::qps"]}
    return {f"p{100 * p:g}": percentile(values, p) for p in (0.5, 0.9)}


def _loadgen_side(dispatcher: Any, feeds: list[Any], scenario: str, how: tuple[float, float, Path]) -> dict[str, float]:
    rate, duration_s, folder = how
    asked = 2 * rate if scenario == "Offline" else rate
    settings = LoadGenSettings(scenario, duration_s, 20, asked, limit_s=1.0)
    summary = run_loadgen(dispatcher, feeds, settings, folder)
    text = summary.read_text()
    if scenario == "Offline":
        return {"samples/s": _number(text, r"Samples per second: ([\d.e+]+)")}
    return {f"p{p}": _number(text, rf"{p}\.00 percentile latency \(ns\)\s*: (\d+)") / 1e9 for p in (50, 90)}


def _number(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    if not found:
        raise SystemExit(f"LoadGen's summary has no {pattern}:\n{text[:1500]}")
    return float(found[1])


# ratios


def _pairs(first: Callable[[], Run], second: Callable[[], Run], count: int) -> list[tuple[Run, Run]]:
    """In the order A B, B A, A B, …"""
    found = []
    for i in range(count):
        if i % 2 == 0:
            a, b = first(), second()
        else:
            b, a = second(), first()
        found.append((a, b))
    return found


def _ratio(pairs: list[tuple[Run, Run]], read: Callable[[Run], float]) -> Interval:
    logs = np.asarray([math.log(read(a) / read(b)) for a, b in pairs])
    found = mean_interval(logs)
    ends = [None if e is None else math.exp(e) for e in (found.low, found.high)]
    return Interval(math.exp(found.value), ends[0], ends[1], found.confidence, found.n)


def _shown(found: Interval) -> str:
    ends = "" if found.low is None else f" ({found.low:.4f}–{found.high:.4f})"
    return f"{found.value:.4f}{ends}, {found.n} pairs"


def _banded(what: str, found: Interval, band: float) -> bool:
    """The interval meets the band and reaches no further than 2 % to either side."""
    if found.low is None or found.high is None:
        return _said(what, found.value, "too few pairs", False)
    meets = found.low <= 1 + band and found.high >= 1 - band
    narrow = max(found.high / found.value, found.value / found.low) - 1 <= WIDTH
    text = _shown(found) + ("" if narrow else "; wider than ±2 %: not shown on this machine")
    return _said(what, found.value, text, meets and narrow)


def _said(what: str, ratio: float, text: str, good: bool) -> bool:
    print(f"{what:<52} {ratio:7.3f}×  {text}{'' if good else '   MISSED'}", flush=True)
    return good


PARTS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "null": null,
    "stall": stall,
    "benchmark_app": benchmark_app,
    "loadgen": loadgen,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    load, cores = os.getloadavg()[0], cores_granted()
    print(
        f"load average {load:.1f} on {cores:g} cores" + (": others are running, ratios are noisy" if load > 0.5 else "")
    )
    results = [PARTS[name](arguments) for name in arguments.parts or PARTS]
    return 0 if all(results) else MISSED


if __name__ == "__main__":
    sys.exit(main())
