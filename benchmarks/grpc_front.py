"""What a gRPC front end costs the server: ours against grpc.aio and grpc's thread pool, in one run.

    python benchmarks/grpc_front.py [--requests 2000] [--clients 4] [--rounds 3] [--json FILE]

All three answer ModelInfer for one fp32 tensor (1, 3, 224, 224) with 4 KB, through the same message reader
and writer, the same repository and batcher, and the null engine; each in a process of its own, pressed by the
same client process (tritonclient, ``--clients`` threads on a channel each).  The rounds alternate.

``cpu_us`` is processor time of the server per request, which a busy machine distorts less than a rate;
``rate`` is requests a second with client and server on the same cores.  Exit code 1 when ours is not the cheapest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from verdict import MISSED

from assay.batching.batcher import DynamicBatcher
from assay.batching.settings import BatcherSettings
from assay.core import clock
from assay.core.tensors import Signature, TensorSpec
from assay.engines.null import NullSession
from assay.serve.grpc.calls import Served
from assay.serve.grpc.infer import Asked, Beside, InferCall, InferPath
from assay.serve.grpc.message import RequestReader
from assay.serve.grpc.server import GrpcServer
from assay.serve.grpc.stream import Incoming, MessageMemory
from assay.serve.grpc.tensors import read_inputs
from assay.serve.inference import InferRequest
from assay.serve.models import ModelParts
from assay.serve.repository import Repository
from assay.serve.settings import ServeSettings

FRONTS = ("ours", "grpc.aio", "grpc threads")
SHAPE = (1, 3, 224, 224)
SIGNATURE = Signature(
    (TensorSpec("input", "float32", ("batch", *SHAPE[1:])),), (TensorSpec("output", "float32", ("batch", 1000)),)
)


class OneModel:
    def names(self) -> tuple[str, ...]:
        return ("null",)

    def versions(self, name: str) -> dict[str, str]:
        return {"1": ""}

    def open(self, name: str, version: str) -> ModelParts:
        session = NullSession(SIGNATURE, 1)
        queue = DynamicBatcher(session, BatcherSettings(max_batch=8))
        queue.start()
        return ModelParts(name, version, queue.signature, queue, session.close, max_batch=8)


def repository() -> Repository:
    made = Repository(OneModel())
    made.load("null")
    return made


# The three servers


async def serve_ours() -> None:
    server = GrpcServer(repository(), ServeSettings(), ThreadPoolExecutor(2))
    announce(await server.start("127.0.0.1", 0))
    await asyncio.Event().wait()


class Future(InferCall):
    """An answer for grpc's servers: the same path, another way out."""

    def __init__(self, path: InferPath, told: Callable[[bytes], object]) -> None:
        self.path = path
        self.told = told
        self.encoding = "identity"

    def answered(self, asked: Asked) -> None:
        parts, _ = self.path.response(asked.result(), {})
        self.told(b"".join(parts))


def infer_path(models: Repository) -> InferPath:
    beside = Beside(ThreadPoolExecutor(1), 1 << 27, print)
    return InferPath(models, Served(models, None), MessageMemory(1 << 30), beside)


async def serve_aio() -> None:
    import grpc

    path, loop = infer_path(repository()), asyncio.get_running_loop()

    async def infer(data: bytes, context: Any) -> bytes:
        done: asyncio.Future[bytes] = loop.create_future()
        call = Future(path, done.set_result)
        path.start(Asked(call, None), Incoming(memoryview(data), None, False), None)
        return await done

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((handler(grpc, infer),))
    announce(server.add_insecure_port("127.0.0.1:0"))
    await server.start()
    await server.wait_for_termination()


def serve_threads() -> None:
    import grpc

    models = repository()

    async def made() -> InferPath:
        return infer_path(models)

    path = asyncio.run(made())

    def infer(data: bytes, context: Any) -> bytes:
        gate = threading.Lock()
        gate.acquire()
        read = RequestReader().read(memoryview(data))
        request = InferRequest(read.model_name, read_inputs(read.inputs, read.raw, None), clock.now())
        models.submit(request, lambda _: gate.release())
        gate.acquire()
        parts, _ = path.response(request, {})
        return b"".join(parts)

    server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((handler(grpc, infer),))
    announce(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    server.wait_for_termination()


def handler(grpc: Any, infer: Any) -> Any:
    method = grpc.unary_unary_rpc_method_handler(infer, lambda data: data, lambda data: data)
    return grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": method})


def announce(port: int) -> None:
    print(port, flush=True)


def serve(front: str) -> None:
    sys.setswitchinterval(0.0001)
    if front == "grpc threads":
        serve_threads()
        return
    import uvloop

    uvloop.run(serve_aio() if front == "grpc.aio" else serve_ours())


# The client


def press(port: int, clients: int, requests: int) -> float:
    """Seconds for ``requests`` by ``clients`` threads."""
    import tritonclient.grpc as client

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [client.InferenceServerClient(f"127.0.0.1:{port}", channel_args=options) for _ in range(clients)]
    tensor = client.InferInput("input", list(SHAPE), "FP32")
    tensor.set_data_from_numpy(np.random.default_rng(0).random(SHAPE, np.float32))

    def work(channel: Any) -> None:
        for _ in range(requests // clients):
            channel.infer("null", [tensor])

    for channel in channels:
        channel.infer("null", [tensor])
    threads = [threading.Thread(target=work, args=(c,)) for c in channels]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def cpu_s(pid: int) -> float:
    """Processor seconds of a process, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(front: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--serve", front]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            press(port, options.clients, options.clients * 20)
            before = cpu_s(process.pid)
            seconds = press(port, options.clients, options.requests)
            used = cpu_s(process.pid) - before
        finally:
            process.kill()
    return {"front": front, "cpu_us": 1e6 * used / options.requests, "rate": options.requests / seconds}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", choices=FRONTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    rows = []
    for number in range(options.rounds):
        for front in FRONTS if number % 2 == 0 else FRONTS[::-1]:
            row = measure(front, options)
            rows.append(row)
            print(f"{row['front']:14} {row['cpu_us']:7.0f} µs server cpu/request  {row['rate']:7.0f} requests/s")
    best = {front: min(r["cpu_us"] for r in rows if r["front"] == front) for front in FRONTS}
    print("least:", ", ".join(f"{front} {us:.0f} µs" for front, us in best.items()))
    for front in FRONTS[1:]:
        print(f"{front} / ours: {best[front] / best['ours']:.2f}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows, "least_cpu_us": best}, indent=1))
    return 0 if min(best, key=best.__getitem__) == "ours" else MISSED


if __name__ == "__main__":
    sys.exit(main())
