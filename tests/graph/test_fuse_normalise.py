"""The fused graph gives the bits of the one without, and refuses what it cannot take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from assay.core.errors import BadInput
from assay.graph.check import problems
from assay.graph.fuse_normalise import Normalise, fuse_normalise
from assay.graph.signature import read_signature

NORMALISE = Normalise((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def model(shape: list[Any], kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Twice the input, chosen inside an If, whose branches see the outer name."""
    value = helper.make_tensor_value_info
    inner = helper.make_graph([helper.make_node("Add", ["x", "x"], ["z"])], "b", [], [value("z", kind, shape)])
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner),
    ]
    graph = helper.make_graph(nodes, "g", [value("x", kind, shape)], [value("y", kind, shape)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(made: onnx.ModelProto, x: np.ndarray) -> Any:
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16])
def test_bytes_in_equal_bits_out(kind: int, tmp_path: Path) -> None:
    given = model(["n", 3, 5, 4], kind)
    fused = fuse_normalise(given, NORMALISE)
    onnx.save(fused, tmp_path / "fused.onnx")
    assert problems(tmp_path / "fused.onnx") == ()
    (spec,) = read_signature(tmp_path / "fused.onnx").inputs
    assert (spec.name, spec.dtype, spec.shape) == ("x", "uint8", ("n", 5, 4, 3))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 4, 3), dtype=np.uint8)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (NORMALISE.mean, NORMALISE.std))
    floats = (pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255) - mean) / std
    expected = run(given, floats.astype(helper.tensor_dtype_to_np_dtype(kind)))
    assert np.array_equal(run(fused, pixels), expected)
    assert given.graph.input[0].type.tensor_type.elem_type == kind


@pytest.mark.parametrize("shape", [["n", 1, 5, 4], ["n", 3, 5], ["n", 5, 4, 3]])
def test_it_refuses_what_is_no_batch_of_pictures(shape: list[Any]) -> None:
    with pytest.raises(BadInput, match=r"is not \(batch, 3, height, width\)"):
        fuse_normalise(model(shape), NORMALISE)
