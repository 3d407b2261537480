"""Is what ``assay tune`` picks as fast as what a person finds by hand, or OpenVINO's own tool by its hints?

    python benchmarks/tuned.py [--models resnet18,resnet50,regnety_016,convnextv2_atto] [--budget 180]
                               [--seconds 3] [--pairs 3] [--smoke] [--json FILE]

For each model: ``assay tune --objective throughput`` with a budget; then, on the files that run made and in the
precisions whose outputs passed there, the settings of ``HANDS`` (streams and batch sizes that people
try first, each measured for ``--seconds``), and ``benchmark_app`` with each of its hints at batch 1 and 8.  The best by
hand is measured against the pick in turns (A B B A); the best of ``benchmark_app`` against the pick in alternating
pairs, since it is a program of its own.

To reach, for each model: the pick is at least 0.97 times the best of all.  Printed besides: the gain over PyTorch
eager and over torch.compile.  The exit code is 3 when a model misses.  About 6 minutes a model.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from verdict import MISSED

from assay.core import clock
from assay.core.engine import Candidate
from assay.core.shapes import parse_shape
from assay.core.stats import mean_interval
from assay.job.context import Context, Data
from assay.job.dataset import open_data
from assay.job.folder import RunFolder
from assay.job.opening import reference_candidate
from assay.job.pipeline import open_model
from assay.job.progress import Silent
from assay.job.request import Objects, RunRequest
from assay.job.stages.build import build
from assay.job.stages.export import export
from assay.job.tune.finals import duel
from assay.job.tune.one import TuneResult, tune
from assay.job.tune.request import TuneRequest, Tuning
from assay.job.tune.search import set_space
from assay.job.tune.trials import Scene, Trials
from assay.measure.environment import cores_granted, device_name, environment
from assay.search.halving import Effort
from assay.search.objective import parse_objective
from assay.search.space import Form, Layout, Point
from assay.sources import SourceOptions

MODELS = {"resnet18": 224, "resnet50": 224, "regnety_016": 224, "convnextv2_atto": 224}
HANDS = [(batch, calls, True) for batch in (1, 4, 8, 16) for calls in (1, 2)] + [(8, 1, False)]
"""Batch size, calls side by side, shapes fixed: what people try first."""
HINTS = [(hint, batch) for hint in ("latency", "throughput", "cumulative_throughput") for batch in (1, 8)]
HAND_ENGINES = ("onnxruntime", "openvino")
FLOOR = 0.97
_PRECISION = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}


@dataclass(frozen=True)
class Setting:
    """``rate`` in samples/s."""

    name: str
    rate: float
    point: Point | None = None
    command: tuple[str, ...] = ()


def request_of(name: str, size: int, folder: Path) -> RunRequest:
    shape = parse_shape(f"batchx3x{size}x{size}")
    source = SourceOptions(out_dir=folder, shapes=(shape,))
    return RunRequest(f"timm:{name}", folder, data="synthetic", source=source)


def picked(request: RunRequest, budget_s: float) -> TuneResult:
    tuning = Tuning(parse_objective("throughput"), budget_s)
    result = tune(TuneRequest(request, tuning))
    if result.best is None:
        raise SystemExit(f"tune picked nothing: {result.verdict}")
    return result


def admitted(result: TuneResult) -> set[str]:
    """Precisions in which some configuration's outputs were found in order in that very run."""
    good = ("equal", "within format cost")
    return {r.subject["precision"] for r in result.records if r.kind == "verify" and r.details.get("class") in good}


def trials_on(request: RunRequest, folder: RunFolder) -> tuple[Trials, list[Candidate]]:
    """The files of the tuning run, to measure other settings of them."""
    model = open_model(request, Objects(), folder.artifacts)
    ctx = Context(request, Objects(), folder, Silent(), model, environment(), device_name("cpu"), clock.now())
    exported = export(ctx)
    data: Data = open_data(request, Objects(), model, exported.signature)
    reference = reference_candidate(model, exported.onnx, exported.signature, ctx.device_name)
    tuning = Tuning()
    trials = Trials(ctx, Scene(exported, data, reference), tuning.objective, clock.now() + 3600)
    candidates = build(ctx, exported)
    set_space(trials, candidates, tuning)
    return trials, candidates


