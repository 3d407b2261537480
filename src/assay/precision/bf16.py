"""bfloat16 products in an ONNX file: what Conv, Gemm, MatMul and ConvTranspose multiply is cast to bf16.

Weights are stored as bf16; everything between the products, and inputs and outputs, stay fp32.
bf16 has the range of fp32, so nothing overflows; it has eight bits of significand.  Conv in bf16
exists from opset 22 on, to which older files are converted.

Few runtimes take such a file: OpenVINO does, ONNX Runtime's CPU provider has no bf16 kernels.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.artifact import Artifact
from assay.core.errors import EngineFailed
from assay.core.tensors import DTYPES
from assay.graph.subgraphs import drop_unread_weights, name_nodes
from assay.precision.job import Job, Layer, Lowered, refuse_unknown
from assay.precision.onnx_graph import PRODUCTS, load_source, write_like

if TYPE_CHECKING:
    import onnx

_OPSET = 22


def lower(job: Job) -> Lowered:
    """Raises BadInput for what is no fp32 ONNX file, EngineFailed where it cannot be brought to opset 22."""
    return Bf16Model(job.source, _at_opset(load_source(job.source), job.source.path))


def _at_opset(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    from onnx import version_converter

    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset >= _OPSET or not any(n.op_type in ("Conv", "ConvTranspose") for n in model.graph.node):
        return model
    names = [node.name for node in model.graph.node]
    try:
        converted = version_converter.convert_version(model, _OPSET)
    except Exception as error:  # onnx raises its own C++ exceptions and RuntimeError alike
        raise EngineFailed(
            f"{path} has opset {opset}; Conv in bf16 needs {_OPSET}, and onnx could not convert it: {error}",
            remedy=f"assay export --opset {_OPSET}",
        ) from error
    if [node.name for node in converted.graph.node] != names:
        name_nodes(converted.graph)
    return converted


class Bf16Model:
    def __init__(self, source: Artifact, model: onnx.ModelProto) -> None:
        import onnx

        self._source, self._model = source, model
        self.layers = tuple(Layer(n.name, n.op_type) for n in model.graph.node if n.op_type in PRODUCTS)
        if not self.layers:
            raise EngineFailed(f"{source.path} has no Conv, Gemm or MatMul to convert to bf16")
        self.how: dict[str, Any] = {"library": "assay, with onnx", "version": onnx.__version__, "opset": _OPSET}

    def write(self, path: Path, keep: Collection[str] = ()) -> Artifact:
        import onnx

        refuse_unknown(keep, self.layers)
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        chosen = {layer.name for layer in self.layers} - set(keep)
        _cast_products(model.graph, chosen)
        del model.graph.value_info[:]
        return write_like(model, self._source, path)


def _cast_products(graph: onnx.GraphProto, chosen: Collection[str]) -> None:
    import onnx
    from onnx import helper, numpy_helper

    weights = {t.name: t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    cast: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []

    def lowered(name: str) -> str:
        """``name`` as bf16: a stored weight, or one Cast shared by all who read it."""
        if name not in cast:
            cast[name] = f"{name}/bf16"
            if name in weights:
                array = numpy_helper.to_array(weights[name]).astype(DTYPES["bfloat16"])
                graph.initializer.append(numpy_helper.from_array(array, cast[name]))
            else:
                nodes.append(
                    helper.make_node("Cast", [name], [cast[name]], name=cast[name], to=onnx.TensorProto.BFLOAT16)
                )
        return cast[name]

    for node in list(graph.node):
        if node.name not in chosen:
            nodes.append(node)
            continue
        for index, name in enumerate(node.input):
            if name:
                node.input[index] = lowered(name)
        output = node.output[0]
        node.output[0] = f"{output}/product"
        nodes.append(node)
        back = helper.make_node("Cast", [node.output[0]], [output], name=f"{output}/fp32", to=onnx.TensorProto.FLOAT)
        nodes.append(back)
    del graph.node[:]
    graph.node.extend(nodes)
    drop_unread_weights(graph)
