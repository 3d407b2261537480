"""The sections of benchmarks/serve.py.  Each takes a Bench and adds rows to it."""

from __future__ import annotations

import itertools
import json
import math
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import serve_models as models
from serve_goodput import Trial, best_of, duel, geometric_mean, long_enough_s
from serve_load import Block, Target, WrkRequest, perf_analyzer, poisson, raw_binary, through_regions, wrk
from tests.serve_peers import triton as peer
from tests.serve_peers.ours import Ours, ours

from assay.bundle.contents import read_bundle
from assay.bundle.layouts import LayoutOptions, Trust
from assay.bundle.triton import write_repository
from assay.core import child
from assay.core.engine import OpenOptions
from assay.core.record import Figure
from assay.core.stats import Interval, mean_interval, percentile
from assay.data import transform_from_json
from assay.engines.openvino import OpenVinoEngine
from assay.measure.environment import cores_granted

CLIENTS = (1, 4, 10, 32)
DELAYS_US = (0, 500, 1000, 2000, 5000)
CONFIGURATIONS = tuple((i, d) for i in (1, 2) for d in DELAYS_US)
MAX_BATCH = 8


@dataclass(frozen=True)
class Sizes:
    """How long: seconds a block, pairs of blocks, what is tried."""

    block_s: float = 1.5
    pairs: int = 6
    search_s: float = 1.0
    clients: tuple[int, ...] = CLIENTS
    configurations: tuple[tuple[int, int], ...] = CONFIGURATIONS
    starts: int = 5
    trials: int = 16
    trial_s: float | None = None
    """None: as long as a rate needs."""
    rounds: int = 4
    shapes: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (MAX_BATCH, 1), (MAX_BATCH, 2))
    """(batch, streams) of the engine alone."""
    least_s: float = 1.0
    smoke: bool = False


SMOKE = Sizes(0.4, 1, 0.3, (1, 4), ((1, 0), (1, 2000)), 1, 2, 0.4, 1, ((1, 2),), 0.5, True)


@dataclass(frozen=True)
class Row:
    """One line of the report.  ``met`` None: no target."""

    section: str
    what: str
    conditions: dict[str, Any]
    figures: dict[str, Figure]
    text: str
    target: str = ""
    met: bool | None = None


@dataclass
class Bench:
    """What the sections share: bundles, sizes, and what was found."""

    folder: Path
    sizes: Sizes
    bundle: Path
    precision: str
    options: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        mark = "" if row.met is None else f"   [{row.target}: {'met' if row.met else 'MISSED'}]"
        print(f"{row.section:<8} {row.what:<44} {row.text}{mark}", flush=True)


# Servers


def start_ours(stack: ExitStack, bench: Bench, bundle: Path, *extra: str) -> tuple[Target, Ours]:
    log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
    running = stack.enter_context(ours([bundle], log, *extra, *bench.options))
    target = Target("assay serve", running.http, running.grpc, read_bundle(bundle).model, running.process.pid)
    return target, running


def start_triton(stack: ExitStack, repository: Path) -> Target:
    if reason := peer.missing():
        raise SystemExit(reason)
    log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "log"
    running = stack.enter_context(peer.triton(repository, log, timeout_s=180))
    return Target("Triton", running.http, running.grpc, "", running.process.pid)


def triton_repository(bench: Bench, folder: Path) -> None:
    """One model for each configuration: idle ones cost memory only."""
    for instances, delay_us in bench.sizes.configurations:
        options = LayoutOptions("python", _named(instances, delay_us), MAX_BATCH, delay_us, instances)
        write_repository(bench.bundle, folder, options, Trust(given=True))


def _named(instances: int, delay_us: int) -> str:
    return f"i{instances}_d{delay_us}"


def at(target: Target, model: str) -> Target:
    return Target(f"{target.name} {model}", target.http, target.grpc, model, target.pid)


# Tensors over REST and gRPC


def tensors(bench: Bench, protocols: Sequence[str]) -> None:
    """perf_analyzer on both, alternating, Triton with the configuration that was best at that concurrency."""
    with ExitStack() as stack:
        repository = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "models"
        triton_repository(bench, repository)
        there = start_triton(stack, repository)
        here, _ = start_ours(stack, bench, bench.bundle)
        for protocol in protocols:
            for clients in bench.sizes.clients:
                _tensors_at(bench, here, there, protocol, clients)