def by_hand(trials: Trials, precisions: set[str], seconds: float) -> Iterator[Setting]:
    cores = max(1, math.floor(cores_granted()))
    for family, base in trials.mapped.bases.items():
        if base.engine not in HAND_ENGINES or base.options.precision not in precisions:
            continue
        for batch, calls, static in HANDS:
            if calls > cores:
                continue
            point = Point(family, batch, Layout(calls, max(1, cores // calls)), Form(static))
            records = trials(point, Effort("by hand", seconds))
            rate = next((r.value("throughput") for r in records if r.kind == "measure"), None)
            if rate is not None:
                yield Setting(str(point), rate, point)


def by_benchmark_app(folder: Path, precisions: set[str], size: int, seconds: float) -> Iterator[Setting]:
    xml = next(iter(sorted(folder.glob("artifacts/openvino-fp32/**/model.xml"))), None)
    if xml is None:
        return
    for precision in sorted(precisions & set(_PRECISION)):
        for hint, batch in HINTS:
            command = ("-m", str(xml), "-d", "CPU", "-hint", hint, "-infer_precision", _PRECISION[precision])
            command += ("-shape", f"[{batch},3,{size},{size}]", "-t", str(max(1, round(seconds))))
            rate = app_rate(command)
            if rate is not None:
                yield Setting(f"benchmark_app {precision}, hint {hint}, batch {batch}", rate, command=command)


def app_rate(command: tuple[str, ...]) -> float | None:
    """Samples/s of one run of ``benchmark_app``; None where it does not run so."""
    with tempfile.TemporaryDirectory() as folder:
        tool = [str(Path(sys.executable).parent / "benchmark_app"), *command]
        tool += ["-json_stats", "-report_type", "no_counters", "-report_folder", folder]
        done = subprocess.run(tool, capture_output=True, text=True, check=False, start_new_session=True)
        report = Path(folder) / "benchmark_report.json"
        if done.returncode or not report.is_file():
            return None
        return float(json.loads(report.read_text())["execution_results"]["throughput"])


def pairs_with_app(trials: Trials, pick: Point, other: Setting, given: argparse.Namespace) -> float:
    """The pick's rate over the tool's, in alternating pairs."""
    logs = []
    for number in range(given.pairs):
        mine: float | None = None
        theirs: float | None = None
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            if side == 0:
                records = trials(pick, Effort(f"pair {number}", given.seconds))
                mine = next((r.value("throughput") for r in records if r.kind == "measure"), None)
            else:
                theirs = app_rate(other.command)
        if mine is None or theirs is None:
            raise SystemExit(f"{pick} or {other.name} could not be measured again")
        logs.append(math.log(mine / theirs))
    return math.exp(mean_interval(np.asarray(logs)).value)


def one_model(name: str, size: int, given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="assay-tuned-") as place:
        folder = Path(place) / "run"
        request = request_of(name, size, folder)
        result = picked(request, given.budget)
        assert result.best is not None
        print(f"{name:<18} tune picked {result.best['label']} in {result.tuned['spent_s']:.0f} s", flush=True)
        with RunFolder(folder) as run_folder:
            trials, _ = trials_on(request, run_folder)
            with trials:
                pick = point_of(trials, result.best)
                precisions = admitted(result)
                hands = sorted(by_hand(trials, precisions, given.seconds), key=lambda s: -s.rate)
                tools = sorted(by_benchmark_app(folder, precisions, size, given.seconds), key=lambda s: -s.rate)
                ratios = compared(trials, pick, (hands[:1], tools[:1]), given)
    worst = min(ratios.values())
    good = worst >= FLOOR
    for what, ratio in ratios.items():
        print(f"{'':<18} {ratio:.3f}× {what}", flush=True)
    for what, figure in result.tuned["gains"].items():
        print(f"{'':<18} {figure['value']:.1f}× {what}" if figure else f"{'':<18} not measured: {what}", flush=True)
    print(f"{name:<18} at least {worst:.3f} of the best (to reach {FLOOR}){'' if good else '   MISSED'}", flush=True)
    return {"model": name, "pick": result.best["label"], "ratios": ratios, "reached": good}


def compared(
    trials: Trials, pick: Point, best: tuple[list[Setting], list[Setting]], given: argparse.Namespace
) -> dict[str, float]:
    """The pick over the best by hand (in turns) and over the best of benchmark_app (in pairs)."""
    ratios: dict[str, float] = {}
    for hand in best[0]:
        assert hand.point is not None
        found = 1.0 if hand.point == pick else duel(trials, hand.point, pick, 60.0).value
        if found is None:
            raise SystemExit(f"{pick} and {hand.point} could not be measured in turns")
        ratios[f"{hand.name} ({hand.rate:.0f}/s)"] = found
    for tool in best[1]:
        ratios[f"{tool.name} ({tool.rate:.0f}/s)"] = pairs_with_app(trials, pick, tool, given)
    return ratios


def point_of(trials: Trials, best: dict[str, Any]) -> Point:
    """The point whose candidate tune chose."""
    for point in trials.mapped.space.points():
        if point.batch == best["batch"] and trials.mapped.candidate(point).digest == best["candidate"]:
            return point
    raise SystemExit(f"{best['label']} is no point of the space")


def main() -> int:
    parser = argparse.ArgumentParser(description="What tune picks against settings found by hand and by hints.")
    parser.add_argument("--models", default=",".join(MODELS), help="timm names, NAME or NAME@SIZE")
    parser.add_argument("--budget", type=float, default=180.0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="one small model, short: does it run at all")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.smoke:
        given.models, given.budget, given.seconds, given.pairs = "mobilenetv3_small_100@64", 40.0, 0.5, 1
    load = os.getloadavg()[0]
    print(f"load average {load:.1f}{': others are running, ratios are noisy' if load > 0.5 else ''}")
    results = []
    for text in given.models.split(","):
        name, _, size = text.partition("@")
        results.append(one_model(name, int(size or MODELS.get(name, 224)), given))
    missed = [r["model"] for r in results if not r["reached"]]
    if given.json:
        given.json.write_text(json.dumps({"tuned": results, "missed": missed}, indent=2, default=str))
    print("missed: " + ", ".join(missed) if missed else "all reached")
    return MISSED if missed and not given.smoke else 0


if __name__ == "__main__":
    sys.exit(main())
