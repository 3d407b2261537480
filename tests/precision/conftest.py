"""A small classifier trained on scikit-learn's digits, and the same function made hard to quantise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn import functional

from assay.core.artifact import Artifact, file_artifact
from assay.core.sample import Sample
from assay.data.digits import DigitsReader

Weights = dict[str, np.ndarray]
SPREAD = 3.0
"""Channels of the hard model differ in range by up to 10 to this power."""


def samples_of(split: str) -> tuple[Sample, ...]:
    """float32 (1, 8, 8) in 0..1."""
    items = DigitsReader(split).items()
    return tuple(Sample(i.id, {"x": (i.content.astype(np.float32) / 255)[None]}, i.target) for i in items)


def _train() -> Weights:
    """Conv 3x3 (12) - Relu - Conv 3x3 (16) - Relu - MaxPool 2 - Conv 3x3 (24) - Relu - mean - Gemm (10)."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more gain nothing at this size, and the result no longer depends on the machine
    try:
        return _trained()
    finally:
        torch.set_num_threads(threads)


def _trained() -> Weights:
    torch.manual_seed(0)
    rows = samples_of("train")
    x = torch.from_numpy(np.stack([r.inputs["x"] for r in rows]))
    y = torch.tensor([r.target for r in rows])
    shapes = {"c1": (12, 1, 3, 3), "c2": (16, 12, 3, 3), "c3": (24, 16, 3, 3), "fc": (10, 24)}
    weights: dict[str, torch.Tensor] = {}
    for name, shape in shapes.items():
        weights[f"{name}.w"] = (torch.randn(shape) / np.sqrt(np.prod(shape[1:]) / 2)).requires_grad_()
        weights[f"{name}.b"] = torch.zeros(shape[0], requires_grad=True)
    optimiser = torch.optim.Adam(weights.values(), lr=1e-2)

    def forward(batch: torch.Tensor) -> torch.Tensor:
        h = functional.relu(functional.conv2d(batch, weights["c1.w"], weights["c1.b"], padding=1))
        h = functional.relu(functional.conv2d(h, weights["c2.w"], weights["c2.b"], padding=1))
        h = functional.max_pool2d(h, 2)
        h = functional.relu(functional.conv2d(h, weights["c3.w"], weights["c3.b"], padding=1))
        return h.mean((2, 3)) @ weights["fc.w"].T + weights["fc.b"]

    for _ in range(14):
        for rows_ in torch.randperm(len(x)).split(48):
            loss = functional.cross_entropy(forward(x[rows_]), y[rows_])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return {k: v.detach().numpy() for k, v in weights.items()}


def unequal(weights: Weights, layers: Sequence[tuple[str, str]] = (("c1", "c2"),)) -> Weights:
    """The same function with unequal channels: what a layer's channel is multiplied by, the next layer divides out.

    A Relu between them passes a positive factor through (Nagel et al., "Data-Free Quantization Through
    Weight Equalization and Bias Correction", 2019, use this the other way round).
    """
    rng = np.random.default_rng(0)
    out = {k: v.copy() for k, v in weights.items()}
    for first, second in layers:
        factors = (10 ** rng.uniform(-SPREAD / 2, SPREAD / 2, len(out[f"{first}.b"]))).astype(np.float32)
        out[f"{first}.w"] *= factors[:, None, None, None]
        out[f"{first}.b"] *= factors
        out[f"{second}.w"] /= factors[None, :, None, None]
    return out


def save(weights: Weights, path: Path) -> Artifact:
    conv = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "c1.w", "c1.b"], ["a1"], name="first", **conv),
        helper.make_node("Relu", ["a1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "c2.w", "c2.b"], ["a2"], name="second", **conv),
        helper.make_node("Relu", ["a2"], ["r2"], name="relu2"),
        helper.make_node("MaxPool", ["r2"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "c3.w", "c3.b"], ["a3"], name="third", **conv),
        helper.make_node("Relu", ["a3"], ["r3"], name="relu3"),
        helper.make_node("ReduceMean", ["r3"], ["m"], name="mean", axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["m", "fc.w", "fc.b"], ["scores"], name="head", transB=1),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "digits",
        [value("x", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [value("scores", onnx.TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return file_artifact(path, "onnx")


@dataclass(frozen=True)
class Models:
    """``easy`` and ``hard`` compute the same."""

    easy: Artifact
    hard: Artifact


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("digits")
    weights = _train()
    return Models(save(weights, folder / "easy.onnx"), save(unequal(weights), folder / "hard.onnx"))
