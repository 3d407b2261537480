from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from assay.core.errors import BadInput
from assay.graph.check import max_opset, misdeclared, opset_of, problems


def test_a_good_file_has_no_problems(net: Path) -> None:
    assert problems(net) == ()
    assert opset_of(net) == 17


def test_an_unknown_operator_and_a_dangling_input_are_named(net: Path, build) -> None:
    proto = build()
    proto.graph.node[2].op_type = "Reluu"
    onnx.save_model(proto, str(net))
    assert any("Reluu" in p for p in problems(net))
    proto = build()
    proto.graph.node[2].input[0] = "nowhere"
    onnx.save_model(proto, str(net))
    assert any("nowhere" in p for p in problems(net))


def test_shapes_that_contradict_each_other(net: Path, build) -> None:
    proto = build()
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6]))
    onnx.save_model(proto, str(net))
    assert any("shape inference" in p for p in problems(net))


def test_outputs_that_are_declared_otherwise_than_the_graph_makes_them(build) -> None:
    proto = build()
    assert misdeclared(proto) == ()
    wrong = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, 1, 1])
    proto.graph.output[0].CopyFrom(wrong)
    (said,) = misdeclared(proto)
    assert "'y' is declared of rank 4, batchx5x1x1; the graph gives " in said
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 6]))
    assert "of another size, batchx6" in misdeclared(proto)[0]
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, None))
    assert misdeclared(proto) == ()


def test_inspect_warns_of_a_wrong_declaration(net: Path, build, capsys) -> None:
    from assay.cli.main import run_cli

    proto = build()
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5, 1, 1]))
    onnx.save_model(proto, str(net))
    assert run_cli(["inspect", str(net)]) == 0
    assert "warning: output 'y' is declared of rank 4" in capsys.readouterr().err


def test_an_opset_from_the_future(net: Path, build) -> None:
    proto = build()
    proto.opset_import[0].version = max_opset() + 1
    onnx.save_model(proto, str(net))
    assert "newer than" in problems(net)[0]


def test_a_file_that_cannot_be_parsed_raises(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\xff" * 10)
    with pytest.raises(BadInput):
        problems(tmp_path / "x.onnx")
