"""The SRCNN walkthrough, in its small setting: trained, exported, judged, looked at; ResNet's rates by batch."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
RUN = ROOT / "examples" / "srcnn" / "run"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    for needed in ("openvino", "skimage", "torchvision"):  # looked for alone: torchvision may need mending to import
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"needs {needed}")
    out = tmp_path_factory.mktemp("srcnn") / "out"
    environment = {n: v for n, v in os.environ.items() if n not in ("DEVICE", "SIZE")} | {"OUT": str(out)}
    command = [str(RUN), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, check=False, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out, done.stdout


def records(path: Path) -> list:
    return json.loads(path.read_text())["records"]


def test_it_beats_bicubic_on_photographs_it_has_not_seen(ran) -> None:
    out, _ = ran
    assert sorted(p.name for p in (out / "made/held/lr").iterdir()) == sorted(
        p.name for p in (out / "made/held/hr").iterdir()
    )
    for engine in ("onnxruntime", "openvino"):
        (record,) = records(out / "accuracy" / f"{engine}.json")
        assert record["subject"]["engine"] == engine and record["figures"]["psnr"]["n"] == 8
        assert record["figures"]["psnr.gain"]["low"] > 0


def test_the_factor_is_free_where_the_exporter_allows_it(ran) -> None:
    out, printed = ran
    assert "dynamo: the factor is free" in printed
    assert "torchscript: the factor stays fixed: assay:" in printed
    session = onnxruntime.InferenceSession(str(out / "srcnn_any_scale.onnx"))
    picture = np.zeros((1, 3, 10, 12), np.float32)
    for factor in (1.5, 2.0, 4.0):
        (found,) = session.run(None, {"input": picture, "scale": np.array(factor, np.float32)})
        assert found.shape == (1, 3, int(10 * factor), int(12 * factor))
    fixed = onnxruntime.InferenceSession(str(out / "srcnn_x3.onnx"))
    assert fixed.run(None, {"input": picture})[0].shape == (1, 3, 30, 36)


def test_pictures_come_out_and_stand_side_by_side(ran) -> None:
    out, _ = ran
    with Image.open(out / "enlarged" / "astronaut.png") as enlarged:
        assert enlarged.size == (300, 300)
    for name in ("side_by_side.png", "scales.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 700


def test_the_graph_built_by_hand_runs_and_the_printed_one_does_not(ran) -> None:
    out, printed = ran
    model = onnx.load(out / "linear_regression.onnx")
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Add"]
    onnx.checker.check_model(model, full_check=True)
    assert "as_printed.onnx: [ShapeInferenceError]" in printed and "differ in rank: (2) vs (1)" in printed
    assert len(onnx.load(out / "as_printed.onnx").graph.output[0].type.tensor_type.shape.dim) == 1
    assert "it explains 51.8% of the variance" in printed


def test_the_rates_are_there_and_every_conclusion_is_judged(ran) -> None:
    out, printed = ran
    sizes = [onnx.load(out / f"resnet18_bs_{b}.onnx").graph.input[0].type.tensor_type.shape.dim[0] for b in (1, 32)]
    assert [dim.dim_value for dim in sizes] == [1, 32]
    dynamic = records(out / "bench" / "dynamic.json")
    assert [r["subject"]["batch"] for r in dynamic] == [1, 8, 16, 32]
    assert all(r["figures"]["throughput"]["value"] > 0 for r in dynamic)
    conclusions = (out / "conclusions.md").read_text()
    assert conclusions in printed
    judged = [
        line.split(" | ")[1]
        for line in conclusions.splitlines()
        if line.startswith(("| SRCNN", *map("| {}.".format, range(1, 5))))
    ]
    assert len(judged) == 10
    known = ("holds", "does not", "cannot be told", "cannot be tested here")
    assert all(any(word in one for word in known) for one in judged)
    assert "on a GPU: cannot be tested here" in conclusions and "not measured in this setting" in conclusions
    plot = ElementTree.parse(out / "speed.svg").getroot()
    assert len(plot.findall(".//{*}polyline")) == 1 and len(plot.findall(".//{*}rect")) == 1 + 4 + 2