def _tensors_at(bench: Bench, here: Target, there: Target, protocol: str, clients: int) -> None:
    sizes = bench.sizes
    found = {}
    for configuration in sizes.configurations:
        target = at(there, _named(*configuration))
        found[configuration] = perf_analyzer(target, protocol, clients, sizes.search_s).rate
    best = max(found, key=lambda c: found[c])
    target = at(there, _named(*best))
    perf_analyzer(here, protocol, clients, sizes.search_s)  # warms up
    pairs = alternate(
        lambda: perf_analyzer(here, protocol, clients, sizes.block_s),
        lambda: perf_analyzer(target, protocol, clients, sizes.block_s),
        sizes.pairs,
    )
    name = "rest" if protocol == "http" else "grpc"
    limit = 1.3 if protocol == "http" else 1.0
    rate = ratio(pairs, lambda b: b.rate)
    tail = ratio(pairs, lambda b: b.p99_s)
    conditions = {"clients": clients, "client": "perf_analyzer", "protocol": protocol, "precision": bench.precision}
    conditions |= {"triton_instances": best[0], "triton_delay_us": best[1], "bytes_in": models.TENSOR_BYTES}
    text = f"{_rates(pairs)} = {_shown(rate)}; p99 {_shown(tail)} (Triton: {best[0]} instances, {best[1] / 1e3:g} ms)"
    figures = _both(pairs) | {"ratio": figure(rate, "ratio"), "ratio.p99": figure(tail, "ratio")}
    met = rate.value >= limit
    bench.add(Row(name, f"{clients} clients", conditions, figures, text, f"≥ {limit:g} × Triton", met))
    if protocol == "http":
        worse = tail.low is not None and tail.low > 1
        bench.add(Row(name, f"{clients} clients, p99", conditions, {}, _shown(tail), "not worse", not worse))
    mine = [pair[0] for pair in pairs]
    engine_s = float(np.median([b.server_cpu_s for b in mine]))
    client_s = float(np.median([b.client_cpu_s for b in mine]))
    bound = cores_granted() / (engine_s + client_s)
    text = f"server {1e3 * engine_s:.2f} ms + client {1e3 * client_s:.2f} ms a request: at most {bound:.0f}/s"
    cpu = {"cpu.server": _seconds(engine_s), "cpu.client": _seconds(client_s)}
    if clients == 1:
        most = float(np.median([1 / (a.engine_s * b.rate) for a, b in pairs]))
        cpu["ratio.most"] = Figure(most, "ratio")
        text += f"; a server that cost nothing would reach {most:.2f} ×: both wait for the same engine"
    bench.add(Row(name, f"{clients} clients, CPU", conditions, cpu, text))


def rest(bench: Bench) -> None:
    tensors(bench, ["http"])


def grpc(bench: Bench) -> None:
    tensors(bench, ["grpc"])


# The engine alone


def engine(bench: Bench) -> None:
    """wrk with 32 clients over REST binary against the engine with nobody in between, at its best of four shapes."""
    content = np.random.default_rng(0).standard_normal(models.SHAPE).astype(np.float32).tobytes()
    ir = read_bundle(bench.bundle).artifact
    assert ir is not None
    sizes = bench.sizes
    alone = {shape: benchmark_app(ir.path, bench.precision, *shape, sizes.search_s) for shape in sizes.shapes}
    best = max(alone, key=lambda s: alone[s])
    with ExitStack() as stack:
        here, _ = start_ours(stack, bench, bench.bundle)
        request = raw_binary(here.model, content)
        wrk(here, 32, max(2 * bench.sizes.least_s, bench.sizes.search_s), request)
        ratios, rates = [], []
        for _ in range(bench.sizes.pairs):
            block = wrk(here, 32, max(2 * bench.sizes.least_s, bench.sizes.block_s), request)
            bound = benchmark_app(ir.path, bench.precision, *best, bench.sizes.block_s)
            ratios.append(block.rate / bound)
            rates.append((block.rate, bound))
    found = geometric_mean(ratios)
    mine, bound = (float(np.median([r[i] for r in rates])) for i in (0, 1))
    conditions = {"clients": 32, "client": "wrk", "engine_batch": best[0], "engine_streams": best[1]}
    text = f"{mine:.0f}/s of {bound:.0f}/s (benchmark_app, batch {best[0]}, {best[1]} streams) = {_shown(found)}"
    figures = {"ratio": figure(found, "ratio"), "throughput": _rate(mine), "throughput.engine": _rate(bound)}
    bench.add(Row("engine", "32 clients, wrk", conditions, figures, text, "≥ 0.85", found.value >= 0.85))
    shown = ", ".join(f"batch {b} × {s} streams {r:.0f}/s" for (b, s), r in alone.items())
    bench.add(Row("engine", "the engine alone", {}, {}, shown))


