"""``assay verify`` and ``assay diagnose`` as they are typed, on a small network and damaged copies of it."""

import json
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from assay.cli.main import run_cli

MODEL = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.mid = nn.Conv2d(8, 16, 3, 2)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = nn.functional.gelu(self.stem(x))
        x = torch.relu(self.mid(x))
        return self.head(x.mean((2, 3)))


class Noisy(Small):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, training=True)


def small():
    torch.manual_seed(0)
    return Small().eval()


def noisy():
    torch.manual_seed(0)
    return Noisy().eval()
"""
PASSES = '''
def careless(model):
    """A simplification with a bug planted in it: relu is not leaky."""
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "LeakyRelu"
    return model
'''
SHAPE = ("--shape", "x:batchx3x12x12", "--quiet")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    (folder / "model.py").write_text(MODEL)
    (folder / "passes.py").write_text(PASSES)
    code = run_cli(["export", f"{folder}/model.py:small", *SHAPE, "--output-names", "y", "-o", f"{folder}/good.onnx"])
    assert code == 0
    model = onnx.load(folder / "good.onnx")
    (tensor,) = [t for t in model.graph.initializer if list(t.dims) == [16, 8, 3, 3]]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.003), tensor.name))
    onnx.save(model, folder / "bad.onnx")
    return folder


@pytest.fixture
def typed(place, capsys):
    """Run a verb on the small model; exit code and what was printed on stdout."""

    def run(verb, candidate, *more, reference="small"):
        candidate = f"{place}/{candidate}"
        code = run_cli([verb, f"{place}/model.py:{reference}", candidate, *SHAPE, "--batch", "1,4", *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.mark.parametrize(("engine", "precision"), [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")])
def test_a_healthy_candidate_is_within_its_formats_cost(typed, engine, precision):
    code, out, err = typed("verify", "good.onnx", "--engine", engine, "--precision", precision)
    if code == 3:
        pytest.skip(err)
    assert code == 0, out + err
    assert re.search(rf"within format cost: .*float64 truth.* {precision} must cost", out)
    assert "detection limit" in out
    assert out.count("self-check") == 7
    assert "self-check  second build: passed" in out


def test_three_thousandths_on_one_tensor_are_wrong(typed):
    code, out, _ = typed("verify", "bad.onnx")
    assert code == 1
    assert "wrong: output 'y'" in out


def test_the_users_own_limits(typed):
    assert typed("verify", "bad.onnx", "--atol", "1e-9 y:0.1")[0] == 0
    assert typed("verify", "good.onnx", "--rtol", "1e-4", "--atol", "9e-4")[0] == 0
    code, out, _ = typed("verify", "bad.onnx", "--atol", "1e-7")
    assert code == 1
    assert "exceeds" in out
    code, _, err = typed("verify", "bad.onnx", "--atol", "z:1")
    assert code == 2
    assert "'z'" in err


def test_parts_can_be_left_out_and_that_is_said(typed):
    code, out, _ = typed("verify", "good.onnx", "--no-truth", "--no-self-check")
    assert code == 0
    assert "from format and depth" in out
    assert "not checked: self-consistency: it was left out" in out
    assert "not checked: truth: the float64 run was left out" in out


def test_the_record_keeps_the_split(typed):
    code, out, _ = typed("verify", "bad.onnx", "--json")
    (record,) = json.loads(out)["records"]
    details = record["details"]
    assert (code, details["class"]) == (1, "wrong")
    assert details["split"]["costs"]["y"]["floor"] < 1e-6
    share = max(details["shares"], key=lambda s: s["share"])
    assert share["rest"] == pytest.approx(share["error"], rel=1e-3)
    measures = details["outputs"]["4"]["y"]
    assert sum(n for _, n in measures["histogram"]) + measures["equal"] == measures["n"]
    assert measures["abs_quantiles"]["p50"] <= measures["abs_quantiles"]["p99"] <= measures["max_abs"]
    assert [f["state"] for f in details["self_check"]] == ["passed"] * 7


def test_dropout_left_on_is_detected_and_said(typed):
    code, out, _ = typed("verify", "model.py:noisy", reference="noisy")
    assert code == 1
    assert "self-check  repeated runs: failed" in out
    assert "dropout" in out


def test_diagnose_a_healthy_pair(typed):
    code, out, err = typed("diagnose", "good.onnx")
    assert code == 0, out + err
    assert "every stage is within its due" in out


def test_diagnose_names_node_module_and_line_and_writes_a_reproduction(typed, tmp_path):
    code, out, _ = typed("diagnose", "bad.onnx", "--out", str(tmp_path / "repro"), "--mapping")
    assert code == 1
    assert "candidate's ONNX file (onnxruntime, optimiser off) is to blame" in out
    assert "module mid, aten.conv2d.default" in out
    assert re.search(r"model\.py:\d+: x = torch\.relu\(self\.mid\(x\)\)", out)
    assert "aten.gelu.default -> " in out
    (script,) = (tmp_path / "repro").glob("*/reproduce.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "the difference is there" in done.stdout


def test_a_bug_planted_in_a_users_pass_is_found_down_to_the_node(typed, place):
    code, out, _ = typed("diagnose", "good.onnx", "--simplify", f"onnxslim,{place}/passes.py:careless", "--json")
    assert code == 1
    (record,) = json.loads(out)["records"]
    details = record["details"]
    assert "passes.py:careless" in details["guilty_stage"]
    (guilty,) = details["guilty"]
    assert [node["op"] for node in guilty["nodes"]] == ["LeakyRelu"]
    assert guilty["origins"][guilty["nodes"][0]["name"]]["aten"] == "aten.relu.default"
    states = {row["name"]: row["state"] for row in details["stages"]}
    assert [s for s in states.values() if s != "within its due"] == ["beyond its due"]


def test_the_guilty_pass_is_left_out_and_the_result_checked_and_timed(typed, place, tmp_path):
    passes = f"onnxslim,{place}/passes.py:careless"
    code, out, _ = typed("diagnose", "good.onnx", "--simplify", passes, "--fix", "--out", str(tmp_path), "--json")
    assert code == 1
    fix = json.loads(out)["records"][0]["details"]["fix"]
    assert "careless" in fix["what"]
    assert fix["works"]
    assert fix["after"] <= fix["due"] < fix["before"]
    assert fix["slowdown"] > 0
    assert "LeakyRelu" not in [n.op_type for n in onnx.load(tmp_path / "fixed.onnx").graph.node]


def test_a_saturated_layer_goes_back_to_float(typed, place, tmp_path, capsys):
    """A quantised file of which one activation's range is far too small."""
    quantisation = pytest.importorskip("onnxruntime.quantization")
    rng = np.random.default_rng(0)

    class Reader(quantisation.CalibrationDataReader):
        rows = iter(rng.normal(size=(256, 1, 3, 12, 12)).astype(np.float32))

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"x": row}

    made = tmp_path / "int8.onnx"
    quantisation.quantize_static(place / "good.onnx", made, Reader(), quant_format=quantisation.QuantFormat.QDQ)
    model = onnx.load(made)
    conv = next(n for n in model.graph.node if n.op_type == "Conv" and n.input[0] != "x_DequantizeLinear_Output")
    makers = {n.output[0]: n for n in model.graph.node}
    scale = makers[conv.input[0]].input[1]
    (tensor,) = [t for t in model.graph.initializer if t.name == scale]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / np.float32(20), scale))
    onnx.save(model, made)
    arguments = [
        f"{place}/good.onnx",
        str(made),
        "--precision",
        "int8",
        "--batch",
        "1",
        "--fix",
        "--out",
        str(tmp_path),
    ]
    code = run_cli(["diagnose", *arguments, "--quiet"])
    out = capsys.readouterr().out
    assert code == 1
    assert "saturates" in out
    assert re.search(r"fix: \d+ layers? back in float.*it works", out), out


def test_a_fix_needs_a_folder(typed):
    code, _, err = typed("diagnose", "bad.onnx", "--fix")
    assert code == 2
    assert "--out" in err
