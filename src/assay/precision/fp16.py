"""float16 by ONNX Runtime's converter: weights and arithmetic in fp16, inputs and outputs as they were.

Values beyond 65504 are clamped and what is smaller than 6e-8 is rounded up to it; a layer in which
that hurts is one to put back.  The converter itself leaves operators alone that are known to need
range or that runtimes have in fp32 only.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.artifact import Artifact
from assay.core.errors import EngineFailed
from assay.graph.quiet import quiet
from assay.precision.job import Job, Layer, Lowered, refuse_unknown
from assay.precision.onnx_graph import load_source, write_like

if TYPE_CHECKING:
    import onnx

_NO_FLOATS = frozenset({"Constant", "Shape", "Cast", "Identity", "ConstantOfShape", "Range", "Size"})


def lower(job: Job) -> Lowered:
    """Raises BadInput for what is no fp32 ONNX file."""
    return Fp16Model(job.source, load_source(job.source))


class Fp16Model:
    def __init__(self, source: Artifact, model: onnx.ModelProto) -> None:
        import onnxruntime
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST

        self._source, self._model = source, model
        left_alone = _NO_FLOATS | set(DEFAULT_OP_BLOCK_LIST)
        self.layers = tuple(Layer(n.name, n.op_type) for n in model.graph.node if n.op_type not in left_alone)
        if not self.layers:
            raise EngineFailed(f"nothing of {source.path} can be converted to fp16")
        self.how: dict[str, Any] = {"library": "onnxruntime.transformers.float16", "version": onnxruntime.__version__}

    def write(self, path: Path, keep: Collection[str] = ()) -> Artifact:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        refuse_unknown(keep, self.layers)
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        if len(set(keep)) == len(self.layers):
            return write_like(model, self._source, path)  # the converter would still round the inputs
        try:
            with quiet(["onnxruntime"]):
                converted = convert_float_to_float16(model, keep_io_types=True, node_block_list=sorted(keep))
        except Exception as error:  # the library raises whatever its parts raise
            raise EngineFailed(f"onnxruntime could not convert {self._source.path} to fp16: {error}") from error
        return write_like(converted, self._source, path)
