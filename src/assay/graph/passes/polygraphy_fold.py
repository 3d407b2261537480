"""Polygraphy's constant folding (NVIDIA)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.errors import NotAvailable

if TYPE_CHECKING:
    import onnx


def polygraphy_fold(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        from polygraphy.backend.onnx import fold_constants
    except ImportError:
        raise NotAvailable(
            "polygraphy is not installed", remedy="pip install polygraphy onnx-graphsurgeon onnxruntime"
        ) from None
    return fold_constants(model)
