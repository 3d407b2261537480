"""The models of ``corpus.py`` as bundles: real ONNX files, opened by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from assay.bundle.contents import BundleContents
from assay.bundle.pack import pack
from assay.core.artifact import file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.engines.onnxruntime import OnnxRuntimeEngine

DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "BYTES": TensorProto.STRING,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "INT8": TensorProto.INT8,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT64": TensorProto.UINT64,
}
LABELS = ("zero", "one", "zwei", "drei")


def bundles(folder: Path) -> dict[str, Path]:
    """Pack every model below ``folder``; by name."""
    made = {"small": _small(folder), "pair": _pair(folder)}
    for datatype, element in DATATYPES.items():
        node = helper.make_node("Identity", ["x"], ["y"])
        shape = ["batch", 3]
        given = [helper.make_tensor_value_info("x", element, shape)]
        made[f"id_{datatype}"] = _save(
            folder / f"id_{datatype}.onnx", ([node], given, [helper.make_tensor_value_info("y", element, shape)], [])
        )
    return {name: _bundle(name, path, folder / f"{name}.bundle") for name, path in made.items()}


def _small(folder: Path) -> Path:
    """scores = x·W + b with small whole numbers, so that sums are exact whatever their order; best = argmax."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.integers(-4, 5, (16, 4)).astype(np.float32), "W")
    bias = numpy_helper.from_array(np.arange(4, dtype=np.float32), "b")
    nodes = [
        helper.make_node("Gemm", ["x", "W", "b"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=1),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])]
    made = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4]),
        helper.make_tensor_value_info("best", TensorProto.INT64, ["batch", 1]),
    ]
    return _save(folder / "small.onnx", (nodes, given, made, [weights, bias]))


def _pair(folder: Path) -> Path:
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", 16]) for n in ("a", "b")]
    made = [helper.make_tensor_value_info("difference", TensorProto.FLOAT, ["batch", 16])]
    return _save(folder / "pair.onnx", ([helper.make_node("Sub", ["a", "b"], ["difference"])], given, made, []))


def _save(path: Path, parts: tuple) -> Path:  # type: ignore[type-arg]
    nodes, given, made, weights = parts
    graph = helper.make_graph(nodes, path.stem, given, made, weights)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _bundle(name: str, path: Path, out: Path) -> Path:
    engine = OnnxRuntimeEngine()
    artifact = file_artifact(path, "onnx")
    candidate = Candidate(artifact, "onnxruntime", engine.version(), OpenOptions(threads=1), "a processor")
    with engine.open(artifact, candidate.options) as session:
        feed = {s.name: _row(s.dtype, s.row_shape()) for s in session.signature.inputs}
        goldens = ((feed, session.run(feed)),)
        signature = session.signature
    tolerance = {"max_relative_rms": 0.0, "source": "identities and whole numbers are exact"}
    labels = LABELS if name == "small" else None
    return pack(BundleContents(name, candidate, signature, goldens, tolerance, labels=labels), out)


def _row(dtype: str, shape: tuple) -> np.ndarray:  # type: ignore[type-arg]
    if dtype == "string":
        return np.array([[b"golden"] * shape[0]], dtype=object)
    return np.ones((1, *shape), dtype)
