from pathlib import Path

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx import TensorProto, helper

from assay.engines.onnx_precision import graph_precision


def of(artifact: models.Artifact) -> str:
    return graph_precision(onnx.load(str(artifact.path)))


@pytest.mark.parametrize(("dtype", "expected"), [(np.float32, "fp32"), (np.float16, "fp16"), (np.float64, "fp64")])
def test_of_the_weights(tmp_path: Path, dtype: type, expected: str) -> None:
    assert of(models.conv(tmp_path / "m.onnx", dtype)) == expected


def test_of_a_quantised_graph(tmp_path: Path) -> None:
    assert of(models.quantised_conv(tmp_path / "q.onnx")) == "int8"


def test_of_a_graph_without_products(tmp_path: Path) -> None:
    assert of(models.identity(tmp_path / "i.onnx", TensorProto.INT64)) == "fp32"


def test_between_casts_what_is_multiplied_counts(tmp_path: Path) -> None:
    """float32 in and out, but a product of two activations in half precision."""
    nodes = [
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Transpose", ["r"], ["t"]),
        helper.make_node("MatMul", ["r", "t"], ["p"]),
        helper.make_node("Cast", ["p"], ["y"], to=TensorProto.FLOAT),
    ]
    kind = TensorProto.FLOAT
    values = ([models.value("x", kind, [3, 4])], [models.value("y", kind, [3, 3])])
    assert of(models.save(tmp_path / "c.onnx", nodes, values)) == "fp16"
