"""How near ``assay evaluate`` comes to what the machine allows, on real JPEGs, for three models.

P is the rate of preprocessing alone, I that of inference alone, each on all cores, with the session and the
batch of the pipeline.  Without an accelerator both share the cores, so no pipeline can be faster
than 1 / (1/P + 1/I); with one, than the slower of the two.  P, I and the whole pipeline are measured in turn in
every round, and the ratio is taken within a round, so that a busy moment of the machine meets all three.
On a machine with other work that is still not enough, so the processor time a sample takes in either part alone
is also set against what it takes in the pipeline, which others cannot disturb so much::

    python benchmarks/pipeline.py [IMAGES [ROUNDS [ENGINE [PRECISION]]]] [--workers N] [--models NAME,…]
    python benchmarks/pipeline.py --memory [SMALL LARGE]

The second form evaluates SMALL (1 000) and LARGE (20 000) images, each in a process of its own, and prints how far
apart their largest resident sizes are.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from preprocess import pictures
from verdict import MISSED

from assay.core import clock
from assay.core.sample import stack
from assay.core.units import format_rate
from assay.job.dataset import open_data
from assay.job.evaluate.one import Evaluation, open_for_throughput
from assay.job.evaluate.through import Work, evaluate_through, flow_for, stages_for
from assay.job.opening import open_candidate
from assay.job.request import Objects, RunRequest
from assay.measure.predictions import save_predictions
from assay.pipeline import Flow, ShardStore, Stages, bottleneck, rates, run
from assay.sources import SourceOptions
from assay.tasks import open_task

MODELS = ("timm:mobilenetv3_small_100", "timm:resnet18", "timm:regnety_016")
TARGET = 0.95
MOST_GROWTH = 0.05
BATCH = 8


@dataclass(frozen=True)
class Alone:
    """Samples a second on all cores, and the processor time of each."""

    rate: float
    processor_s: float


def image_folder(root: Path, count: int) -> Path:
    for index, content in enumerate(pictures(count)):
        folder = root / f"class{index % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:05d}.jpg").write_bytes(content)
    return root


def on_all(threads: int, calls: int, call: Callable[[int, int], Any]) -> Alone:
    """``calls`` calls taken one after the other by ``threads`` threads; call(thread, number)."""
    numbers, lock = iter(range(calls)), threading.Lock()

    def work(thread: int) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            call(thread, number)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    started, busy = clock.now(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return Alone(calls / (clock.now() - started), (time.process_time() - busy) / calls)


def both(one: Alone, other: Alone) -> Alone:
    return Alone((one.rate + other.rate) / 2, (one.processor_s + other.processor_s) / 2)


def preprocess_alone(stages: Stages, flow: Flow, count: int) -> Alone:
    """Into the rows of a batch, each thread its own, as the pipeline's workers write them."""
    items = list(stages.read(0, count))
    spec = stages.signature.inputs[0]
    slots = [np.zeros((flow.batch, *spec.row_shape()), np.float32) for _ in range(flow.cores)]

    def one(thread: int, number: int) -> None:
        stages.prepare(items[number], {spec.name: slots[thread][number // flow.cores % flow.batch]})

    return on_all(flow.cores, len(items), one)


def inference_alone(stages: Stages, flow: Flow, samples: list[Any], count: int) -> Alone:
    """As many calls at a time as there are cores, each thread with a batch of its own."""
    feeds = [stack(samples[: flow.batch], stages.signature) for _ in range(flow.cores)]
    calls = max(2 * flow.cores, count // flow.batch)
    found = on_all(flow.cores, calls, lambda thread, i: stages.infer(feeds[thread]))
    return Alone(flow.batch * found.rate, found.processor_s / flow.batch)


def one_model(model: str, folder: Path, asked_for: argparse.Namespace) -> list[float]:
    images, rounds = asked_for.images, asked_for.rounds
    asked = Evaluation(model, str(folder), engine=asked_for.engine, precision=asked_for.precision, batch=BATCH)
    found: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        ready = open_for_throughput(asked, SourceOptions(out_dir=Path(work)))
        data = open_data(RunRequest(model, Path(work), data=str(folder)), Objects(), ready.model, ready.signature)
        with open_candidate(ready.candidate) as session:
            todo = Work(ready.candidate, ready.signature, data, open_task("classification"), images, BATCH)
            flow = flow_for(todo, session.signature, session.parallelism)
            flow = replace(flow, workers=asked_for.workers or flow.workers)
            stages = stages_for(session, todo)
            samples = list(data.samples(BATCH))
            inference_alone(stages, flow, samples, 5 * BATCH)
            for number in range(rounds):
                p = preprocess_alone(stages, flow, images // 4)
                i = inference_alone(stages, flow, samples, images // 4)
                busy = time.process_time()
                outcome = run(stages, flow, ShardStore(Path(work) / f"shards{number}", {}))
                took = (time.process_time() - busy) / images
                p = both(p, preprocess_alone(stages, flow, images // 4))
                i = both(i, inference_alone(stages, flow, samples, images // 4))
                speed = rates(outcome, flow)
                assert speed is not None
                most = 1 / (1 / p.rate + 1 / i.rate)
                found.append(speed.e2e / most)
                print(
                    f"  P {format_rate(p.rate)}, I {format_rate(i.rate)}, bound {format_rate(most)}, "
                    f"e2e {format_rate(speed.e2e)} images/s: {found[-1]:.1%}"
                )
                alone = p.processor_s + i.processor_s
                print(f"  processor time alone {1e3 * alone:.2f} ms, here {1e3 * took:.2f} ms: {alone / took:.1%}")
            held = bottleneck(speed, flow)
            assert held is not None
            print(f"  {ready.candidate.label}: {held.stage} holds it back, {held.why}")
    return found


def bound(asked_for: argparse.Namespace) -> list[str]:
    """The models that missed the target."""
    missed = []
    sys.setswitchinterval(0.0001)
    with tempfile.TemporaryDirectory() as work:
        folder = image_folder(Path(work), asked_for.images)
        what = f"{asked_for.engine} {asked_for.precision}, {asked_for.rounds} rounds"
        print(f"{asked_for.images} JPEGs of 500×375, batch {BATCH}, {what}")
        for model in asked_for.models.split(","):
            print(model)
            found = statistics.median(one_model(model, folder, asked_for))
            print(f"  ratio {found:.1%} of the bound (target {TARGET:.0%})")
            if found < TARGET:
                missed.append(model)
    print(f"missed: {', '.join(missed)}" if missed else "all reached")
    return missed


def memory(counts: list[int]) -> bool:
    """Whether the largest resident size grows no more than it may from one count of images to the other."""
    small, large = counts or (1000, 20_000)
    with tempfile.TemporaryDirectory() as work:
        source = image_folder(Path(work, "pictures"), min(small, 200))
        folder = many_links(source, Path(work, "links"), large)
        verb = "from assay.cli.main import main; main()"
        export = [sys.executable, "-c", verb, "export", MODELS[0], "-o", f"{work}/net.onnx", "--batch", "dynamic"]
        exported = subprocess.run(export, capture_output=True, text=True, check=False)
        assert exported.returncode == 0, exported.stderr
        found = []
        for count in (small, large):
            command = [sys.executable, __file__, "--memory-of", f"{work}/net.onnx", str(folder), str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            found.append(int(done.stdout))
            print(f"{count:>6} images: at most {found[-1] / 2**20:.1f} MiB resident")
    growth = found[1] / found[0] - 1
    print(f"growth {growth:+.1%} (target at most {MOST_GROWTH:.0%})")
    return growth <= MOST_GROWTH


def many_links(source: Path, target: Path, count: int) -> Path:
    """``count`` names for the files of ``source``."""
    files = sorted(source.rglob("*.jpg"))
    for index in range(count):
        file = files[index % len(files)]
        folder = target / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:06d}.jpg").hardlink_to(file)
    return target


def memory_of(onnx: str, folder: str, count: int) -> None:
    """Evaluate and print the largest resident size seen while it ran, in bytes."""
    settings = {"kind": "image", "size": [224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    seen = [0]

    def look(_: int) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        seen[0] = max(seen[0], pages * resource.getpagesize())

    with tempfile.TemporaryDirectory() as work:
        ready = open_for_throughput(Evaluation(onnx, folder, engine="onnxruntime"), SourceOptions(out_dir=Path(work)))
        ready = replace(ready, model=replace(ready.model, preprocess=settings))
        data = open_data(RunRequest(onnx, Path(work), data=folder), Objects(), ready.model, ready.signature)
        todo = Work(ready.candidate, ready.signature, data, open_task("classification"), count, BATCH)
        passed = evaluate_through(todo, lambda flow: ShardStore(Path(work, "shards"), {}), look)
        assert passed.outcome.scored == count
        save_predictions(Path(work), "all", passed.scored)
        look(count)
    print(seen[0])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", type=int, default=2000)
    parser.add_argument("rounds", nargs="?", type=int, default=3)
    parser.add_argument("engine", nargs="?", default="openvino")
    parser.add_argument("precision", nargs="?", default="fp32")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--workers", type=int, help="threads of the pipeline; default: the pipeline's own choice")
    parser.add_argument("--memory", nargs="*", type=int, metavar="COUNT", help="SMALL and LARGE")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    asked_for = parser.parse_args()
    if asked_for.memory_of is not None:
        onnx, folder, count = asked_for.memory_of
        memory_of(onnx, folder, int(count))
    elif asked_for.memory is not None:
        return 0 if memory(asked_for.memory) else MISSED
    else:
        return MISSED if bound(asked_for) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
