from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.core.tensors import Array, Feed


def run_onnx(path: Path, feed: Feed) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


@pytest.fixture
def run() -> Callable[[Path, Feed], dict[str, Array]]:
    return run_onnx


def small_net() -> onnx.ModelProto:
    """x:batchx3xhxw -> Conv -> Identity -> Relu -> GlobalAveragePool -> Flatten -> Gemm -> y:batchx5."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Identity", ["a"], ["b"], name="same"),
        helper.make_node("Relu", ["b"], ["c"], name="relu"),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flat"),
        helper.make_node("Gemm", ["e", "fc.weight", "fc.bias"], ["y"], name="fc", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "h", "w"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])],
        [weight("conv.weight", 4, 3, 3, 3), weight("conv.bias", 4), weight("fc.weight", 5, 4), weight("fc.bias", 5)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save_model(small_net(), str(path))
    return path


@pytest.fixture
def build() -> Callable[[], onnx.ModelProto]:
    return small_net
