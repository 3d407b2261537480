"""Does the search find what an exhaustive one finds, in a quarter of its time?

    python benchmarks/search.py [--models resnet18,mobilenetv3_small_100,regnety_002,convnextv2_atto]
                                [--repeats 3] [--seconds 1.5] [--smoke] [--json FILE]

The grid: every engine of ``ENGINES`` in ``PRECISIONS`` (a pair that cannot run here is left out and said), times
``BATCHES``, times three layouts of the cores (one call on all, one call on half, as many calls as cores), shapes
fixed: 75 configurations where bf16 runs on PyTorch and OpenVINO.

Both sides start cold, with processes and files of their own, and are timed from the first build to the winner: builds,
starting processes, opening, one call compared with PyTorch per configuration, measuring.  The export, which both
use, is not.  The exhaustive search measures every configuration for ``--seconds``, as long as the search
measures its leaders.  Then both winners are measured again in turns, A B B A, each in a process of its own; the
same configuration twice is one: ratio 1.

To reach, for each model, in the median of the repeats: speed ratio at least 0.95, time ratio at most 0.25.
The exit code is 3 when a model misses.  About 10 minutes a model with 3 repeats on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verdict import MISSED

from assay.core import clock
from assay.core.shapes import parse_shape
from assay.job.context import Context, Data, Exported
from assay.job.dataset import open_data
from assay.job.folder import RunFolder
from assay.job.opening import reference_candidate
from assay.job.pipeline import open_model
from assay.job.progress import Silent
from assay.job.request import Objects, RunRequest
from assay.job.stages.build import build
from assay.job.stages.export import export
from assay.job.tune.finals import duel
from assay.job.tune.request import Tuning
from assay.job.tune.search import search_in, set_space
from assay.job.tune.space import Axes
from assay.job.tune.trials import Scene, Trials
from assay.measure.environment import cores_granted, device_name, environment
from assay.search.halving import exhaust
from assay.search.space import Point
from assay.sources import SourceOptions

MODELS = {"resnet18": 96, "mobilenetv3_small_100": 128, "regnety_002": 128, "convnextv2_atto": 96}
"""timm names and the size of their pictures."""
ENGINES = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16")
BATCHES = (1, 2, 4, 8, 16)
SPEED, TIME, LEAST = 0.95, 0.25, 60
FOR_EVER_S = 3600.0


@dataclass(frozen=True)
class Model:
    """A model and its export, made once: both sides use it."""

    request: RunRequest
    context: Callable[[RunFolder], Context]
    exported: Exported
    data: Data


@dataclass(frozen=True)
class Side:
    """Where one side ended, after how long, with how many trials; ``configurations`` is the size of the space."""

    winner: Point
    seconds: float
    trials: int
    configurations: int


def opened(name: str, size: int, folder: RunFolder) -> Model:
    shape = parse_shape(f"batchx3x{size}x{size}")
    request = RunRequest(
        f"timm:{name}",
        folder.path,
        engines=ENGINES,
        precisions=PRECISIONS,
        source=SourceOptions(out_dir=folder.path, shapes=(shape,)),
    )
    model = open_model(request, Objects(), folder.artifacts)

    def context(own: RunFolder) -> Context:
        return Context(request, Objects(), own, Silent(), model, environment(), device_name("cpu"), clock.now())

    ctx = context(folder)
    exported = export(ctx)
    return Model(request, context, exported, open_data(request, Objects(), model, exported.signature))


def tuning_of(seconds: float, batches: tuple[int, ...]) -> Tuning:
    """The budget whose leaders are measured for ``seconds``; it is never reached."""
    return Tuning(budget_s=120 * seconds, axes=Axes(batches=batches, forms=False))


def one_side(model: Model, tuning: Tuning, run: Callable[[Context, Trials], tuple[Point, int]]) -> Side:
    """Cold: files and processes of its own, from the first build to the winner."""
    with tempfile.TemporaryDirectory(prefix="assay-search-") as place, RunFolder(Path(place)) as folder:
        ctx = model.context(folder)
        started = clock.now()
        reference = reference_candidate(ctx.model, model.exported.onnx, model.exported.signature, ctx.device_name)
        scene = Scene(model.exported, model.data, reference)
        with Trials(ctx, scene, tuning.objective, started + FOR_EVER_S) as trials:
            trials.prepare()
            set_space(trials, build(ctx, model.exported), tuning)
            winner, count = run(ctx, trials)
            return Side(winner, clock.now() - started, count, len(trials.mapped.space))


def searched(model: Model, tuning: Tuning) -> Side:
    def run(ctx: Context, trials: Trials) -> tuple[Point, int]:
        never = clock.now() + FOR_EVER_S
        found = search_in(ctx, trials, tuning, (never, never))
        return found.finals.order[0].point, found.found.trials

    return one_side(model, tuning, run)


def exhausted(model: Model, tuning: Tuning) -> Side:
    def run(ctx: Context, trials: Trials) -> tuple[Point, int]:
        found = exhaust(trials.mapped.space, tuning.objective, trials, tuning.rules.full_s)
        assert found.best is not None
        return found.best.point, found.trials

    return one_side(model, tuning, run)


def against(model: Model, tuning: Tuning, exhaustive: Point, found: Point) -> tuple[float, str]:
    """The speed of the search's winner over the exhaustive one's, measured in turns."""
    if exhaustive == found:
        return 1.0, "the same configuration"
    with tempfile.TemporaryDirectory(prefix="assay-duel-") as place, RunFolder(Path(place)) as folder:
        ctx = model.context(folder)
        reference = reference_candidate(ctx.model, model.exported.onnx, model.exported.signature, ctx.device_name)
        scene = Scene(model.exported, model.data, reference)
        with Trials(ctx, scene, tuning.objective, clock.now() + FOR_EVER_S) as trials:
            set_space(trials, build(ctx, model.exported), tuning)
            ratio = duel(trials, exhaustive, found, 60.0)
    if ratio.value is None:
        raise SystemExit(f"the winners could not be measured in turns: {ratio.reason}")
    span = "" if ratio.low is None else f" ({ratio.low:.3f}–{ratio.high:.3f})"
    return ratio.value, f"{ratio.value:.3f}{span} in turns"


def one_model(name: str, size: int, given: argparse.Namespace) -> dict[str, Any]:
    tuning = tuning_of(given.seconds, given.batches)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="assay-model-") as place, RunFolder(Path(place)) as folder:
        model = opened(name, size, folder)
        for number in range(given.repeats):
            # In turns, so that whatever the machine remembers helps neither side more often.
            order = (searched, exhausted) if number % 2 == 0 else (exhausted, searched)
            sides = {side.__name__: side(model, tuning) for side in order}
            mine, all_of_them = sides["searched"], sides["exhausted"]
            if all_of_them.configurations < given.least:
                raise SystemExit(f"{all_of_them.configurations} configurations are fewer than {given.least}")
            speed, how = against(model, tuning, all_of_them.winner, mine.winner)
            share = mine.seconds / all_of_them.seconds
            rows.append({"speed": speed, "time": share, "searched": vars(mine), "exhausted": vars(all_of_them)})
            print(
                f"{name:<24} {number + 1}: speed {speed:.3f} ({how}), time {share:.3f}: {mine.seconds:.0f} s and "
                f"{mine.trials} trials against {all_of_them.seconds:.0f} s and {all_of_them.trials}\n"
                f"{'':<27} searched   {mine.winner}\n{'':<27} exhaustive {all_of_them.winner}",
                flush=True,
            )
    speed, share = (statistics.median(row[what] for row in rows) for what in ("speed", "time"))
    good = speed >= SPEED and share <= TIME
    print(
        f"{name:<24} median of {len(rows)}: speed {speed:.3f} (at least {SPEED}), time {share:.3f} (at most {TIME})"
        f"{'' if good else '   MISSED'}",
        flush=True,
    )
    return {"model": name, "size": size, "speed": speed, "time": share, "reached": good, "repeats": rows}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The search against an exhaustive one.")
    parser.add_argument("--models", default=",".join(MODELS), help="timm names, NAME or NAME@SIZE")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="one measurement at full length, on both sides")
    parser.add_argument("--smoke", action="store_true", help="one small model, once, a small grid: does it run at all")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    given.batches, given.least = BATCHES, LEAST
    if given.smoke:
        given.models, given.repeats, given.seconds = "mobilenetv3_small_100@64", 1, 0.5
        given.batches, given.least = (1, 4), 10
    return given


def main() -> int:
    given = arguments()
    load, cores = os.getloadavg()[0], cores_granted()
    busy = ": others are running, ratios are noisy" if load > 0.5 else ""
    print(f"load average {load:.1f} on {math.floor(cores)} cores{busy}")
    results = []
    for text in given.models.split(","):
        name, _, size = text.partition("@")
        results.append(one_model(name, int(size or MODELS.get(name, 128)), given))
    missed = [r["model"] for r in results if not r["reached"]]
    if given.json:
        given.json.write_text(json.dumps({"search": results, "missed": missed}, indent=2, default=str))
    print("missed: " + ", ".join(missed) if missed else "all reached")
    return MISSED if missed and not given.smoke else 0


if __name__ == "__main__":
    sys.exit(main())
