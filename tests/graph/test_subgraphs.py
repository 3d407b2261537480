"""Nodes inside nodes, on an If whose branches read what lies outside of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from assay.core.errors import BadInput
from assay.graph.check import misdeclared
from assay.graph.double import to_double
from assay.graph.extract import flat
from assay.graph.subgraphs import drop_unread_weights, every_node, inlined, name_nodes, reads, subgraphs


def choice() -> onnx.GraphProto:
    """y = c ? relu(x + w) : x - v; nobody reads ``spare``."""
    value = helper.make_tensor_value_info
    then = [helper.make_node("Add", ["x", "w"], ["t"]), helper.make_node("Relu", ["t"], ["then"])]
    branches = {
        "then_branch": helper.make_graph(then, "then", [], [value("then", 1, None)]),
        "else_branch": helper.make_graph(
            [helper.make_node("Sub", ["x", "v"], ["else"])], "else", [], [value("else", 1, None)]
        ),
    }
    weights = {"w": np.ones(2), "v": np.ones(2), "c": np.array(True), "spare": np.ones(2), "given": np.ones(2)}
    return helper.make_graph(
        [
            helper.make_node("If", ["c"], ["y"], name="same", **branches),
            helper.make_node("Relu", ["y"], ["z"], name="same"),
        ],
        "choice",
        [value("x", 1, [2])],
        [value("z", 1, [2]), value("given", 1, [2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )


def test_every_node_is_followed_by_those_inside_of_it() -> None:
    graph = choice()
    assert [node.op_type for node in every_node(graph)] == ["If", "Sub", "Add", "Relu", "Relu"]
    assert [inner.name for inner in subgraphs(graph.node[0])] == ["else", "then"]


def test_what_a_node_reads_is_what_comes_from_outside() -> None:
    assert reads(choice().node[0]) == ["c", "x", "v", "x", "w"]


def test_weights_that_only_a_branch_or_an_output_takes_stay() -> None:
    graph = choice()
    drop_unread_weights(graph)
    assert [tensor.name for tensor in graph.initializer] == ["w", "v", "c", "given"]


def test_names_are_made_unique() -> None:
    graph = choice()
    graph.node.extend([helper.make_node("Relu", ["z"], ["end"])])
    name_nodes(graph)
    assert [node.name for node in graph.node] == ["same", "Relu_z", "Relu_end"]


def test_functions_are_written_out_unless_one_calls_itself() -> None:
    def model(body: str) -> onnx.ModelProto:
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("mine", 1)]
        inner = helper.make_node(body, ["a"], ["b"], domain="mine" if body == "f" else "")
        function = helper.make_function("mine", "f", ["a"], ["b"], [inner], opsets)
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [helper.make_node("f", ["x"], ["y"], domain="mine")], "g", [value("x", 1, [1])], [value("y", 1, [1])]
        )
        return helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=8)

    assert [node.op_type for node in inlined(model("Relu")).graph.node] == ["Relu"]
    for use in (inlined, flat, to_double):
        with pytest.raises(BadInput, match=r"cannot be written out: .*f"):
            use(model("f"))
    plain = helper.make_model(choice())
    assert inlined(plain) is plain
    assert misdeclared(model("f")) == ()
