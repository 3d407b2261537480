"""A model that needs no training, shared by the tests of quantising and of whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.job.hand import Hand

from assay.core import clock


@pytest.fixture
def now() -> Iterator[Hand]:
    """The time, in force for one test."""
    hand = Hand()
    with clock.use(clock.Clock(hand, lambda s: None, clock.REAL.wall)):
        yield hand


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits by nearest mean, as a Conv over the whole image: no training needed."""
    from sklearn.datasets import load_digits

    data = load_digits()
    means = np.stack([data.images[data.target == c].mean(0) for c in range(10)]).astype(np.float32) / 16
    weights = {"w": means[:, None], "b": (-0.5 * (means**2).sum((1, 2))).astype(np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], name="match"),
        helper.make_node("Flatten", ["c"], ["scores"], name="flat"),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "means",
        [value("x", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [value("scores", onnx.TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    folder = tmp_path_factory.mktemp("means")
    path = folder / "means.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    (folder / "pre.py").write_text(
        "import numpy as np\ndef unit(image): return (np.asarray(image, dtype=np.float32) / 255)[None]\n"
    )
    return path
