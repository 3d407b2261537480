from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from assay.core.artifact import Artifact
from assay.core.model import Model
from assay.core.shapes import parse_shape
from assay.core.tensors import Array, Feed
from assay.export.export import Exported, export_model
from assay.export.options import ExportOptions


def run_onnx(path: Path, feed: Feed) -> dict[str, Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def model_of(module: torch.nn.Module, **fields: Any) -> Model:
    """A resolved model around a module, as a source would give it."""
    artifact = Artifact(Path("model.json"), "source", "0" * 64, module=lambda: module)
    return Model(name="net", spec="net.py:Net", artifact=artifact, weights="seeded", **fields)


@pytest.fixture
def export(tmp_path: Path) -> Callable[..., Exported]:
    """Export a module with shapes as a person writes them; further fields go to ExportOptions."""

    def go(module: torch.nn.Module, *shapes: str, model: dict[str, Any] | None = None, **fields: Any) -> Exported:
        torch.manual_seed(0)
        options = ExportOptions(shapes=tuple(parse_shape(s) for s in shapes), **fields)
        return export_model(model_of(module, **(model or {})), options, tmp_path / "net.onnx", run_onnx)

    return go
