"""What the methods for ONNX files share: names, who makes what, and clearing away what is unused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.artifact import Artifact
from assay.core.errors import BadInput, EngineFailed
from assay.graph.check import problems
from assay.graph.external_data import onnx_artifact, save_model
from assay.graph.signature import load_model, read_signature, signature_of, store_batch_axes
from assay.graph.subgraphs import name_nodes, reads

if TYPE_CHECKING:
    import onnx

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def load_source(artifact: Artifact) -> onnx.ModelProto:
    """The model with its weights, every node having a name of its own.  Raises BadInput for what is no fp32 ONNX."""
    if artifact.format != "onnx":
        raise BadInput(f"{artifact.path} is {artifact.format}; this method reads onnx")
    model = load_model(artifact.path, external_data=True)
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise BadInput(f"{artifact.path} is quantised already", remedy="give the fp32 file it was made from")
    _refuse_other_floats(model, artifact.path)
    if model.functions:
        raise BadInput(f"{artifact.path} has local functions", remedy="inline them first: onnx.inliner")
    name_nodes(model.graph)
    return model


def _refuse_other_floats(model: onnx.ModelProto, path: Path) -> None:
    """Raises BadInput where the weights of the products are all of another float format than fp32."""
    import onnx

    fp32, others = onnx.TensorProto.FLOAT, {11: "fp64", 10: "fp16", 16: "bf16"}
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    read = {name for node in model.graph.node if node.op_type in PRODUCTS for name in node.input[:2]}
    found = {kinds[name] for name in read & set(kinds)}
    if fp32 not in found and found & set(others):
        written = " and ".join(sorted(others[kind] for kind in found & set(others)))
        raise BadInput(f"{path} is written in {written}", remedy="give the fp32 file it was made from")


def makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each tensor, by tensor name."""
    return {name: node for node in model.graph.node for name in node.output if name}


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Initializers, and Constant nodes that hold a tensor, by the name of what they give."""
    found = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = attribute.t
    return found


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes that lead to no output, initializers nobody reads, and the types noted for tensors that are gone."""
    graph = model.graph
    made_by = makers(model)
    needed: set[str] = set()
    waiting = [value.name for value in graph.output]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in made_by:
            waiting += reads(made_by[name])
    nodes = [node for node in graph.node if any(name in needed for name in node.output)]
    del graph.node[:]
    graph.node.extend(nodes)
    weights = [t for t in graph.initializer if t.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(weights)
    noted = [value for value in graph.value_info if value.name in needed]
    del graph.value_info[:]
    graph.value_info.extend(noted)


def put_in_order(graph: onnx.GraphProto) -> None:
    """Nodes so that each comes after what it reads, as ONNX wants it; otherwise in the order they had.

    Raises BadInput for nodes that wait for each other.
    """
    nodes = list(graph.node)
    made_by = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    placed: set[int] = set()
    begun: set[int] = set()
    ordered: list[onnx.NodeProto] = []
    for start in range(len(nodes)):
        waiting = [start]
        while waiting:
            index = waiting[-1]
            before = [made_by[n] for n in reads(nodes[index]) if n in made_by]
            before = [] if index in placed else [b for b in before if b not in placed]
            if before and index in begun:
                raise BadInput(f"the node {nodes[index].name!r} needs its own result: the graph goes round in a circle")
            if before:
                begun.add(index)
                waiting += before
                continue
            waiting.pop()
            if index not in placed:
                placed.add(index)
                ordered.append(nodes[index])
    del graph.node[:]
    graph.node.extend(ordered)


def write_like(model: onnx.ModelProto, source: Artifact, path: Path) -> Artifact:
    """Save ``model``, its nodes in order; raises EngineFailed where its inputs, outputs or batch axes are not
    those of ``source`` or the checker objects to it."""
    put_in_order(model.graph)
    expected = read_signature(source.path)
    store_batch_axes(model, expected)
    found = signature_of(model)
    if (found.inputs, found.output_names) != (expected.inputs, expected.output_names) or [
        o.dtype for o in found.outputs
    ] != [o.dtype for o in expected.outputs]:
        raise EngineFailed(f"the conversion changed what goes in or out: {found}; expected {expected}")
    save_model(model, path)
    objections = problems(path)
    if objections:
        raise EngineFailed(f"the converted {path} is not well formed: {objections[0]}")
    return onnx_artifact(path, parents=(source.sha256,))
