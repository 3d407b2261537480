"""An ONNX file and its data taken through the verbs that need nothing of PyTorch."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).parents[2]
MOST_S = 120.0
POLICY = "[numeric]\naccept_reference = true\n"
SERVED_S = 60.0


@dataclass(frozen=True)
class Said:
    """``text`` is the end of stdout and of stderr."""

    code: int
    text: str


Assay = Callable[[Sequence[object]], Said]
"""The command line without its first word -> what came of it."""


@contextmanager
def one_process(python: Path | str, environment: Mapping[str, str]) -> Iterator[Assay]:
    """The command line, many times in one process of ``python``, so that libraries are imported once."""
    process = subprocess.Popen(
        [str(python), "-m", "tests.hardening.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=dict(environment),
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def assay(words: Sequence[object]) -> Said:
        process.stdin.write(json.dumps({"argv": [str(w) for w in words]}) + "\n")
        process.stdin.flush()
        assert select.select([process.stdout], [], [], MOST_S)[0], f"{words}: no answer within {MOST_S:g} s"
        answer = json.loads(process.stdout.readline())
        assert answer["broken"] is None, (words, answer["broken"])
        return Said(answer["code"], answer["said"])

    try:
        yield assay
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()


def classifier(folder: Path) -> Path:
    """A Conv over the whole 1x8x8 picture, batch free; ``data.npz`` (targets are its own answers) and a policy beside
    it."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((10, 1, 8, 8), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Flatten", ["c"], ["scores"])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(kernel, "w")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    x = rng.standard_normal((64, 1, 8, 8), np.float32)
    scores = np.einsum("nchw,kchw->nk", x, kernel)
    np.savez(folder / "data.npz", x=x, target=scores.argmax(1))
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    return path


def travel(assay: Assay, model: Path, out: Path, engine: str) -> None:
    """Every verb on the way from a file to a bundle that has been checked, each with what it must have found."""
    data, policy = f"npz:{model.parent / 'data.npz'}", model.parent / "policy.toml"
    run, bundle = out / "run", out / "run" / "bundle"
    out.mkdir(parents=True, exist_ok=True)
    on = ("--engine", engine)

    def ok(*words: object) -> str:
        said = assay(words)
        assert said.code == 0, (words, said)
        assert "Traceback" not in said.text, (words, said)
        return said.text

    assert "Conv 1, Flatten 1" in ok("inspect", model)
    assert "equal: " in ok("verify", model, model, *on, "--samples", 4, "--batch", "1,2")
    assert "accuracy.top1    100.00 %" in ok("evaluate", model, "--data", data, *on)
    ok("bench", model, *on, "--batch", 1, "--duration", 0.1, "--json", out / "bench.json")
    measured = json.loads((out / "bench.json").read_text(encoding="utf-8"))
    (record,) = [r for r in measured["records"] if r["kind"] == "measure"]
    assert record["subject"]["engine"] == engine
    assert record["figures"]["throughput"]["value"] > 0
    ok("build", model, *on, "-o", out / "built")
    words = ["run", model, "--data", data, "--quick", "--batch", 1, *on, "--precision", "fp32", "--policy", policy]
    ok(*words, "--out", run)
    for file in ("report.html", "report.md", "report.csv", "verdict.json"):
        assert (run / file).stat().st_size
    ok("report", run)
    ok("gate", run, "--policy", policy)
    assert "small" in ok("runs", out)
    ok("pack", run, "-o", out / "packed")
    assert "goldens" in ok("check", out / "packed")
    assert assay(["replay", bundle, "--duration", "100ms"]).code in (0, 1)  # 1: a figure moved, as on a busy machine
    shutil.copytree(run, out / "again")
    compared = assay(["compare", run, out / "again"])
    # Two series of a busy machine may have stalled, and are then not ranked; accuracy is compared all the same.
    assert compared.code == 0 or "nothing was ranked" in compared.text, compared
    assert "accuracy on the same samples" in compared.text
    ok("doctor")
    assert engine in ok("engines")


def refused(assay: Assay, words: Sequence[object], install: str) -> None:
    """Asked for by name and not here: exit code 3 and the command that installs it."""
    said = assay(words)
    assert said.code == 3, (words, said)
    assert f"pip install {install}" in said.text.replace('"', "'"), (words, said)
    assert "Traceback" not in said.text, (words, said)


def serve(python: Sequence[object], environment: Mapping[str, str], bundle: Path) -> None:
    """Start the server over REST alone, ask it for one answer, and end it."""
    command = [
        *map(str, python),
        "serve",
        str(bundle),
        "--http-port",
        "0",
        "--no-grpc",
        "--no-metrics",
        "--log",
        "json",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(environment)) as process:
        try:
            assert process.stderr is not None
            said, events = [], {}
            while "ready" not in events:
                line = process.stderr.readline()
                assert line, "".join(said)
                said.append(line)
                if line.startswith("{"):
                    event = json.loads(line)
                    events[event["event"]] = event
            (name,) = (model.partition(":")[0] for model in events["ready"]["models"])
            base = f"http://127.0.0.1:{events['listening']['http_port']}/v2/models/{name}"
            feed = {"inputs": [{"name": "x", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": [0.5] * 64}]}
            asked = urllib.request.Request(f"{base}/infer", json.dumps(feed).encode())
            with urllib.request.urlopen(asked, timeout=SERVED_S) as answer:
                (output,) = json.loads(answer.read())["outputs"]
            assert output["shape"] == [1, 10]
            assert np.isfinite(output["data"]).all()
            process.send_signal(signal.SIGTERM)
            assert process.wait(SERVED_S) == 0
        finally:
            process.kill()
