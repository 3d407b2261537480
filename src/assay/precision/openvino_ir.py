"""A quantised OpenVINO IR whose layers can be put back: the quantiser is run again without them.

The library offers no way to rewire a graph around a layer as ``qdq`` does for ONNX, so every file
costs one quantisation.  Quantising the ONNX file and building the IR from that gives the same
kernels and is quicker under accuracy control.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from assay.core.artifact import Artifact, file_artifact
from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.telemetry import import_untold
from assay.precision.job import Layer, refuse_unknown

_MARKS = frozenset({"FakeQuantize", "FakeConvert"})
_MOVES = frozenset(
    {
        "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "StridedSlice", "Slice", "Concat", "Split",
        "VariadicSplit", "Gather", "Broadcast", "DepthToSpace", "SpaceToDepth", "Pad", "Relu", "Clamp",
    }
)  # fmt: skip
_HOPS = 6


def _library() -> Any:
    try:
        return import_untold("openvino")
    except ImportError:
        raise NotAvailable("openvino is not installed", remedy="pip install 'assay[openvino]'") from None


def read_ir(path: Path) -> Any:
    """The model, which must not be quantised yet.  Raises BadInput for what is no IR."""
    try:
        model = _library().Core().read_model(str(path))
    except RuntimeError as error:
        raise BadInput(f"{path} is not an OpenVINO IR: {str(error).strip().splitlines()[-1]}") from None
    if any(op.get_type_name() in _MARKS for op in model.get_ops()):
        raise BadInput(f"{path} is quantised already", remedy="give the fp32 file it was made from")
    return model


def ir_precision(path: Path) -> str:
    """What an IR opens as: int8 where anything in it is quantised, else fp32."""
    text = path.read_text(errors="replace")
    return "int8" if any(f'type="{mark}"' in text for mark in _MARKS) else "fp32"


class IrModel:
    """See ``precision.job.Lowered``.  ``quantise(names)`` gives the model with those operators left alone."""

    def __init__(self, source: Artifact, quantise: Callable[[tuple[str, ...]], Any], how: dict[str, Any]) -> None:
        self.how = how
        self._source, self._quantise = source, quantise
        self._whole = quantise(())
        known = {op.get_friendly_name() for op in read_ir(source.path).get_ops()}
        self.layers = tuple(
            Layer(op.get_friendly_name(), op.get_type_name())
            for op in self._whole.get_ordered_ops()
            if op.get_friendly_name() in known and op.get_type_name() not in _MOVES and _reads_quantised(op)
        )
        if not self.layers:
            raise EngineFailed(f"nothing of {source.path} was quantised ({how.get('library')})")

    def write(self, path: Path, keep: Collection[str] = ()) -> Artifact:
        refuse_unknown(keep, self.layers)
        model = self._quantise(tuple(sorted(keep))) if keep else self._whole
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"part-of-{path.name}")
        _library().save_model(model, str(part), compress_to_fp16=False)
        part.with_suffix(".bin").replace(path.with_suffix(".bin"))
        part.replace(path)
        return file_artifact(
            path,
            "openvino",
            parents=(self._source.sha256,),
            companions=(path.with_suffix(".bin"),),
            built_for=dict(self._source.built_for),
        )


def _reads_quantised(op: Any) -> bool:
    """Whether an input comes from a FakeQuantize, possibly through operators that only move values."""
    return any(_is_quantised(value.get_source_output().get_node(), _HOPS) for value in op.inputs())


def _is_quantised(node: Any, hops: int) -> bool:
    if node.get_type_name() in _MARKS:
        return True
    if not hops or node.get_type_name() not in _MOVES:
        return False
    return any(_is_quantised(value.get_source_output().get_node(), hops - 1) for value in node.inputs())
