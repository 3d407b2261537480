"""Exact and rounded runs of ONNX graphs, against float64 arithmetic done by hand."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.core.compare import compare
from assay.core.errors import BadInput, EngineFailed
from assay.graph.arithmetic import GraphArithmetic, reference_evaluator
from assay.graph.double import to_double
from assay.graph.emulate import FORMATS, emulate

RNG = np.random.default_rng(0)


def run(path, feed):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineFailed(str(error)) from error
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True))


def save(nodes, weights, path, shapes=(["n", 3, 8, 8], None), opset=18):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.save(model, path)
    return path


@pytest.fixture
def net(tmp_path):
    """conv (stride, padding, groups) → relu → transposed conv → mean → gemm → matmul."""
    w = {
        "w1": RNG.normal(size=(6, 3, 3, 3)),
        "b1": RNG.normal(size=6),
        "w2": RNG.normal(size=(6, 3, 3, 3)),
        "w3": RNG.normal(size=(6, 4, 2, 2)),
        "w4": RNG.normal(size=(5, 4)),
        "b4": RNG.normal(size=5),
        "w5": RNG.normal(size=(5, 5)),
    }
    w = {n: a.astype(np.float32) for n, a in w.items()} | {"axes": np.array([2, 3])}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], group=2, strides=[2, 2]),
        helper.make_node("ConvTranspose", ["c", "w3"], ["d"], strides=[2, 2]),
        helper.make_node("ReduceMean", ["d", "axes"], ["e"], keepdims=0),
        helper.make_node("Gemm", ["e", "w4", "b4"], ["f"], transB=1),
        helper.make_node("MatMul", ["f", "w5"], ["y"]),
    ]
    return save(nodes, w, tmp_path / "net.onnx", (["n", 3, 8, 8], ["n", 5]))


@pytest.fixture
def feed():
    return {"x": RNG.normal(size=(3, 3, 8, 8)).astype(np.float32)}


def exact_by_torch(net, feed):
    import torch

    w = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in onnx.load(net).graph.initializer}
    w = {n: t.double() for n, t in w.items() if t.is_floating_point()}
    f = torch.nn.functional
    x = f.relu(f.conv2d(torch.from_numpy(feed["x"]).double(), w["w1"], w["b1"], padding=1))
    x = f.conv_transpose2d(f.conv2d(x, w["w2"], groups=2, stride=2), w["w3"], stride=2).mean((2, 3))
    return ((x @ w["w4"].T + w["b4"]) @ w["w5"]).numpy()


def test_the_exact_run_is_float64_throughout(net, feed):
    arithmetic = GraphArithmetic(net, run)
    found = arithmetic.exact(feed)["y"]
    again = arithmetic.exact(feed)["y"]
    arithmetic.close()
    assert found.dtype == np.float64
    assert np.array_equal(found, again)
    assert np.abs(found - exact_by_torch(net, feed)).max() < 1e-12
    assert 0 < np.abs(found - run(net, feed)["y"]).max() < 1e-3


def test_onnxruntime_does_it_where_it_has_the_kernels(tmp_path, feed):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = save(nodes, {"w": np.ones((8, 2), np.float32)}, tmp_path / "m.onnx")
    ran = []
    arithmetic = GraphArithmetic(path, lambda p, f: ran.append(p) or run(p, f))
    assert arithmetic.exact(feed)["y"].dtype == np.float64
    assert arithmetic.exact(feed)["y"].dtype == np.float64
    assert len(ran) == 2
    arithmetic.close()


@pytest.mark.parametrize(
    ("precision", "low", "high"),
    [("fp32", 1e-9, 1e-6), ("tf32", 5e-5, 1e-3), ("fp16", 5e-5, 1e-3), ("bf16", 5e-4, 1e-2), ("int8", 1e-3, 5e-2)],
)
def test_rounding_costs_what_the_format_must(net, feed, precision, low, high):
    arithmetic = GraphArithmetic(net, run)
    exact = arithmetic.exact(feed)
    seeds = (1, 3) if precision == "int8" else (0, 1)  # even seeds cut off at averaged ranges: the next test
    found = [arithmetic.rounded(feed, precision, seed) for seed in seeds]
    for outputs in found:
        error = compare(exact, outputs)["y"].relative_rms
        assert low < error < high
    assert not np.array_equal(found[0]["y"], found[1]["y"]) or precision != "fp32"
    arithmetic.close()


def test_int8_with_averaged_ranges_cuts_off_what_lies_outside_of_them(net, feed):
    arithmetic = GraphArithmetic(net, run)
    whole = {"x": np.repeat(feed["x"][:1], 3, axis=0)}  # samples that are alike have the same extremes: nothing is cut
    errors = {}
    for name, given in (("alike", whole), ("spread", feed)):
        exact = arithmetic.exact(given)
        for seed in (0, 1):
            errors[name, seed] = compare(exact, arithmetic.rounded(given, "int8", seed))["y"].relative_rms
    arithmetic.close()
    assert 1e-3 < errors["alike", 0] < 5e-2
    assert errors["spread", 1] < 5e-2
    assert errors["spread", 1] < errors["spread", 0] < 1


@pytest.mark.parametrize("precision", FORMATS)
def test_an_emulated_graph_is_valid(net, precision):
    model = emulate(onnx.load(net), precision, 3)
    onnx.checker.check_model(model, full_check=True)
    read = {n for node in model.graph.node for n in node.input}
    assert {t.name for t in model.graph.initializer} <= read


def test_random_orders_change_nothing_but_the_last_bits(net, feed):
    plain, other = run(net, feed)["y"], None
    path = net.with_name("order.onnx")
    onnx.save(emulate(onnx.load(net), "fp32", 1), path)
    other = run(path, feed)["y"]
    assert 0 < compare({"y": plain}, {"y": other})["y"].relative_rms < 1e-6


def test_what_cannot_be_done_is_said(net, tmp_path, feed):
    with pytest.raises(BadInput, match="int4"):
        emulate(onnx.load(net), "int4", 0)
    old = onnx.load(net)
    old.opset_import[0].version = 12
    with pytest.raises(BadInput, match="opset 12"):
        emulate(old, "bf16", 0)
    scale = {"s": np.float32(0.1), "z": np.uint8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    with pytest.raises(BadInput, match="quantised"):
        to_double(onnx.load(save(nodes, {k: np.array(v) for k, v in scale.items()}, tmp_path / "q.onnx")))


def test_subgraphs_constants_and_sizes(tmp_path):
    """If with captured values, Constant and ConstantOfShape, Resize with its float32 scales."""
    then = helper.make_graph(
        [helper.make_node("Mul", ["x", "half"], ["t"])], "t", [], [helper.make_tensor_value_info("t", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["o"])], "o", [], [helper.make_tensor_value_info("o", 1, None)]
    )
    nodes = [
        helper.make_node("Constant", [], ["half"], value_float=0.5),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=then, else_branch=other),
        helper.make_node("Resize", ["chosen", "", "scales"], ["y"], mode="nearest"),
    ]
    weights = {"yes": np.array(True), "scales": np.array([1, 1, 2, 2], np.float32)}
    path = save(nodes, weights, tmp_path / "s.onnx", ([1, 1, 2, 2], [1, 1, 4, 4]))
    onnx.save(to_double(onnx.load(path)), tmp_path / "d.onnx")
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2) / 3
    found = reference_evaluator(Path(tmp_path / "d.onnx"))({"x": x})["y"]
    assert found.dtype == np.float64
    assert np.array_equal(found, (x.astype(np.float64) / 2).repeat(2, 2).repeat(2, 3))


def test_weights_that_an_older_file_lists_among_its_inputs(tmp_path):
    weight = RNG.standard_normal((3, 4)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "older",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=3)
    path = tmp_path / "double.onnx"
    onnx.save(to_double(model), path)
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    found = run(path, {"x": x})["y"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, x.astype(np.float64) @ weight.astype(np.float64), rtol=1e-15)
