"""Faults planted in graphs, in exporters and inside engines, each found down to the node."""

import contextlib

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from assay.core.tensors import Signature, TensorSpec
from assay.diagnose import operators
from assay.diagnose.operators import CHUNK, MOST_OPENINGS, GraphRecorder, Suspect, blame, saturated
from assay.diagnose.ranges import range_of, saturation
from assay.export.intermediates import ModuleTensors
from assay.graph.extract import Parts, flat
from assay.graph.provenance import by_tensor, inherited
from assay.judge.tolerance import tolerance

DUE = tolerance("fp32", 1).max_relative_rms
SIGNATURE = Signature((TensorSpec("x", "float32", ("n", 3, 12, 12)),), (TensorSpec("y", "float32", ("n", 5)),))


@pytest.fixture
def recorder(raw, plain):
    return GraphRecorder(Parts(flat(raw)), plain)


def nodes(found):
    return [name for piece in found.guilty for name, _ in piece.nodes]


def test_a_healthy_graph_has_no_guilty_node(recorder, changed, plain, feed):
    found = blame(recorder, Suspect(changed(lambda m: None), plain, DUE), feed)
    assert found.guilty == ()
    assert found.aligned == found.tensors == len(found.pieces) > 10
    assert all(p.local == p.accumulated == 0 for p in found.pieces)


@pytest.mark.parametrize("name", ["stem.weight", "stem.bias", "mid.weight", "head.weight", "head.bias"])
def test_a_weight_scaled_by_half_a_percent_is_found_in_its_own_node(recorder, changed, plain, feed, scaled, raw, name):
    parts = changed(scaled(name, 1.005))
    found = blame(recorder, Suspect(parts, plain, DUE), feed)
    origins = inherited(parts.model, by_tensor(raw))
    (piece,) = found.guilty
    assert [origins[n].module for n, _ in piece.nodes] == [name.partition(".")[0]]
    assert "forward" not in str(origins[piece.nodes[0][0]].line)
    assert "conftest.py:" in origins[piece.nodes[0][0]].line
    later = [p for p in found.pieces if p.accumulated and p.local is not None and p.tensor != piece.tensor]
    assert later or name.startswith("head")
    assert all(p.local <= p.due for p in later)


def test_a_near_operator_in_place_of_another(recorder, changed, plain, feed):
    def replace(model):
        (node,) = [n for n in model.graph.node if n.op_type == "Relu"]
        node.op_type = "LeakyRelu"

    found = blame(recorder, Suspect(changed(replace), plain, DUE), feed)
    assert nodes(found) == ["node_relu"]


def test_a_rewritten_region_is_one_piece(recorder, changed, plain, feed):
    """gelu by erf, five nodes, became gelu by tanh, one node whose inner tensors have no namesakes."""

    def rewrite(model):
        graph = model.graph
        last = next(n for n in graph.node if n.output[0] == "gelu")
        place = graph.node[:].index(last)
        new = helper.make_node("Gelu", ["group_norm"], ["gelu"], name="fused_gelu", approximate="tanh")
        graph.node.insert(place, new)
        graph.node.remove(last)
        model.opset_import[0].version = 20

    found = blame(recorder, Suspect(changed(rewrite), plain, DUE), feed)
    assert nodes(found) == ["fused_gelu"]
    assert 1e-4 < found.guilty[0].local < 1e-2


def test_a_fault_inside_an_engine_in_one_operator(recorder, changed, faulty, feed):
    def wrong_instance_norm(model):
        for node in model.graph.node:
            if node.op_type == "InstanceNormalization":
                node.attribute.append(helper.make_attribute("epsilon", 1e-2))

    found = blame(recorder, Suspect(changed(lambda m: None), faulty(wrong_instance_norm), DUE), feed)
    assert [op for piece in found.guilty for _, op in piece.nodes] == ["InstanceNormalization"]


def test_a_fault_that_shows_only_when_an_engine_fuses_is_grown_and_cut_down(recorder, changed, faulty, feed):
    def bad_fusion(model):
        """Conv followed by Relu in one graph, with the Conv's result read by nobody else: 1 % too much."""
        outputs = {v.name for v in model.graph.output}
        for relu in [n for n in model.graph.node if n.op_type == "Relu"]:
            conv = next((n for n in model.graph.node if n.op_type == "Conv" and n.output[0] == relu.input[0]), None)
            if conv is not None and conv.output[0] not in outputs:
                model.graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "fault"))
                name = relu.output[0]
                relu.output[0] = f"{name}/before"
                model.graph.node.insert(
                    list(model.graph.node).index(relu) + 1, helper.make_node("Mul", [f"{name}/before", "fault"], [name])
                )

    found = blame(recorder, Suspect(changed(lambda m: None), faulty(bad_fusion), DUE), feed)
    assert "smallest part" in found.found_by
    (piece,) = found.guilty
    assert [op for _, op in piece.nodes] == ["Conv", "Relu"]
    assert piece.tensor == "relu"


LONG = 240


