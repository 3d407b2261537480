from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec
from assay.graph.signature import load_model, read_signature, signature_of, store_batch_axes, with_batch_axes


def value(name: str, dims: list[int | str | None] | None, dtype: int = T.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, dims)


def model(inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    nodes = [helper.make_node("Identity", [inputs[0].name], [o.name]) for o in outputs]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs), ir_version=8)


def axes(signature: Signature) -> dict[str, int | None]:
    return {s.name: s.batch_axis for s in (*signature.inputs, *signature.outputs)}


def test_named_dims_and_initializers(net: Path) -> None:
    signature = read_signature(net)
    assert signature.inputs == (TensorSpec("x", "float32", ("batch", 3, "h", "w"), 0),)
    assert signature.outputs == (TensorSpec("y", "float32", ("batch", 5), 0),)


def test_an_initializer_listed_as_input_is_no_input(build) -> None:
    proto = build()
    proto.graph.input.append(value("fc.bias", [5]))
    assert signature_of(proto).input_names == ("x",)


def test_unnamed_free_dims_get_stable_names_and_unknown_output_dims_a_question_mark() -> None:
    signature = signature_of(model([value("x", [None, 3, None])], [value("y", [None, "made_up", 2])]))
    assert signature.inputs[0].shape == ("dim_x_0", 3, "dim_x_2")
    assert signature.inputs[0].batch_axis == 0
    assert signature.outputs[0].shape == ("?", "?", 2)
    assert signature.outputs[0].batch_axis is None


def test_derived_output_dims_are_kept() -> None:
    signature = signature_of(model([value("x", ["n", "h"])], [value("y", ["n", "2*floor(h/2)"]), value("z", ["n*q"])]))
    assert signature.outputs[0].shape == ("n", "2*floor(h/2)")
    assert signature.outputs[1].shape == ("?",)


def test_the_batch_name_is_found_on_other_axes() -> None:
    found = signature_of(
        model(
            [value("x", ["n", 3]), value("h", [2, "n", 5]), value("k", [4])], [value("y", ["n"]), value("hn", [2, "n"])]
        )
    )
    assert axes(found) == {"x": 0, "h": 1, "k": None, "y": 0, "hn": 1}


def test_static_batch_by_convention_only_where_inputs_agree() -> None:
    agree = signature_of(model([value("x", [4, 3]), value("m", [4])], [value("y", [4, 2]), value("loss", [1])]))
    assert axes(agree) == {"x": 0, "m": 0, "y": 0, "loss": None}
    assert agree.static_batch == 4
    differ = signature_of(model([value("x", [4, 3]), value("m", [7])], [value("y", [4, 2])]))
    assert set(axes(differ).values()) == {None}


def test_stored_axes_win_and_are_ignored_when_they_do_not_fit() -> None:
    proto = model([value("x", ["n", 3])], [value("y", ["?", 3])])
    wanted = with_batch_axes(signature_of(proto), {"x": 0, "y": 1})
    store_batch_axes(proto, wanted)
    store_batch_axes(proto, wanted)
    assert len(proto.metadata_props) == 1
    assert axes(signature_of(proto)) == {"x": 0, "y": 1}
    proto.graph.output[0].name = "z"
    proto.graph.node[0].output[0] = "z"
    assert axes(signature_of(proto)) == {"x": 0, "z": None}


@pytest.mark.parametrize("dtype", [T.COMPLEX64, T.FLOAT8E4M3FN, T.INT4])
def test_dtypes_outside_the_list_are_refused(dtype: int) -> None:
    with pytest.raises(BadInput, match="dtype"):
        signature_of(model([value("x", [1], dtype)], [value("y", [1], dtype)]))


def test_sequences_and_optionals_are_refused() -> None:
    sequence = helper.make_tensor_sequence_value_info("x", T.FLOAT, [1])
    with pytest.raises(BadInput, match="'x' is not a tensor but a sequence"):
        signature_of(model([sequence], [value("y", [1])]))
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(T.FLOAT, [1]))
    with pytest.raises(BadInput, match="an optional"):
        signature_of(model([value("x", [1])], [helper.make_value_info("y", kind)]))


def test_an_input_without_rank_is_refused() -> None:
    with pytest.raises(BadInput, match="no known rank"):
        signature_of(model([value("x", None)], [value("y", [1])]))


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x08\x07"])
def test_files_that_are_no_models(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"bad\.onnx is not an ONNX file"):
        load_model(path)


def test_a_truncated_model(net: Path) -> None:
    net.write_bytes(net.read_bytes()[:-40])
    with pytest.raises(BadInput, match="not an ONNX file"):
        read_signature(net)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file"):
        load_model(tmp_path / "none.onnx")


@pytest.mark.parametrize("note", ["[" * 100_000, '{"x": true, "y": true}', '{"x": 0.5, "y": null}'])
def test_a_note_of_batch_axes_that_is_none_is_passed_over(note: str) -> None:
    """Anybody may write into a file."""
    noted = model([value("x", ["batch", 3])], [value("y", ["batch", 3])])
    noted.metadata_props.add(key="assay.batch_axes", value=note)
    assert [s.batch_axis for s in signature_of(noted).inputs] == [0]
