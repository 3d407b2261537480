"""How near ``assay evaluate`` comes to what the machine allows, on real JPEGs, for three models.

P is the rate of preprocessing alone, I that of inference alone, each on all cores, with the session and the
batch of the pipeline.  Without an accelerator both share the cores, so no pipeline can be faster
than 1 / (1/P + 1/I); with one, than the slower of the two.  P, I and the whole pipeline are measured in turn in
every round, and the ratio is taken within a round, so that a busy moment of the machine meets all three.
On a machine with other work that is still not enough, so the processor time a sample takes in either part alone
is also set against what it takes in the pipeline, which others cannot disturb so much::

    python benchmarks/pipeline.py [IMAGES [ROUNDS [ENGINE [PRECISION]]]]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from preprocess import pictures

from assay.core import clock
from assay.core.sample import stack
from assay.core.units import format_rate
from assay.job.dataset import open_data
from assay.job.evaluate_one import Evaluation, flow_for, open_for_throughput, stages_for
from assay.job.opening import open_candidate
from assay.job.request import Objects, RunRequest
from assay.pipeline import Flow, ShardStore, Stages, bottleneck, rates, run
from assay.sources import SourceOptions
from assay.tasks import open_task

MODELS = ("timm:mobilenetv3_small_100", "timm:resnet18", "timm:regnety_016")
TARGET = 0.95
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
    items = list(stages.read(0, count))
    spec = stages.signature.inputs[0]
    rows = [{spec.name: np.empty(spec.row_shape(), np.float32)} for _ in range(flow.cores)]
    return on_all(flow.cores, len(items), lambda thread, i: stages.prepare(items[i], rows[thread]))


def inference_alone(stages: Stages, flow: Flow, samples: list[Any], count: int) -> Alone:
    feed = stack(samples[: flow.batch], stages.signature)
    calls = max(2 * flow.workers, count // flow.batch)
    found = on_all(flow.workers, calls, lambda thread, i: stages.infer(feed))
    return Alone(flow.batch * found.rate, found.processor_s / flow.batch)


def one_model(model: str, folder: Path, counts: tuple[int, int], engine: str, precision: str) -> list[float]:
    images, rounds = counts
    asked = Evaluation(model, str(folder), engine=engine, precision=precision, batch=BATCH)
    found: list[float] = []
    with tempfile.TemporaryDirectory() as work:
        ready = open_for_throughput(asked, SourceOptions(out_dir=Path(work)))
        data = open_data(RunRequest(model, Path(work), data=str(folder)), Objects(), ready.model, ready.signature)
        with open_candidate(ready.candidate) as session:
            flow = flow_for(session, "cpu", images, BATCH)
            stages = stages_for(session, data, open_task("classification"))
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
                bound = 1 / (1 / p.rate + 1 / i.rate)
                found.append(speed.e2e / bound)
                print(
                    f"  P {format_rate(p.rate)}, I {format_rate(i.rate)}, bound {format_rate(bound)}, "
                    f"e2e {format_rate(speed.e2e)} images/s: {found[-1]:.1%}"
                )
                alone = p.processor_s + i.processor_s
                print(f"  processor time alone {1e3 * alone:.2f} ms, here {1e3 * took:.2f} ms: {alone / took:.1%}")
            held = bottleneck(speed, flow)
            assert held is not None
            print(f"  {ready.candidate.label}: {held.stage} holds it back, {held.why}")
    return found


def main(images: int, rounds: int, engine: str, precision: str) -> None:
    sys.setswitchinterval(0.0001)
    with tempfile.TemporaryDirectory() as work:
        folder = image_folder(Path(work), images)
        print(f"{images} JPEGs of 500×375, batch {BATCH}, {engine} {precision}, {rounds} rounds")
        for model in MODELS:
            print(model)
            found = one_model(model, folder, (images, rounds), engine, precision)
            print(f"  ratio {statistics.median(found):.1%} of the bound (target {TARGET:.0%})")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        int(given[0]) if given else 2000,
        int(given[1]) if len(given) > 1 else 3,
        given[2] if len(given) > 2 else "openvino",
        given[3] if len(given) > 3 else "fp32",
    )