def benchmark_app(model: Path, precision: str, batch: int, streams: int, duration_s: float) -> float:
    """Samples/s by OpenVINO's own tool."""
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    command = [str(Path(sys.executable).parent / "benchmark_app"), "-m", str(model), "-d", "CPU", "-hint", "none"]
    command += ["-nstreams", str(streams), "-nireq", str(2 * streams if streams > 1 else 1), "-infer_precision", hint]
    command += ["-data_shape", f"[{batch},3,224,224]", "-t", str(max(1, round(duration_s)))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, start_new_session=True)
    match = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    if done.returncode or not match:
        raise SystemExit(f"benchmark_app failed:\n{done.stdout[-1500:]}{done.stderr[-1500:]}")
    return float(match[1])


# What the server adds


def null(bench: Bench) -> None:
    """Median round trip to a model that computes nothing, one client, with the real tensors; wrk is the client."""
    bundle = models.null_bundle(bench.folder)
    content = bytes(models.TENSOR_BYTES)
    with ExitStack() as stack:
        here, running = start_ours(stack, bench, bundle, "--admin")
        stack.enter_context(Regions(running.url))
        repository = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        models.null_for_triton(repository)
        there = at(start_triton(stack, repository), "null")
        stack.enter_context(Regions(f"http://127.0.0.1:{there.http}"))
        duration_s = max(bench.sizes.least_s, bench.sizes.block_s)
        for name, request, limit_s in (
            ("REST binary", raw_binary("null", content), 0.3e-3),
            ("shared memory", through_regions("null", *Regions.sizes), 0.15e-3),
        ):
            pairs = alternate(
                partial(wrk, here, 1, duration_s, request),
                partial(wrk, there, 1, duration_s, request),
                bench.sizes.pairs,
            )
            mine, theirs = (float(np.median([p[i].p50_s for p in pairs])) for i in (0, 1))
            cpu_s = float(np.median([p[0].server_cpu_s for p in pairs]))
            text = f"{1e6 * mine:.0f} µs (Triton {1e6 * theirs:.0f} µs); server CPU {1e6 * cpu_s:.0f} µs"
            figures = {"latency.p50": _seconds(mine), "latency.p50.triton": _seconds(theirs)}
            figures["cpu.server"] = _seconds(cpu_s)
            conditions = {"clients": 1, "client": "wrk", "bytes_in": models.TENSOR_BYTES}
            target = f"≤ {1e3 * limit_s:g} ms"
            bench.add(Row("null", f"{name}, median round trip", conditions, figures, text, target, mine <= limit_s))
        _ceiling(bench, here, raw_binary("null", content))


def _ceiling(bench: Bench, here: Target, request: WrkRequest) -> None:
    """The most that one process takes, at the best of three numbers of clients."""
    found = {c: wrk(here, c, max(bench.sizes.least_s, bench.sizes.block_s), request) for c in (2, 4, 16)}
    best = max(found, key=lambda c: found[c].rate)
    block = found[best]
    figures = {"ceiling": _rate(block.rate), "cpu.server": _seconds(block.server_cpu_s)}
    text = f"{block.rate:.0f}/s with {best} clients; CPU: server {1e6 * block.server_cpu_s:.0f} µs, "
    text += f"client {1e6 * block.client_cpu_s:.0f} µs a request"
    conditions = {"clients": best, "client": "wrk", "bytes_in": models.TENSOR_BYTES}
    bench.add(Row("null", "most that one process takes", conditions, figures, text))


class Regions:
    """System shared memory of this process, registered with a server as ``in`` and ``out``."""

    sizes = (models.TENSOR_BYTES, 4 * models.CLASSES)
    _serial = itertools.count()

    def __init__(self, url: str) -> None:
        self._url = url
        self._held: list[Any] = []

    def __enter__(self) -> Regions:
        from multiprocessing.shared_memory import SharedMemory

        for region, size in zip(("in", "out"), self.sizes, strict=True):
            memory = SharedMemory(create=True, size=size)
            self._held.append(memory)
            body = json.dumps({"key": f"/{memory.name}", "offset": 0, "byte_size": size}).encode()
            _post(f"{self._url}/v2/systemsharedmemory/region/{region}/register", body)
        return self

    def __exit__(self, *_: object) -> None:
        for memory in self._held:
            memory.close()
            memory.unlink()


