"""Small ONNX files written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from assay.core.artifact import Artifact, file_artifact


def value(name: str, dtype: int, shape: Sequence[int | str | None]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, list(shape))


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    values: tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]],
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    opset: int = 17,
) -> Artifact:
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", values[0], values[1], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), str(path))
    return file_artifact(path, "onnx")


def identity(path: Path, dtype: int) -> Artifact:
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], ([value("x", dtype, ["batch", 3])], [value("y", dtype, ["batch", 3])]))


def conv(path: Path, dtype: Any = np.float32) -> Artifact:
    """x: batch x 2 x 6 x 6 -> y: batch x 3 x 4 x 4; 3*4*4 outputs of 2*3*3 products: 864 MACs a row."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((3, 2, 3, 3)).astype(dtype), "b": rng.standard_normal(3).astype(dtype)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")
    values = ([value("x", kind, ["batch", 2, 6, 6])], [value("y", kind, ["batch", 3, 4, 4])])
    return save(path, [node], values, weights)


def quantised_conv(path: Path) -> Artifact:
    """The same in QDQ form: activations uint8, weights int8."""
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray[Any, Any]] = {
        "w": rng.integers(-127, 127, (3, 2, 3, 3), dtype=np.int8),
        "ws": np.float32(0.01),
        "wz": np.int8(0),
        "xs": np.float32(1 / 255),
        "xz": np.uint8(0),
        "ys": np.float32(0.05),
        "yz": np.uint8(128),
    }
    weights = {k: np.asarray(v) for k, v in weights.items()}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"], name="conv"),
        helper.make_node("QuantizeLinear", ["c", "ys", "yz"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "ys", "yz"], ["y"]),
    ]
    kind = onnx.TensorProto.FLOAT
    return save(path, nodes, ([value("x", kind, ["batch", 2, 6, 6])], [value("y", kind, ["batch", 3, 4, 4])]), weights)


def mixed(path: Path) -> Artifact:
    """Convolution, grouped and transposed convolution, Gemm and a product of two inputs, in that order.

    Per row: 8*8*8 * 3*3*3 = 13824; 8*6*6 * 4*3*3 = 10368; 8*6*6 inputs * 4*2*2 = 4608; 4*10 = 40; the
    product (1, 10) x (10, 1) = 10.
    """
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 4, 3, 3), "w3": (8, 4, 2, 2), "w4": (10, 4), "b4": (10,)}
    weights = {k: (rng.standard_normal(s) / 4).astype(np.float32) for k, s in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="c1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="r1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="c2", group=2),
        helper.make_node("ConvTranspose", ["c2", "w3"], ["c3"], name="c3", strides=[2, 2]),
        helper.make_node("ReduceMean", ["c3"], ["m"], name="m", axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["m", "w4", "b4"], ["y"], name="gemm", transB=1),
        helper.make_node("Transpose", ["y"], ["yt"], name="t", perm=[1, 0]),
        helper.make_node("MatMul", ["y", "yt"], ["g"], name="product"),
    ]
    kind = onnx.TensorProto.FLOAT
    values = (
        [value("x", kind, ["batch", 3, 8, 8])],
        [value("y", kind, ["batch", 10]), value("g", kind, ["batch", "batch"])],
    )
    return save(path, nodes, values, weights)
