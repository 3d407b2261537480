"""TorchScript files: used as they are; the graph says types, the shapes come from ``--shape``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.core.artifact import file_artifact
from assay.core.errors import BadInput
from assay.core.model import Model
from assay.sources.arguments import first_line
from assay.sources.checkpoint import model_name
from assay.sources.fetch import check_digests
from assay.sources.inputs import apply_shapes, probe
from assay.sources.options import SourceOptions


def open_source(spec: str, options: SourceOptions) -> Model:
    """Load the module; inputs have ``forward``'s names.  Raises BadInput for a damaged file, for shapes
    whose number does not fit ``forward``, or that it refuses."""
    path = Path(spec)
    check_digests(path, options)
    module = _load(path)
    inputs = None
    if options.shapes:
        names, needed = _parameters(module)
        if not needed <= len(options.shapes) <= len(names):
            raise BadInput(
                f"{path} takes {len(names)} inputs ({', '.join(names)}); {len(options.shapes)} shapes were given",
                remedy="give one --shape per input, in that order",
            )
        inputs = apply_shapes(None, options.shapes, names)
        assert inputs is not None
        probe(module, inputs, str(path))
    artifact = replace(file_artifact(path, "torchscript"), module=lambda: module)
    return Model(
        name=model_name(path),
        spec=spec,
        artifact=artifact,
        weights=f"in {path.name}",
        inputs=inputs,
        runs_code=(str(path),),
    )


def _load(path: Path) -> Any:
    import torch

    try:
        return torch.jit.load(str(path), map_location="cpu").eval()
    except Exception as error:
        raise BadInput(f"{path} is not a readable TorchScript file: {first_line(error)}") from error


def _parameters(module: Any) -> tuple[list[str], int]:
    """Names of ``forward``'s parameters, and how many of them have no default."""
    arguments = module.forward.schema.arguments[1:]
    return [a.name for a in arguments], sum(not a.has_default_value() for a in arguments)