def _post(url: str, body: bytes) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return bytes(answer.read())


# Pictures


def jpeg(bench: Bench) -> None:
    """JPEG requests against cores ÷ (CPU seconds of decoding + inference + client)."""
    picture = models.jpeg()
    decode_s, infer_s = child.run("serve_parts:cpu_of_parts", _child_arguments(bench), child.Limits(env=_PATH)).value
    with ExitStack() as stack:
        here, _ = start_ours(stack, bench, bench.bundle)
        request = WrkRequest(f"/predict/{here.model}", picture, {"Content-Type": "image/jpeg"})
        wrk(here, 8, bench.sizes.least_s, request)
        blocks = [
            wrk(here, 32, max(2 * bench.sizes.least_s, bench.sizes.block_s), request) for _ in range(bench.sizes.pairs)
        ]
    client_s = float(np.median([b.client_cpu_s for b in blocks]))
    bound = cores_granted() / (decode_s + infer_s + client_s)
    found = geometric_mean([b.rate / bound for b in blocks])
    rate, server_s = (float(np.median([getattr(b, n) for b in blocks])) for n in ("rate", "server_cpu_s"))
    parts = f"decode {1e3 * decode_s:.2f} + infer {1e3 * infer_s:.2f} + client {1e3 * client_s:.2f} ms"
    text = f"{rate:.0f}/s of {bound:.0f}/s ({parts}; the server took {1e3 * server_s:.2f} ms) = {_shown(found)}"
    figures = {"ratio": figure(found, "ratio"), "throughput": _rate(rate), "throughput.bound": _rate(bound)}
    conditions = {"clients": 32, "client": "wrk", "bytes_in": len(picture), "picture": "500x375"}
    bench.add(Row("jpeg", "32 clients, POST /predict", conditions, figures, text, "≥ 0.9", found.value >= 0.9))


