"""Quantised graphs in plain arithmetic, on graphs made by hand and held against onnx's own operators."""

import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import helper, numpy_helper

from assay.core.errors import BadInput
from assay.graph.quantised import Spelling, quantisers_of, spell_out, watch_names
from assay.graph.quantised_runs import QuantisedGraph

X = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


def graph(nodes, inits):
    made = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", 1, ["n", 6])],
        [helper.make_tensor_value_info("y", 1, ["n", None])],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in inits.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def layer(scale=0.02, zero=-5, kind=np.int8):
    """One quantised Gemm with weights quantised per channel."""
    weights = np.random.default_rng(1).integers(-127, 128, (3, 6)).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=-2),
        helper.make_node("Gemm", ["d", "wd"], ["y"], transB=1),
    ]
    steps = {"ws": np.array([0.01, 0.02, 0.03], np.float32), "wz": np.zeros(3, np.int8)}
    return graph(nodes, {"s": np.float32(scale), "z": kind(zero), "w": weights, **steps})


def says(model, **given):
    return onnx.reference.ReferenceEvaluator(model).run(None, {"x": X, **given})


@pytest.mark.parametrize(("zero", "kind"), [(-5, np.int8), (0, np.int8), (131, np.uint8), (0, np.uint8)])
def test_it_says_what_the_operators_say(zero, kind):
    model = layer(zero=zero, kind=kind)
    spelled, quantisers = spell_out(model, Spelling())
    assert not {"QuantizeLinear", "DequantizeLinear"} & {n.op_type for n in spelled.graph.node}
    assert [(q.node, q.source, q.made) for q in quantisers] == [("quantise", "x", "q")]
    np.testing.assert_allclose(says(spelled)[0], says(model)[0], rtol=1e-6, atol=1e-6)


def test_ties_go_to_even():
    model = layer(scale=0.5, zero=0)
    x = np.array([[0.25, 0.75, 1.25, -0.25, -0.75, 0.0]], np.float32)
    spelled, _ = spell_out(model, Spelling())
    np.testing.assert_array_equal(says(spelled, x=x)[0], says(model, x=x)[0])


def test_without_rounding_and_cutting_it_is_the_float_layer_on_the_stored_weights():
    spelled, _ = spell_out(layer(scale=0.001), Spelling("none", cut=frozenset()))
    weights = numpy_helper.to_array(next(t for t in spelled.graph.initializer if t.name == "wd"))
    np.testing.assert_allclose(says(spelled)[0], X @ weights.T, rtol=1e-4, atol=1e-5)


def test_a_relu_folded_into_the_range_stays():
    spelled, _ = spell_out(layer(scale=0.02, zero=0, kind=np.uint8), Spelling("none", cut=frozenset()))
    weights = numpy_helper.to_array(next(t for t in spelled.graph.initializer if t.name == "wd"))
    np.testing.assert_allclose(says(spelled)[0], np.maximum(X, 0) @ weights.T, rtol=1e-4, atol=1e-5)


def test_reach_and_cut_are_those_of_the_values():
    model, quantisers = spell_out(layer(scale=0.01, zero=0), Spelling("none", cut=frozenset(), watched=True))
    reach, cut = watch_names(quantisers[0])
    found = dict(zip([o.name for o in model.graph.output], says(model), strict=True))
    assert found[reach] == pytest.approx(max(X.max() / 1.27, X.min() / -1.28), rel=1e-5)
    assert found[cut] == pytest.approx(((X > 1.275) | (X < -1.285)).mean(), rel=1e-5)


def test_some_quantisers_alone_can_be_written_out():
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q1"]),
        helper.make_node("DequantizeLinear", ["q1", "s", "z"], ["d1"]),
        helper.make_node("Relu", ["d1"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["q2"]),
        helper.make_node("DequantizeLinear", ["q2", "s", "z"], ["y"]),
    ]
    model = graph(nodes, {"s": np.float32(0.02), "z": np.int8(0)})
    assert quantisers_of(model) == ["q1", "q2"]
    spelled, _ = spell_out(model, Spelling(only=frozenset({"q2"})))
    assert quantisers_of(spelled) == ["q1"]
    np.testing.assert_allclose(says(spelled)[0], says(model)[0], atol=1e-6)


def test_what_cannot_be_read_is_refused():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    with pytest.raises(BadInput, match="DynamicQuantizeLinear"):
        spell_out(graph(nodes, {}), Spelling())


def test_the_exact_run_is_in_float64_and_the_draws_differ_a_little(tmp_path, run):
    path = tmp_path / "q.onnx"
    onnx.save(layer(), path)
    graph_runs = QuantisedGraph(path, run)
    try:
        exact = graph_runs.exact({"x": X})["y"]
        assert exact.dtype == np.float64
        np.testing.assert_allclose(exact, says(layer())[0], rtol=1e-5, atol=1e-5)
        first, second = (graph_runs.rounded({"x": X}, seed)["y"] for seed in (1, 2))
        assert 0 < np.abs(first - second).max() < 0.5
        assert set(graph_runs.reaches([{"x": X}])) == {"q"}
        whole, narrow = graph_runs.cut({"x": X}, frozenset()), graph_runs.cut({"x": X}, frozenset({"q"}))
        np.testing.assert_array_equal(narrow["y"], graph_runs.smooth({"x": X})["y"])
        assert (np.abs(whole["y"] - narrow["y"]) > 0).any() == bool((np.abs(X) > 2.6).any())
    finally:
        graph_runs.close()


@pytest.mark.parametrize(("kind", "low", "high"), [(None, 0, 255), (3, -128, 127), (5, -32768, 32767)])
def test_a_type_that_only_an_attribute_says(kind, low, high):
    """From opset 21 on a quantiser without a zero point may name its type."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], **({"output_dtype": kind} if kind else {})),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    made = helper.make_graph(
        nodes,
        "typed",
        [helper.make_tensor_value_info("x", 1, ["n"])],
        [helper.make_tensor_value_info("y", 1, ["n"])],
        [numpy_helper.from_array(np.asarray(np.float32(0.5)), "s")],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = np.array([-1e5, -1, 0, 1, 1e5], np.float32)
    spelled, _ = spell_out(model, Spelling())
    np.testing.assert_array_equal(says(spelled, x=x)[0], [0.5 * low, max(-1, 0.5 * low), 0, 1, 0.5 * high])
    np.testing.assert_array_equal(says(spelled, x=x)[0], says(model, x=x)[0])
