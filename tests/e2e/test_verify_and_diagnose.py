"""``assay verify`` and ``assay diagnose`` as they are typed, on a small network and damaged copies of it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from assay.cli.main import run_cli

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))
from loopback_server import ServedModel, serve

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


def test_a_stage_is_held_to_the_users_limit_and_the_guiltiest_operators_stay_in_fp32(typed, tmp_path):
    more = ("--engine", "openvino", "--precision", "bf16", "--fix", "--out", str(tmp_path), "--json")
    code, out, err = typed("diagnose", "good.onnx", "--limit", "1e-4", *more)
    if code == 3:
        pytest.skip(err)
    details = json.loads(out)["records"][0]["details"]
    assert code == 1
    assert details["guilty_stage"] == "openvino bf16"
    fix = details["fix"]
    assert re.match(r"\d+ operators in fp32, for \d+ of \d+ tensors|the whole model in fp32", fix["what"])
    assert fix["works"]
    assert fix["after"] <= 1e-4 < fix["before"]
    assert fix["slowdown"] > 0
    assert {p["tensor"] for p in details["pieces"]} > {g["tensor"] for g in details["guilty"]}


def test_a_limit_is_positive(typed):
    code, _, err = typed("diagnose", "good.onnx", "--limit", "0")
    assert code == 2
    assert "positive" in err


@pytest.fixture(scope="module")
def forms(place):
    """The same model as TorchScript, as an exported program, and as an engine file."""
    import torch

    from assay.job.user_code import user_transform

    module = user_transform(f"{place}/model.py:small")(*())
    x = torch.randn(2, 3, 12, 12)
    torch.jit.trace(module, x).save(place / "traced.pt")
    dims = ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(module, (x,), dynamic_shapes=dims), place / "program.pt2")
    code = run_cli(["build", f"{place}/good.onnx", "--engine", "openvino", "-o", f"{place}/ov", "--quiet"])
    assert code == 0
    return ("traced.pt", "program.pt2", "good.onnx", "ov/model.xml", "model.py:small")


@pytest.mark.parametrize("reference", ["traced.pt", "program.pt2", "good.onnx", "ov/model.xml", "model.py:small"])
def test_any_two_forms_of_a_model_can_be_compared(place, forms, capsys, reference):
    for candidate in forms:
        if candidate == reference:
            continue
        arguments = [
            f"{place}/{reference}",
            f"{place}/{candidate}",
            *SHAPE,
            "--batch",
            "2",
            "--samples",
            "4",
            "--trust",
        ]
        code = run_cli(["verify", *arguments, "--no-self-check"])
        said = capsys.readouterr()
        assert code == 0, (candidate, said.out + said.err)
        assert re.search("^(equal|within format cost): ", said.out, re.M), said.out


def test_a_server_is_a_candidate_and_a_reference(place, capsys):
    """A stand-in server on the loopback, which runs the file with ONNX Runtime."""
    from assay.core.engine import OpenOptions
    from assay.graph.external_data import onnx_artifact
    from assay.job.opening import engine

    with (
        engine("onnxruntime").open(onnx_artifact(place / "good.onnx"), OpenOptions()) as session,
        serve(ServedModel("small", session.signature, session.run)) as url,
    ):
        for pair in (
            (f"{place}/good.onnx", f"{url}/v2/models/small"),
            (f"{url}/v2/models/small", f"{place}/good.onnx"),
        ):
            code = run_cli(["verify", *pair, "--batch", "1,4", "--samples", "4", "--quiet"])
            said = capsys.readouterr()
            assert code == 0, said.out + said.err


PAIRS = {  # what differs: (change of the good file, what is said, exit code)
    "a NaN weight": (lambda m: _weights(m, "head.bias", np.nan), "NaN or infinity", 1),
    "another output name": (lambda m: _rename(m, "z"), "go by different names: y (reference), z (candidate)", 2),
    "a second output": (lambda m: _second(m), "different names: y (reference), y, more (candidate)", 2),
    "another dtype": (lambda m: _cast(m), "dtype float32 in the reference, float64 in the candidate", 1),
    "another shape": (lambda m: _squeezed(m), "shape (1, 5) in the reference, (1, 5, 1) in the candidate", 1),
}


def _weights(model, name, value):
    for tensor in model.graph.initializer:
        if list(tensor.dims) == [5]:
            tensor.CopyFrom(numpy_helper.from_array(np.full(5, value, np.float32), tensor.name))


def _rename(model, name):
    for node in model.graph.node:
        node.output[:] = [name if o == "y" else o for o in node.output]
    model.graph.output[0].name = name


def _second(model):
    model.graph.node.append(onnx.helper.make_node("Identity", ["y"], ["more"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", 1, ["batch", 5]))


def _cast(model):
    _rename(model, "inner")
    model.graph.node.append(onnx.helper.make_node("Cast", ["inner"], ["y"], to=11))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 11, ["batch", 5]))


def _squeezed(model):
    _rename(model, "inner")
    model.graph.initializer.append(numpy_helper.from_array(np.array([2]), "axis"))
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["inner", "axis"], ["y"]))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", 1, ["batch", 5, 1]))


@pytest.mark.parametrize("what", PAIRS)
def test_outputs_that_cannot_agree(place, tmp_path, capsys, what):
    change, said, expected = PAIRS[what]
    model = onnx.load(place / "good.onnx")
    change(model)
    onnx.save(model, tmp_path / "other.onnx")
    code = run_cli(
        ["verify", f"{place}/good.onnx", f"{tmp_path}/other.onnx", "--batch", "1", "--samples", "2", "--quiet"]
    )
    out = capsys.readouterr()
    assert code == expected, out.out + out.err
    assert said in out.out + out.err


def test_a_reference_that_gives_nan_is_named_as_such(place, tmp_path, capsys):
    model = onnx.load(place / "good.onnx")
    _weights(model, "head.bias", np.nan)
    onnx.save(model, tmp_path / "sick.onnx")
    code = run_cli(
        ["verify", f"{tmp_path}/sick.onnx", f"{place}/good.onnx", "--batch", "1", "--samples", "2", "--quiet"]
    )
    out = capsys.readouterr().out
    assert code == 1
    assert re.search(r"NaN or infinity in \d+ values of the reference and 0 of the candidate", out)


def test_batch_sizes_that_cannot_agree(place, tmp_path, capsys):
    assert run_cli(["export", f"{place}/model.py:small", "--shape", "x:3x3x12x12", "--quiet", "--output-names", "y",
                    "-o", f"{tmp_path}/three.onnx"]) == 0  # fmt: skip
    code = run_cli(["verify", f"{place}/good.onnx", f"{tmp_path}/three.onnx", "--batch", "2", "--quiet"])
    said = capsys.readouterr()
    assert code == 1
    assert "accepts only batch 3" in said.out + said.err


DEPLOYED = """
import io
import numpy as np
from PIL import Image


