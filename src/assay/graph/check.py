"""Is an ONNX file well formed?  The checker and strict shape inference, on paths so that size does not matter."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from assay.graph.signature import load_model

if TYPE_CHECKING:
    import onnx


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


def misdeclared(model: onnx.ModelProto) -> tuple[str, ...]:
    """Outputs whose declared shape is not what the graph gives: another rank, or another fixed size; one line each.

    Runtimes run such a file and return the graph's shape, so what is planned from the declared one is wrong.
    Empty too where shapes cannot be inferred.
    """
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError):
        return ()
    found = []
    for declared, made in zip(model.graph.output, inferred.graph.output, strict=True):
        said, is_ = _dims(declared), _dims(made)
        if said is None or is_ is None or (len(said) == len(is_) and not _contradict(said, is_)):
            continue
        what = f"of rank {len(said)}" if len(said) != len(is_) else "of another size"
        found.append(
            f"output {declared.name!r} is declared {what}, {_shown(said)}; the graph gives {_shown(is_)}: "
            "export it again, or correct the declaration"
        )
    return tuple(found)


def _dims(value: onnx.ValueInfoProto) -> tuple[int | str, ...] | None:
    """Sizes and names; None where no shape is stated.  Older exporters write a free size as -1 or 0."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim)


def _contradict(a: tuple[int | str, ...], b: tuple[int | str, ...]) -> bool:
    return any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a, b, strict=True))


def _shown(dims: tuple[int | str, ...]) -> str:
    return "x".join(map(str, dims)) or "a scalar"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:400]
