"""ONNX GraphSurgeon's clean-up: drops what no output needs and sorts the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assay.core.errors import NotAvailable

if TYPE_CHECKING:
    import onnx


def graphsurgeon_cleanup(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        import onnx_graphsurgeon as surgeon
    except ImportError:
        raise NotAvailable("onnx-graphsurgeon is not installed", remedy="pip install onnx-graphsurgeon") from None
    graph = surgeon.import_onnx(model)
    graph.cleanup().toposort()
    return surgeon.export_onnx(graph)