def swapped(content):
    picture = Image.open(io.BytesIO(content)).convert("RGB")
    x = np.asarray(picture.resize((12, 12), Image.Resampling.BILINEAR), np.float32)
    return np.ascontiguousarray(((x[:, :, ::-1] / 255 - 0.5) / 0.25).transpose(2, 0, 1), np.float32)


def broken(content):
    raise KeyError("size")
"""
PREPROCESS = {"kind": "image", "size": [12, 12], "crop_pct": 1.0, "crop_mode": "squash",
              "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.25] * 3}  # fmt: skip


def test_the_deployed_transform_beside_the_training_one(place, tmp_path, capsys):
    """RGB against BGR on a model that tells red from blue."""
    from PIL import Image

    (tmp_path / "model.py").write_text(f"""
import torch
from torch import nn

class Colour(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))[:, [0, 2]]

def colour():
    return Colour().eval()

colour.assay_preprocess = {PREPROCESS!r}
colour.assay_inputs = ("x:batchx3x12x12",)
""")
    (tmp_path / "deploy.py").write_text(DEPLOYED)
    rng = np.random.default_rng(0)
    for label, channel in (("blue", 2), ("red", 0)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for n in range(6):
            picture = rng.integers(0, 120, (20 + n, 31, 3), np.uint8)
            picture[:, :, channel] += 100
            Image.fromarray(picture).save(tmp_path / "data" / label / f"{n}.png")
    model = f"{tmp_path}/model.py:colour"
    common = ["diagnose", model, model, "--data", f"{tmp_path}/data", "--quiet", "--trust"]
    code = run_cli([*common, "--preprocess", f"{tmp_path}/deploy.py:swapped", "--json"])
    said = capsys.readouterr()
    assert code == 1, said.err
    (record,) = json.loads(said.out)["records"]
    (step,) = record["details"]["steps"]
    assert (step["step"], step["training"], step["deployed"]) == ("channel order", "RGB", "BGR")
    assert 20 < step["mean"] < step["largest"] <= 255
    assert record["kind"] == "preprocess"
    assert run_cli([*common, "--preprocess", f"{tmp_path}/deploy.py:broken"]) == 2
    assert "KeyError" in capsys.readouterr().err
    assert run_cli([*common[:3], "--preprocess", f"{tmp_path}/deploy.py:swapped", "--quiet"]) == 2
    assert "--data" in capsys.readouterr().err


def test_inspect_says_who_takes_what_and_where_it_comes_from(place, capsys):
    assert run_cli(["inspect", f"{place}/good.onnx"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"engine +onnxruntime \(.*\): takes every operator at opset", out)
    assert re.search(r"engine +tensorrt \(.*not run\)", out)
    assert re.search(r"ATen +aten\.conv2d\.default -> Conv  \(one-to-one, 2 calls\)", out)
    assert "one-to-many" in out


def reduced(folder):
    """A mean over the middle axis, a factor per channel, a quantiser: OpenVINO 2026.4 takes the three for one operator
    and gives other numbers."""
    rng = np.random.default_rng(0)
    helper = onnx.helper
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["mean"], name="mean", keepdims=0),
        helper.make_node("Mul", ["mean", "factors"], ["scaled"], name="scale"),
        helper.make_node("QuantizeLinear", ["scaled", "s", "z"], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="dequantise"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], name="weight", axis=0),
        helper.make_node("Gemm", ["d", "wd"], ["y"], name="head", transB=1),
    ]
    tensors = {
        "axes": np.array([1]),
        "factors": rng.uniform(0.5, 1.5, (1, 24)).astype(np.float32),
        "s": np.float32(0.006),
        "z": np.int8(-5),
        "w": rng.integers(-127, 127, (10, 24)).astype(np.int8),
        "ws": rng.uniform(0.001, 0.003, 10).astype(np.float32),
        "wz": np.zeros(10, np.int8),
    }
    graph = helper.make_graph(
        nodes,
        "reduced",
        [helper.make_tensor_value_info("x", 1, ["n", 16, 24])],
        [helper.make_tensor_value_info("y", 1, ["n", 10])],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in tensors.items()],
    )
    path = folder / "reduced.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def test_an_engine_that_miscomputes_a_quantised_file_is_named_and_mended(tmp_path, capsys):
    path = reduced(tmp_path)
    pair = (str(path), str(path), "--engine", "openvino", "--precision", "int8")
    if run_cli(["verify", *pair, "--quiet"]) == 0:
        pytest.skip("this OpenVINO computes it as the file says")
    capsys.readouterr()
    out = tmp_path / "out"
    assert run_cli(["diagnose", *pair, "--fix", "--out", str(out), "--json", str(tmp_path / "found.json")]) == 1
    found = json.loads((tmp_path / "found.json").read_text())["records"][0]["details"]
    assert found["guilty_stage"] == "openvino int8"
    assert "mean" in {n["name"] for g in found["guilty"] for n in g["nodes"]}
    assert found["fix"]["works"], found["fix"]
    assert "quantisers written out" in found["fix"]["what"]
    mended = (str(path), str(out / "fixed.onnx"), "--engine", "openvino", "--precision", "fp32")
    assert run_cli(["verify", *mended, "--rtol", "1e-3", "--atol", "1e-3", "--quiet"]) == 0
