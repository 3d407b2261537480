from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from assay.graph.describe import describe
from assay.graph.external_data import save_model
from assay.graph.quiet import quiet
from assay.graph.rounding import rounding_depth


def save(path: Path, nodes, inputs, outputs, initializers=()) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in dict(initializers).items()],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_the_small_net(net: Path) -> None:
    found = describe(net, sizes={"h": 8, "w": 8})
    assert found.op_counts == {
        "Conv": 1, "Flatten": 1, "Gemm": 1, "GlobalAveragePool": 1, "Identity": 1, "Relu": 1
    }  # fmt: skip
    assert found.parameters == 4 * 3 * 9 + 4 + 20 + 5
    assert found.weight_bytes == found.parameters * 4
    assert found.macs == 4 * 8 * 8 * 27 + 20
    assert (found.ir_version, found.producer, found.opsets, found.depth) == (8, "test", {"": 17}, 2)
    conv = found.nodes[0]
    assert (conv.name, conv.op, conv.attributes["pads"], conv.macs) == ("conv", "Conv", "[1, 1, 1, 1]", 4 * 64 * 27)
    assert found.nodes[2].macs is None
    assert json.loads(json.dumps(found.to_json()))["signature"]["inputs"][0]["name"] == "x"


def test_macs_scale_with_the_batch(net: Path) -> None:
    one = describe(net, 1, {"h": 8, "w": 8}).macs
    assert one is not None
    assert describe(net, 4, {"h": 8, "w": 8}).macs == 4 * one


def test_unknown_shapes_make_macs_unknown_and_say_so(net: Path) -> None:
    found = describe(net)
    assert found.macs is None
    assert found.macs_unknown is not None and "Conv conv" in found.macs_unknown


def test_transposed_convolution_and_matmul(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        [
            helper.make_node("ConvTranspose", ["x", "w"], ["a"], strides=[2, 2]),
            helper.make_node("MatMul", ["a", "m"], ["y"]),
        ],
        {"x": [1, 2, 3, 3]},
        {"y": [1, 4, 6, 5]},
        {"w": np.ones((2, 4, 2, 2), np.float32), "m": np.ones((6, 5), np.float32)},
    )
    assert describe(path).macs == (18 * 16) + (4 * 6 * 6 * 5)


def test_external_weights_are_counted_and_listed(tmp_path: Path, build) -> None:
    proto = build()
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros((64, 64), np.float32), "big"))
    save_model(proto, tmp_path / "e.onnx", threshold_bytes=0)
    found = describe(tmp_path / "e.onnx")
    assert found.external_data == (tmp_path / "e.onnx.data",)
    assert found.weight_bytes == found.parameters * 4 > 64 * 64 * 4


def test_attributes_are_printable(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.float32([1.5, 2]), "t"))],
        "body",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [2])],
    )
    many = numpy_helper.from_array(np.arange(20, dtype=np.float32), "t")
    path = save(
        tmp_path / "a.onnx",
        [
            helper.make_node("Constant", [], ["k"], value=many),
            helper.make_node("If", ["b"], ["y"], then_branch=body, else_branch=body),
        ],
        {"b": [1]},
        {"y": [2]},
    )
    found = describe(path)
    assert found.nodes[0].attributes == {"value": "float 20"}
    assert found.nodes[1].attributes["then_branch"] == "graph body of 1 nodes"
    assert found.op_counts["Constant"] == 3
    assert found.macs is None


def test_source_lines_and_module_names_of_a_torch_export(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.first(x))

    path = tmp_path / "t.onnx"
    with quiet(["torch"]):
        torch.onnx.export(
            Net().eval(), (torch.zeros(2, 3),), str(path), dynamo=True, verbose=False, external_data=False
        )
    relu = next(n for n in describe(path).nodes if n.op == "Relu")
    assert relu.source is not None and "test_describe.py" in relu.source and "torch.relu" in relu.source
    assert relu.namespace is not None and "relu" in relu.namespace
    gemm = next(n for n in describe(path).nodes if n.op == "Gemm")
    assert gemm.source is not None and "test_describe.py" in gemm.source
    assert gemm.namespace is not None and "first" in gemm.namespace


def test_depth_is_the_longest_path_not_the_number_of_nodes(tmp_path: Path) -> None:
    weights = {"w": np.ones((2, 2), np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("MatMul", ["x", "w"], ["side"]),
        helper.make_node("Add", ["b", "side"], ["c"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    path = save(tmp_path / "d.onnx", nodes, {"x": [1, 2]}, {"y": [1, 2]}, weights)
    assert rounding_depth(path) == 2


def test_depth_enters_sub_graphs_and_functions(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["a", "w"], ["t"]), helper.make_node("MatMul", ["t", "w"], ["u"])],
        "inner",
        [],
        [helper.make_tensor_value_info("u", TensorProto.FLOAT, None)],
    )
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    call = helper.make_function("mine", "F", ["p"], ["q"], [helper.make_node("MatMul", ["p", "p"], ["q"])], opset[:1])
    graph = helper.make_graph(
        [
            helper.make_node("F", ["x"], ["a"], domain="mine"),
            helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
        ],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2]),
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((2, 2), np.float32), "w")],
    )
    path = tmp_path / "s.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=opset, functions=[call], ir_version=9), str(path))
    assert rounding_depth(path) == 3
    assert describe(path).op_counts["mine::F"] == 1
    assert describe(path).macs is None


@pytest.mark.parametrize("content", [b"", b"junk"])
def test_a_file_that_is_no_model(tmp_path: Path, content: bytes) -> None:
    from assay.core.errors import BadInput

    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(BadInput):
        describe(tmp_path / "x.onnx")


def test_why_macs_are_unknown_is_said_truly(tmp_path: Path) -> None:
    def unknown(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None) -> str | None:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "g",
            [value("x", TensorProto.FLOAT, [3, 3])],
            [value("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
        )
        path = tmp_path / "m.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
        return describe(path).macs_unknown

    body = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["r"])], "b", [], [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    )
    choice = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    said = unknown([choice], {"c": np.array(True)})
    assert said == "how often the sub-graphs of If run is only known at run time"
    # What no checker has seen yet: a product without its second factor, and one of a vector.
    assert unknown([helper.make_node("Conv", ["x"], ["y"], name="c")]) == "the shapes at Conv c could not be inferred"
    vector = [
        helper.make_node("ReduceMax", ["x"], ["v"], axes=[0], keepdims=0),
        helper.make_node("Gemm", ["v", "x"], ["y"]),
    ]
    assert "Gemm y" in (unknown(vector) or "")


def test_damaged_constants_are_described_as_that(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["y"], name="c")
    constant.attribute.add(name="value", type=4, t=TensorProto(data_type=1, dims=[3], raw_data=b"12"))
    odd = helper.make_node("Relu", ["x"], ["z"], name="odd")
    odd.attribute.add(name="what", type=0)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [constant, odd],
        "g",
        [value("x", TensorProto.FLOAT, [3])],
        [value("y", TensorProto.FLOAT, [3]), value("z", TensorProto.FLOAT, [3])],
        [TensorProto(name="w", data_type=99, dims=[3])],
    )
    path = tmp_path / "damaged.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    found = describe(path)
    assert found.nodes[0].attributes == {"value": "float 3, damaged"}
    assert found.nodes[1].attributes == {"what": "damaged"}
    assert (found.parameters, found.weight_bytes) == (3, 3)
