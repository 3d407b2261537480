"""Where the limits lie, and, with real engines, that healthy builds pass and a damaged weight does not."""

import math
import re
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core.compare import compare
from assay.core.engine import PRECISIONS
from assay.core.errors import BadInput, UnknownName
from assay.judge.tolerance import CEILING, asked_for, elementwise, judge_numeric, parse_limits, tolerance


@dataclass(frozen=True)
class Result:
    outputs: dict
    failures: tuple = ()


def result_of(reference, candidate, batch=1):
    return Result({batch: compare({"y": reference}, {"y": candidate})})


@given(st.sampled_from(PRECISIONS), st.integers(0, 2000))
def test_limits_grow_with_depth_and_shrink_with_precision(precision, depth):
    here = tolerance(precision, depth)
    assert 0 < here.max_relative_rms <= CEILING
    assert here.max_relative_rms <= tolerance(precision, depth + 1).max_relative_rms
    assert tolerance("fp32", depth).max_relative_rms <= here.max_relative_rms
    assert here.min_cosine == pytest.approx(math.sqrt(1 - here.max_relative_rms**2))
    assert precision in here.source
    assert "Higham" in here.source


def test_known_values():
    assert tolerance("fp32", 18).max_relative_rms == pytest.approx(4 * math.sqrt(18 * 1024) * 2**-24)
    assert tolerance("bf16", 18).max_relative_rms == pytest.approx(4 * math.sqrt(54) * 2**-8)
    assert tolerance("fp16", 18).max_relative_rms == pytest.approx(tolerance("bf16", 18).max_relative_rms / 8)
    assert tolerance("fp64", 18).max_relative_rms == tolerance("fp32", 18).max_relative_rms  # the reference is fp32
    assert tolerance("int8", 10_000).max_relative_rms == CEILING


def test_json_leaves_out_what_is_not_said():
    data = tolerance("bf16", 3).to_json()
    assert (data["precision"], data["depth"]) == ("bf16", 3)
    assert "atol" not in data
    assert set(elementwise(1e-3, 0.0).to_json()) == {"source", "atol", "rtol"}


def test_refusals():
    with pytest.raises(UnknownName, match="fp23"):
        tolerance("fp23", 1)
    with pytest.raises(BadInput, match="a count"):
        tolerance("fp32", -1)
    with pytest.raises(BadInput, match="zero or more"):
        elementwise(-1.0, 0.0)


ROWS = np.random.default_rng(0).normal(size=(8, 10))


def test_the_worst_output_decides():
    limit = tolerance("fp32", 1)
    good = compare({"y": ROWS}, {"y": ROWS * (1 + 1e-9)})
    bad = compare({"z": ROWS}, {"z": ROWS * 1.01})
    assert judge_numeric(Result({1: good}), limit).state == "passed"
    reason = judge_numeric(Result({1: good, 8: bad}), limit)
    assert reason.state == "failed"
    assert "output 'z' at batch 8: relative rms error 0.01" in reason.text


def test_equality_is_said():
    reason = judge_numeric(result_of(ROWS, ROWS.copy()), tolerance("fp32", 1))
    assert (reason.state, reason.text) == ("passed", "equal to the reference in all 80 values")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (Result({}), "nothing was compared"),
        (Result({1: {}}), "nothing was compared"),
        (result_of(np.empty((0, 3)), np.empty((0, 3))), "no value was compared"),
        (result_of(ROWS, np.where(ROWS > 2, np.nan, ROWS)), "NaN or infinity"),
        (result_of(np.where(ROWS > 2, np.inf, ROWS), ROWS), "NaN or infinity"),
        (Result({1: compare({"y": ROWS}, {"y": ROWS})}, ("one", "two")), r"one \(and 1 more\)"),
        (result_of(np.zeros((2, 3)), np.full((2, 3), 1e-30)), "relative rms error inf"),
    ],
)
@pytest.mark.parametrize("limit", [tolerance("bf16", 20), elementwise(1e-40, 0.0)])
def test_nothing_passes_vacuously(result, said, limit):
    reason = judge_numeric(result, limit)
    assert reason.state == "failed"
    assert reason.limit == "numeric"
    if limit.atol is None:
        assert re.search(said, reason.text)


