"""ONNX files, with the files their large tensors lie in."""

from __future__ import annotations

from pathlib import Path

from assay.core.errors import BadInput
from assay.core.model import Model
from assay.graph.external_data import onnx_artifact
from assay.graph.signature import read_signature
from assay.sources.arguments import first_line
from assay.sources.fetch import check_digests
from assay.sources.inputs import fit_shapes
from assay.sources.options import SourceOptions


def open_source(spec: str, options: SourceOptions) -> Model:
    """Check the file and what lies beside it; inputs come from its graph.

    Raises BadInput for a file that is damaged, cut short or no ONNX, and for tensor data that is
    missing, too short, or said to lie outside the model's folder; SignatureMismatch for a
    ``--shape`` that does not fit.
    """
    path = Path(spec)
    check_digests(path, options)
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty")
    signature = read_signature(path)
    artifact = onnx_artifact(path)
    _check(path)
    return Model(
        name=path.stem,
        spec=spec,
        artifact=artifact,
        weights=f"in {path.name}",
        inputs=fit_shapes(signature.inputs, options.shapes),
    )


def _check(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"{path} does not pass the ONNX checker: {first_line(error)}",
            remedy="it may be cut short, or written for a newer ONNX than the one installed here",
        ) from error
