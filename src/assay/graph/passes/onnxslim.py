"""onnxslim: constant folding, shape folding, fusion of batch norms, removal of duplicates; pure Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.errors import NotAvailable

if TYPE_CHECKING:
    import onnx


def onnxslim(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        from onnxslim import slim
    except ImportError:
        raise NotAvailable("onnxslim is not installed", remedy="pip install onnxslim") from None
    slimmed = slim(model)
    if slimmed is None:
        raise RuntimeError("onnxslim gave nothing back")
    return slimmed
