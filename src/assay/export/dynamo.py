"""The exporter built on ``torch.export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assay.export.request import ExportRequest, free_axes


def export(request: ExportRequest, path: Path) -> None:
    """``torch.onnx.export(dynamo=True)`` with the free dims given as ``dynamic_shapes``."""
    import torch

    axes = [a or None for a in free_axes(request)]
    shapes: Any = None
    if any(axes):
        shapes = (tuple(axes),) if request.varargs else tuple(axes)
    with torch.no_grad():
        program = torch.onnx.export(
            request.module,
            request.example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=[s.name for s in request.plan.specs],
            output_names=list(request.output_names),
            opset_version=request.opset,
            optimize=request.constant_folding,
            custom_translation_table=dict(request.custom.dynamo) or None,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