_PATH = {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"}


def _child_arguments(bench: Bench) -> dict[str, Any]:
    return {"bundle": str(bench.bundle), "duration_s": max(0.5, bench.sizes.block_s)}


def cpu_of_parts(bundle: str, duration_s: float) -> tuple[float, float]:
    """CPU seconds of one picture's decoding and of one row's inference at its cheapest batch, in this process."""
    found = read_bundle(Path(bundle))
    assert found.preprocess is not None and found.artifact is not None
    transform, picture = transform_from_json(found.preprocess), models.jpeg()
    decode_s = _cpu(lambda: transform(picture), duration_s)
    cheapest = math.inf
    for threads in (1, int(cores_granted())):
        options = OpenOptions(precision=found.candidate.options.precision, threads=threads, streams=1)
        with OpenVinoEngine().open(found.artifact, options) as session:
            for batch in (1, 4, MAX_BATCH):
                feed = {found.signature.inputs[0].name: np.zeros((batch, *models.SHAPE), np.float32)}
                cheapest = min(cheapest, _cpu(lambda s=session, f=feed: s.run(f), duration_s / 3) / batch)
    return decode_s, cheapest


def _cpu(call: Callable[[], Any], duration_s: float) -> float:
    call()
    began, before, count = time.perf_counter(), _own_cpu(), 0
    while time.perf_counter() - began < duration_s or count < 3:
        call()
        count += 1
    return (_own_cpu() - before) / count


def _own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# Goodput


def goodput(bench: Bench) -> None:
    """The highest Poisson rate at which 99 % are answered within the limit; Triton at its best static delay."""
    content, sizes = np.zeros(models.SHAPE, np.float32).tobytes(), bench.sizes
    with ExitStack() as stack:
        repository = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "models"
        triton_repository(bench, repository)
        there = start_triton(stack, repository)
        here, _ = start_ours(stack, bench, bench.bundle)
        request = raw_binary(here.model, content)
        single = wrk(here, 1, max(sizes.least_s, sizes.search_s), request)
        capacity = wrk(here, 32, max(2 * sizes.least_s, sizes.search_s), request).rate
        limit_s = 8 * single.p50_s
        tried = [at(there, _named(*configuration)) for configuration in sizes.configurations]
        quick = [_answered(bench, target, content, lambda _: sizes.block_s) for target in tried]

        def seconds(rate: float) -> float:
            return sizes.trial_s or long_enough_s(rate, limit_s)

        mine, *theirs = [_answered(bench, target, content, seconds) for target in (here, *tried)]
        best = best_of(quick, theirs, capacity, limit_s, max(1, sizes.trials // 3))
        found = duel(mine, theirs[best], capacity, limit_s, sizes.trials, sizes.rounds)
    conditions = {"limit_s": limit_s, "arrivals": "poisson", "share": 0.99, "best": tried[best].name}
    conditions |= {"precision": bench.precision, "capacity": capacity, "trials": sizes.trials}
    text = f"{found.shown(0)} within {1e3 * limit_s:.0f} ms, {tried[best].name} {found.shown(1)}"
    figures = {"goodput": found.figure(0), "goodput.triton": found.figure(1)}
    if (by := found.ratio()) is not None:
        text += f" = {_shown(by)}"
        figures["ratio"] = figure(by, "ratio")
    bench.add(Row("goodput", "Poisson, 99 % within 8 × t(1)", conditions, figures, text, "≥ Triton's", found.met()))


def _answered(bench: Bench, target: Target, content: bytes, seconds: Callable[[float], float]) -> Trial:
    """Warms ``target`` up.  What it returns is the latency within which 99 % of a trial's requests were answered;
    ``seconds`` is how long one of a rate takes."""
    request = raw_binary(target.model, content)
    wrk(target, 4, bench.sizes.least_s, request)

    def trial(rate: float, seed: int) -> float:
        return percentile(poisson(target, request, rate, seconds(rate), seed).latencies_s, 0.99)

    return trial


# Ready


def ready(bench: Bench) -> None:
    """From starting the process to the first 200 of /v2/health/ready, files in the page cache."""
    bundle = models.bundle_of("resnet50", bench.precision, bench.folder)
    found = []
    for _ in range(1 + bench.sizes.starts):
        with ExitStack() as stack:
            found.append(start_ours(stack, bench, bundle)[1].ready_s)
    values = np.asarray(found[1:])
    text = f"{np.median(values):.2f} s (slowest of {len(values)}: {values.max():.2f} s; the first: {found[0]:.2f} s)"
    figures = {"startup": Figure(float(np.median(values)), "s", n=len(values))}
    conditions = {"model": "resnet50", "precision": bench.precision}
    met = bool(values.max() <= 3.0)
    bench.add(Row("ready", "resnet50 from its bundle", conditions, figures, text, "≤ 3 s", met))


# Pairs and ratios


def alternate(first: Callable[[], Block], second: Callable[[], Block], count: int) -> list[tuple[Block, Block]]:
    """In the order A B, B A, A B, …"""
    found = []
    for i in range(count):
        if i % 2 == 0:
            a, b = first(), second()
        else:
            b, a = second(), first()
        found.append((a, b))
    return found


def ratio(pairs: Sequence[tuple[Block, Block]], read: Callable[[Block], float]) -> Interval:
    return geometric_mean([read(a) / read(b) for a, b in pairs])


def figure(found: Interval, unit: str) -> Figure:
    bounded = found.low is not None
    return Figure(found.value, unit, found.low, found.high, found.confidence if bounded else None, found.n)


def _both(pairs: Sequence[tuple[Block, Block]]) -> dict[str, Figure]:
    figures = {}
    for index, side in enumerate(("", ".triton")):
        blocks = [pair[index] for pair in pairs]
        figures[f"throughput{side}"] = figure(mean_interval(np.asarray([b.rate for b in blocks])), "samples/s")
        figures[f"latency.p50{side}"] = _seconds(float(np.median([b.p50_s for b in blocks])))
        figures[f"latency.p99{side}"] = _seconds(float(np.median([b.p99_s for b in blocks])))
        figures[f"cpu.server{side}"] = _seconds(float(np.median([b.server_cpu_s for b in blocks])))
    return figures


def _rates(pairs: Sequence[tuple[Block, Block]]) -> str:
    mine, theirs = (float(np.median([p[i].rate for p in pairs])) for i in (0, 1))
    return f"{mine:.0f}/s against {theirs:.0f}/s"


def _shown(found: Interval) -> str:
    ends = "" if found.low is None else f" ({found.low:.2f}–{found.high:.2f})"
    return f"{found.value:.2f} ×{ends}"


def _seconds(value: float) -> Figure:
    return Figure(value, "s")


def _rate(value: float) -> Figure:
    return Figure(value, "samples/s")


PARTS: dict[str, Callable[[Bench], None]] = {
    "rest": rest,
    "grpc": grpc,
    "engine": engine,
    "null": null,
    "jpeg": jpeg,
    "goodput": goodput,
    "ready": ready,
}
