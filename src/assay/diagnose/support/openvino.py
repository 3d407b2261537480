"""OpenVINO: every operator is given to it as a model of its own, at every opset, and its CPU plugin asked."""

from __future__ import annotations

from typing import Any

from assay.core.errors import NotAvailable
from assay.core.telemetry import import_untold
from assay.diagnose.support.table import ASKED, NOT_ASKED, Knowledge
from assay.graph.operator_uses import Use, since

_DEVICE = "CPU"


def knowledge() -> Knowledge:
    """Raises NotAvailable where openvino is missing."""
    try:
        library = import_untold("openvino")
    except ImportError:
        raise NotAvailable("openvino is not installed", remedy="pip install 'assay[openvino]'") from None
    core = library.Core()
    known: dict[tuple[int, int | None], str | None] = {}

    def refusal(use: Use, opset: int) -> str | None:
        key = (id(use), since(use.op_type, opset) if not use.domain else None)  # unchanged between two opsets
        if key not in known:
            known[key] = _refusal(core, use, opset)
        return known[key]

    return Knowledge(ASKED, f"openvino {library.__version__}, {_DEVICE}", refusal)


def _refusal(core: Any, use: Use, opset: int) -> str | None:
    part = use.at(opset)
    if part is None:
        return f"{NOT_ASKED}onnx's converter cannot write this node for that opset"
    try:
        model = core.read_model(part.SerializeToString(), b"")
    except Exception as error:  # the frontend raises RuntimeError and several of its own
        said = _said(error)
        return "its ONNX reader does not translate it" if "fully converted" in said else f"it is not read: {said}"
    try:
        taken = core.query_model(model, _DEVICE)
    except Exception as error:
        return f"the {_DEVICE} plugin refuses it: {_said(error)}"
    left = {op.get_type_name() for op in model.get_ops() if op.get_friendly_name() not in taken}
    return f"the {_DEVICE} plugin has no {', '.join(sorted(left))}" if left else None


def _said(error: Exception) -> str:
    """The first line that says something; file and line numbers come before it."""
    noise = ("Exception from", "Check '", "Errors during", "FrontEnd API", "While validating")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith(noise)), lines[0] if lines else "")[:200]
