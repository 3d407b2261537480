"""Is an ONNX file well formed?  The checker and strict shape inference, on paths so that size does not matter."""

from __future__ import annotations

import tempfile
from pathlib import Path

from assay.graph.signature import load_model


def max_opset() -> int:
    """The newest opset of the default domain that the installed onnx package knows."""
    import onnx

    return int(onnx.defs.onnx_opset_version())


def opset_of(path: Path) -> int | None:
    """The opset of the default domain a file declares; None when it declares none."""
    return next((int(o.version) for o in load_model(path).opset_import if o.domain in ("", "ai.onnx")), None)


def problems(path: Path) -> tuple[str, ...]:
    """What checker and shape inference object to, one line each; empty when all is well.

    Raises BadInput when the file cannot be parsed at all.
    """
    import onnx

    opset = opset_of(path)
    if opset is not None and opset > max_opset():
        return (f"opset {opset} is newer than the installed onnx package knows ({max_opset()})",)
    found = []
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        found.append(f"checker: {_one_line(error)}")
    try:
        with tempfile.TemporaryDirectory(prefix="assay-check-") as folder:
            target = str(Path(folder, "inferred.onnx"))
            onnx.shape_inference.infer_shapes_path(str(path), target, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        found.append(f"shape inference: {_one_line(error)}")
    return tuple(found)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
