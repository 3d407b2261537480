"""Graph passes: one a file, each a callable from a model to a model.

A pass may change its argument.  It is never believed: ``graph/simplify.py`` checks what it gave
back and rolls it back when the outputs or the signature changed.  A user's own pass is named
``FILE.py:function``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import onnx

PASSES: dict[str, str] = {
    "onnxslim": "assay.graph.passes.onnxslim:onnxslim",
    "onnxsim": "assay.graph.passes.onnxsim:onnxsim",
    "polygraphy_fold": "assay.graph.passes.polygraphy_fold:polygraphy_fold",
    "graphsurgeon_cleanup": "assay.graph.passes.graphsurgeon_cleanup:graphsurgeon_cleanup",
}
DEFAULT_PASSES = ("onnxslim",)


class GraphPass(Protocol):
    """Takes a model with its weights in memory; raises NotAvailable when its library is missing."""

    def __call__(self, model: onnx.ModelProto) -> onnx.ModelProto: ...