@pytest.mark.parametrize(
    ("atol", "rtol", "state"),
    [(0.2, 0.0, "passed"), (0.05, 0.0, "failed"), (0.0, 0.2, "passed"), (0.05, 0.04, "failed"), (0.06, 0.05, "passed")],
)
def test_elementwise(atol, rtol, state):
    reference = np.array([[1.0, 1.0]])
    candidate = np.array([[1.0, 1.1]])
    assert judge_numeric(result_of(reference, candidate), elementwise(atol, rtol)).state == state


@given(
    st.lists(st.tuples(st.floats(-10, 10), st.floats(-0.1, 0.1)), min_size=1, max_size=20),
    st.floats(0, 0.2),
    st.floats(0, 0.2),
)
def test_elementwise_is_numpys_allclose(pairs, atol, rtol):
    reference = np.array([[r for r, _ in pairs]])
    candidate = np.array([[r + e for r, e in pairs]])
    state = judge_numeric(result_of(reference, candidate), elementwise(atol, rtol)).state
    if np.allclose(candidate, reference, atol=max(0, atol - 1e-9), rtol=rtol):
        assert state == "passed" or not np.allclose(candidate, reference, atol=atol, rtol=rtol)
    if state == "passed":
        assert np.allclose(candidate, reference, atol=atol + 1e-9, rtol=rtol)


def test_limits_per_output():
    assert parse_limits("1e-5 out0:1e-4,a:b:2") == (1e-5, {"out0": 1e-4, "a:b": 2.0})
    assert parse_limits("") == (None, {})
    for bad in ("x", "1 2", "a:1 a:2", "a:"):
        with pytest.raises(BadInput):
            parse_limits(bad)
    limit = asked_for("1e-3 y:0.2", None, ("y", "z"))
    assert limit.per_output == {"y": (0.2, 0.0)}
    assert judge_numeric(result_of(np.ones((1, 2)), np.full((1, 2), 1.1)), limit).state == "passed"
    assert (
        judge_numeric(result_of(np.ones((1, 2)), np.full((1, 2), 1.1)), asked_for("1e-3", "0.05", ("y",))).state
        == "failed"
    )
    assert asked_for(None, None, ("y",)) is None
    with pytest.raises(UnknownName, match="q"):
        asked_for("q:1", None, ("y",))


def test_the_limits_of_seed_four():
    """rtol=1e-4, atol=9e-4: neither alone is met here, together they are."""
    reference, candidate = np.array([[10.0, 0.0]]), np.array([[10.0018, 0.0008]])
    assert judge_numeric(result_of(reference, candidate), asked_for("9e-4", "1e-4", ("y",))).state == "passed"
    candidate[0, 0] = 10.002
    assert judge_numeric(result_of(reference, candidate), asked_for("9e-4", "1e-4", ("y",))).state == "failed"


