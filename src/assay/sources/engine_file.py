"""Engine files of vendors, ``.plan`` (TensorRT) and ``.om`` (Ascend): used as they are."""

from __future__ import annotations

import json
from pathlib import Path

from assay.core.artifact import file_artifact
from assay.core.errors import BadInput
from assay.core.model import Model
from assay.sources.fetch import check_digests
from assay.sources.inputs import apply_shapes
from assay.sources.options import SourceOptions


def open_tensorrt(spec: str, options: SourceOptions) -> Model:
    """A serialised TensorRT engine.  Only its own runtime can read it, so inputs are not known here."""
    return _open(spec, "tensorrt", options)


def open_ascend(spec: str, options: SourceOptions) -> Model:
    """An Ascend offline model.  Only its own runtime can read it, so inputs are not known here."""
    return _open(spec, "ascend", options)


def _open(spec: str, format: str, options: SourceOptions) -> Model:
    path = Path(spec)
    check_digests(path, options)
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty")
    return Model(
        name=path.stem,
        spec=spec,
        artifact=file_artifact(path, format, built_for=_built_for(path, format)),
        weights=f"in {path.name}",
        inputs=apply_shapes(None, options.shapes),
        runs_code=(str(path),),
    )


def _built_for(path: Path, format: str) -> dict[str, str]:
    """What the note beside the file says it was built for (``assay build`` leaves one); empty without a note on
    this very file."""
    try:
        noted = json.loads(path.with_name("build.json").read_text(encoding="utf-8"))["artifact"]
        same = noted["path"] == path.name and noted["sha256"] == file_artifact(path, format).sha256
        return {str(k): str(v) for k, v in noted["built_for"].items()} if same else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
