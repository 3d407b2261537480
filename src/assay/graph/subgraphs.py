"""Nodes inside nodes: the bodies of If, Loop and Scan, and of local functions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from assay.core.errors import BadInput

if TYPE_CHECKING:
    import onnx


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs a node holds, in the order of its attributes."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def every_node(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph or a local function, each followed by those of its sub-graphs."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from every_node(inner)


def reads(node: onnx.NodeProto) -> list[str]:
    """What a node needs: its inputs, and what its sub-graphs take from outside."""
    names = [n for n in node.input if n]
    for graph in subgraphs(node):
        own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        for inner in graph.node:
            names += [n for n in reads(inner) if n not in own]
            own |= set(inner.output)
    return names


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model without local functions; ``model`` itself where it has none.

    Raises BadInput for functions that cannot be written out, such as one that calls itself.
    """
    import onnx
    import onnx.inliner  # not imported with onnx

    if not model.functions:
        return model
    try:
        return onnx.inliner.inline_local_functions(model)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise BadInput(f"the local functions of the model cannot be written out: {said}") from None


def name_nodes(graph: onnx.GraphProto) -> None:
    """Nodes without a name, or with one that came before, are called after their first output."""
    seen: set[str] = set()
    for index, node in enumerate(graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{next((name for name in node.output if name), index)}"
        seen.add(node.name)


def drop_unread_weights(graph: onnx.GraphProto) -> None:
    """Remove the initializers that no node, no sub-graph and no output takes."""
    read = {name for node in graph.node for name in reads(node)} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