@pytest.fixture
def long():
    """A chain of 240 operators with a way around every eighth; two neighbours of it can be fused."""
    value = helper.make_tensor_value_info
    nodes, last = [], "x"
    for place in range(LONG):
        kind, out = ("Abs", "Softsign", "Tanh", "Neg")[place % 4], "y" if place == LONG - 1 else f"t{place}"
        if place % 8 == 7:
            nodes.append(
                helper.make_node("Mean", [last, nodes[-8].output[0] if place > 8 else last], [out], f"n{place}")
            )
        else:
            nodes.append(helper.make_node(kind, [last], [out], f"n{place}"))
        last = out
    shape = ["n", 16]
    ends = value("x", onnx.TensorProto.FLOAT, shape), value("y", onnx.TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "long", [ends[0]], [ends[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return Parts(flat(model)), {"x": np.random.default_rng(0).normal(size=(4, 16)).astype(np.float32)}


def fusing(first, second, factor=1.01):
    """A library that runs two neighbours as one where nobody reads what is between them, and ``factor`` too much."""

    def change(model):
        names = {n.name: n for n in model.graph.node}
        outputs = {v.name for v in model.graph.output}
        if first not in names or second not in names or names[first].output[0] in outputs:
            return
        node = names[second]
        model.graph.initializer.append(numpy_helper.from_array(np.float32(factor), "fault"))
        name, node.output[0] = node.output[0], f"{node.output[0]}/before"
        place = list(model.graph.node).index(node) + 1
        model.graph.node.insert(place, helper.make_node("Mul", [node.output[0], "fault"], [name], "fused"))

    return change


def counted(opener):
    opened = []

    @contextlib.contextmanager
    def counts(model):
        opened.append(len(model.graph.node))
        with opener(model) as run:
            yield run

    return counts, opened


@pytest.mark.parametrize("place", [0, 1, 40, 117, 200, LONG - 2])
def test_a_fused_pair_of_a_long_graph_is_found_with_few_openings(long, plain, faulty, place):
    parts, feed = long
    opener, opened = counted(faulty(fusing(f"n{place}", f"n{place + 1}")))
    found = blame(GraphRecorder(parts, plain), Suspect(parts, opener, DUE), feed)
    assert nodes(found) == [f"n{place}", f"n{place + 1}"]
    assert "the smallest part" in found.found_by
    assert found.notes == ()
    one_by_one = len(found.pieces) + -(-len(found.pieces) // CHUNK)
    assert len(opened) - one_by_one <= MOST_OPENINGS


def test_a_fault_that_no_output_shows_is_found_all_the_same(long, plain, faulty):
    """Rounding to whole numbers hides one per cent of what is small."""
    parts, feed = long
    model = onnx.ModelProto()
    model.CopyFrom(parts.model)
    model.graph.node[-1].CopyFrom(helper.make_node("Round", [model.graph.node[-2].output[0]], ["y"], "hides"))
    parts = Parts(flat(model))
    found = blame(GraphRecorder(parts, plain), Suspect(parts, faulty(fusing("n100", "n101")), DUE), feed)
    assert nodes(found) == ["n100", "n101"]


def test_a_search_that_is_cut_short_says_so(long, plain, faulty, monkeypatch):
    """Six operators that only go wrong together: with every opening more it comes closer to them."""
    parts, feed = long
    suspect = Suspect(parts, faulty(fusing("n100", "n105")), DUE)
    sizes = []
    for most in range(2, 24):
        monkeypatch.setattr(operators, "MOST_OPENINGS", most)
        piece, note = operators.grown(GraphRecorder(parts, plain), suspect, feed, parts.tensors())
        sizes.append(None if piece is None else len(piece.nodes))
        if note is None:
            break
        assert f"opened on {most} parts of the graph and no more" in note
        assert ("there may be a smaller one" in note) == (piece is not None)
    assert [name for name, _ in piece.nodes] == [f"n{i}" for i in range(100, 106)]
    assert sizes[0] is None and max(s for s in sizes if s) > sizes[-1] == 6
    assert sizes == sorted(sizes, key=lambda s: -(s or LONG))


def test_the_note_of_a_search_that_was_cut_short_reaches_the_blame(long, plain, faulty, monkeypatch):
    parts, feed = long
    monkeypatch.setattr(operators, "MOST_OPENINGS", 3)
    found = blame(GraphRecorder(parts, plain), Suspect(parts, faulty(fusing("n100", "n101")), DUE), feed)
    assert found.guilty == ()
    assert found.notes == (
        "the engine was opened on 3 parts of the graph and no more: no part that shows the error was found",
    )


def test_a_healthy_long_graph_is_not_opened_without_end(long, plain):
    parts, feed = long
    opener, opened = counted(plain)
    found = blame(GraphRecorder(parts, plain), Suspect(parts, opener, DUE), feed)
    assert found.guilty == () and "no part that shows the error was found" in found.notes[0]
    assert len(opened) <= len(found.pieces) + -(-len(found.pieces) // CHUNK) + MOST_OPENINGS


def test_places_are_spread_and_each_comes_once():
    for count in (0, 1, 2, 7, 8, 100):
        assert sorted(operators._spread(count)) == list(range(count))
    assert list(operators._spread(10))[:2] == [7, 3]


def test_a_wrong_export_is_found_against_pytorch_itself(module, changed, plain, feed, scaled):
    recorder = ModuleTensors(module, SIGNATURE, feed)
    assert np.allclose(recorder.run(feed)["y"], recorder.values(feed, ["y"])["y"])
    healthy = blame(recorder, Suspect(changed(lambda m: None), plain, DUE), feed)
    assert healthy.guilty == ()
    assert healthy.aligned >= 6
    found = blame(recorder, Suspect(changed(scaled("mid.weight", 1.001)), plain, DUE), feed)
    assert nodes(found) == ["node_conv2d_1"]


def test_overflow_of_fp16_is_seen_in_the_ranges():
    r = range_of("t", np.array([1.0, -7e4, np.inf, 1e-9]))
    assert (r.over_fp16, r.not_finite, r.under_fp16) == (1, 1, 1)
    assert "NaN or infinity" in r.advice
    assert "overflow fp16" in range_of("t", np.array([1.0, 1e5])).advice
    assert "vanish" in range_of("t", np.array([1e-9] * 5 + [1.0])).advice
    assert range_of("t", np.array([1.0, 2.0])).advice is None


def test_a_saturated_quantiser_is_named(raw, plain, feed):
    model = onnx.ModelProto()
    model.CopyFrom(raw)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.float32(0.002), "s"))
    graph.initializer.append(numpy_helper.from_array(np.uint8(128), "z"))
    relu = next(n for n in graph.node if n.op_type == "Relu")
    place = list(graph.node).index(relu)
    pair = [
        helper.make_node("QuantizeLinear", ["conv2d_1", "s", "z"], ["q"], name="quantise"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], name="dequantise"),
    ]
    for node in reversed(pair):
        graph.node.insert(place, node)
    relu.input[0] = "dq"
    parts = Parts(flat(model))
    recorder = GraphRecorder(Parts(flat(raw)), plain)
    found = blame(recorder, Suspect(parts, plain, tolerance("int8", 1).max_relative_rms), feed)
    (piece,) = found.guilty
    assert [n for n, _ in piece.nodes] == ["quantise", "dequantise", "node_relu"]
    (text,) = saturated(recorder, parts, feed, piece)
    assert "quantise saturates" in text
    assert "conv2d_1" in text
    scale = np.array([1.0, 0.001])
    values = np.stack([np.full(4, 100.0), np.full(4, 100.0)])[None]
    assert saturation(values, scale, np.array([0, 0], np.uint8)) == 0.5


def test_few_tensors_are_held_at_a_time(raw, plain, feed, changed):
    asked = []

    class Counting(GraphRecorder):
        def values(self, feed, names):
            asked.append(len(list(names)))
            return super().values(feed, names)

    blame(Counting(Parts(flat(raw)), plain), Suspect(changed(lambda m: None), plain, DUE), feed)
    assert max(asked) <= 3 * CHUNK
    assert len(asked) >= 2


@pytest.mark.parametrize(
    ("zero", "values", "share"),
    [
        (np.array(0, np.int8), [-200.0, 127.0], 0.5),
        (np.array(0, ml_dtypes.int4), [-9.0, -8.0, 7.0, 8.0], 0.5),
        (np.array(0, np.uint16), [-1.0, 60000.0], 0.5),
        (np.array(0, ml_dtypes.float8_e4m3fn), [1000.0], 0.0),
        (np.array(0, np.uint8), [], 0.0),
    ],
)
def test_what_a_quantiser_of_any_type_cuts_off(zero, values, share):
    assert saturation(np.array(values), np.array(1.0), zero) == share


def test_a_piece_that_the_nudge_makes_nan_stays_guilty(plain, faulty):
    """An arc cosine of ones: moved a little, some lie beyond its domain, which says nothing of how it magnifies."""
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Clip", ["x", "low", "high"], ["inside"], "clip"),
        helper.make_node("Acos", ["inside"], ["angle"], "acos"),
        helper.make_node("Add", ["angle", "one"], ["y"], "add"),
    ]
    weights = [numpy_helper.from_array(np.float32(v), n) for n, v in (("low", -1.0), ("high", 1.0), ("one", 1.0))]
    shape = ["n", 64]
    graph = helper.make_graph(
        nodes, "g", [value("x", onnx.TensorProto.FLOAT, shape)], [value("y", onnx.TensorProto.FLOAT, shape)], weights
    )
    parts = Parts(flat(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)))

    def sine(model):
        for node in model.graph.node:
            if node.op_type == "Acos":
                node.op_type = "Asin"

    x = np.random.default_rng(0).uniform(-1.5, 1.5, (4, 64)).astype(np.float32)
    found = blame(GraphRecorder(parts, plain), Suspect(parts, faulty(sine), DUE), {"x": x})
    assert [p.tensor for p in found.guilty] == ["angle"]
    assert np.isfinite(found.guilty[0].due)