# ------------------------------------------------------------------------------------------------ real engines


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """name -> (ONNX path, depth, input, torch's fp32 output), with random weights and live batch norms."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("nets")
    torch.manual_seed(0)
    made = {}
    for name, (module, depth) in _modules(torch).items():
        x = torch.randn(8, 3, 32, 32)
        module.train()
        with torch.no_grad():
            for _ in range(5):
                module(torch.randn_like(x))
        module.eval()
        path = folder / f"{name}.onnx"
        _export(torch, module, x, path)
        with torch.no_grad():
            made[name] = (path, depth, x.numpy(), module(x).numpy())
    return made


def _modules(torch):
    nn = torch.nn

    def conv(i, o, k=3, stride=1):
        return nn.Sequential(nn.Conv2d(i, o, k, stride, k // 2, bias=False), nn.BatchNorm2d(o))

    class Gather(nn.Module):
        """Residual block with a parameter-free gather-excite gate."""

        def __init__(self, i, o):
            super().__init__()
            self.first, self.second, self.skip = conv(i, o, 3, 2), conv(o, o), conv(i, o, 1, 2)

        def forward(self, x):
            y = self.second(torch.relu(self.first(x)))
            return torch.relu(y * torch.sigmoid(y.mean((2, 3), keepdim=True)) + self.skip(x))

    class Attention(nn.Module):
        """Pre-norm transformer block, one head."""

        def __init__(self, d):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

        def forward(self, x):
            q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
            x = x + self.out(torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v)
            return x + self.mlp(self.norm2(x))

    class Patches(nn.Module):
        def forward(self, x):
            return x.flatten(2).transpose(1, 2)

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(1)

    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    stem = [conv(3, 32), nn.ReLU()]
    strided = [m for stride in (1, 2, 1, 2, 1, 2) for m in (conv(32, 32, 3, stride), nn.ReLU())]
    return {
        "gather-excite": (nn.Sequential(*stem, Gather(32, 64), Gather(64, 128), *pooled, nn.Linear(128, 10)), 6),
        "plain": (nn.Sequential(*stem, *strided, nn.Flatten(), nn.Linear(512, 10)), 8),
        "attention": (
            nn.Sequential(
                nn.Conv2d(3, 64, 8, 8), Patches(), *[Attention(64) for _ in range(4)], Mean(), nn.Linear(64, 10)
            ),
            26,
        ),
    }


def _export(torch, module, x, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the TorchScript exporter announces its own retirement
        torch.onnx.export(
            module, (x,), str(path), dynamo=False, opset_version=17, input_names=["x"], output_names=["y"]
        )


def _onnxruntime(model):
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda x: session.run(["y"], {"x": x})[0]


def _openvino(path, precision):
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": precision})
    if compiled.get_property("INFERENCE_PRECISION_HINT").to_string() != precision:
        pytest.skip(f"this processor does not run {precision}")
    return lambda x: compiled(x)[0].copy()


NETS = ("gather-excite", "plain", "attention")


@pytest.mark.parametrize("name", NETS)
def test_healthy_fp32_builds_pass_with_a_margin(nets, name):
    path, depth, x, reference = nets[name]
    limit = tolerance("fp32", depth)
    for run in (_onnxruntime(str(path)), _openvino(path, "f32")):
        found = result_of(reference, run(x), 8)
        assert judge_numeric(found, limit).state == "passed"
        assert found.outputs[8]["y"].relative_rms < limit.max_relative_rms / 4


@pytest.mark.parametrize("name", NETS)
def test_healthy_bf16_builds_pass_with_a_margin_and_are_no_fp32(nets, name):
    path, depth, x, reference = nets[name]
    limit = tolerance("bf16", depth)
    found = result_of(reference, _openvino(path, "bf16")(x), 8)
    assert judge_numeric(found, limit).state == "passed"
    assert found.outputs[8]["y"].relative_rms < limit.max_relative_rms / 2
    assert judge_numeric(found, tolerance("fp32", depth)).state == "failed"


@pytest.mark.parametrize("name", NETS)
def test_any_weight_matrix_scaled_by_one_percent_fails_in_fp32(nets, name):
    import onnx
    from onnx import numpy_helper

    path, depth, x, reference = nets[name]
    limit = tolerance("fp32", depth)
    weights = [t.name for t in onnx.load(path).graph.initializer if len(t.dims) >= 2]
    assert len(weights) >= 6
    for weight in weights:
        model = onnx.load(path)
        (tensor,) = [t for t in model.graph.initializer if t.name == weight]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), weight))
        found = result_of(reference, _onnxruntime(model.SerializeToString())(x), 8)
        assert judge_numeric(found, limit).state == "failed", weight


@pytest.mark.parametrize("text", ["inf", "nan", "-1"])
def test_a_limit_that_everything_or_nothing_meets_is_refused(text):
    with pytest.raises(BadInput, match="zero or more"):
        asked_for(text, None, ("y",))
    with pytest.raises(BadInput, match="zero or more"):
        asked_for(None, f"1e-3 y:{text}", ("y",))
