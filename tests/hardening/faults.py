"""What goes wrong around ``assay run``, made to happen: a killed process, a full disk, an engine that breaks.

Used by the tests and, with more rounds, by ``scripts/harden-faults``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BROKEN = Path(__file__).parent / "broken"
WELL = "never"
RUN_S = 240.0


@dataclass(frozen=True)
class Ended:
    """``code`` is negative where a signal ended it."""

    code: int
    out: str
    err: str


def small_model(path: Path) -> Path:
    """A convolution, a ReLU and a product with weights of a fixed seed: 3x16x16 -> 5, batch free."""
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "matrix": rng.normal(0, 0.3, (8, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "matrix"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def arguments(model: Path, out: Path) -> list[str]:
    """Two engines, since one alone is compared with nothing."""
    return ["run", str(model), "--data", "synthetic", "--quick", "--engine", "onnxruntime,broken", "--out", str(out)]


def start(given: list[str], breaks: str = WELL) -> subprocess.Popen[str]:
    """The command line in a process group of its own, with the engine ``broken`` in its table."""
    environment = {**os.environ, "PYTHONPATH": str(BROKEN), "ASSAY_BREAK": breaks}
    command = [sys.executable, "-m", "assay.cli.main", *given]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def assay(given: list[str], breaks: str = WELL) -> Ended:
    process = start(given, breaks)
    try:
        out, err = process.communicate(timeout=RUN_S)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    return Ended(process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> None:
    """kill -9 for it and whatever it started in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def killed_after(given: list[str], delay_s: float) -> list[str]:
    """What a run had said when it was killed after so many seconds, line by line; all of it where it ended before."""
    process = start(given)
    try:
        _, err = process.communicate(timeout=delay_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        _, err = process.communicate()
    return err.splitlines()


def records(out: Path) -> list[dict[str, object]]:
    """The Records of a folder; of a torn last line nothing is expected."""
    file = out / "records.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def kill_at_random(model: Path, folder: Path, rounds: int, seed: int) -> list[str]:
    """Kill runs at random moments of their whole length, go on with each, and say what did not hold."""
    began = time.perf_counter()
    whole = assay(arguments(model, folder / "whole"))
    length_s = time.perf_counter() - began
    assert whole.code == 0, whole.err
    kinds = sorted(str(r["kind"]) for r in records(folder / "whole"))
    chance, wrong = random.Random(seed), []
    for number in range(rounds):
        out = folder / f"killed-{number}"
        delay_s = chance.uniform(0.0, length_s)
        said = killed_after(arguments(model, out), delay_s)
        wrong += [f"after {delay_s:.2f} s: {text}" for text in lost(out, said, arguments(model, out), kinds)]
    return wrong


def lost(out: Path, said: list[str], again: list[str], kinds: list[str]) -> Iterator[str]:
    """What of a killed run was said to be done and is not there, and what its next run does not make good."""
    before = records(out)
    ids = [r["id"] for r in before]
    for stage in sorted((out / "stages").glob("*.json")):
        missing = [i for i in json.loads(stage.read_text())["records"] if i not in ids]
        if missing:
            yield f"{stage.name} counts on Records that are not there"
    done = sum(1 for line in said if line.startswith(("export", "build", "verify", "evaluate", "measure")))
    if done > len(before):
        yield f"{done} stages were said to be done, {len(before)} Records are there"
    if (out / "run.json").exists():
        json.loads((out / "run.json").read_text())
    ended = assay(again)
    if ended.code != 0 or "Traceback" in ended.err:
        yield f"the next run ended with {ended.code}: {ended.err[-400:]}"
        return
    after = records(out)
    if [r["id"] for r in after[: len(ids)]] != ids:
        yield "the next run did not keep the Records there were"
    if sorted({str(r["kind"]) for r in after}) != sorted(set(kinds)):
        yield f"the next run has Records of {sorted({str(r['kind']) for r in after})}"
    checked = assay(["check", str(out / "bundle")])
    if checked.code != 0:
        yield f"its bundle does not check: {checked.err[-300:]}"


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of ``size`` (as mount has it).  Raises OSError where this process may not mount one."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "assay-test", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        raise OSError(done.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
