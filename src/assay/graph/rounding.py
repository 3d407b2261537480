"""How many rounding layers lie between input and output: tolerances are derived from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.graph.signature import load_model
from assay.graph.subgraphs import subgraphs

if TYPE_CHECKING:
    import onnx

ROUNDING_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def rounding_depth(path: Path) -> int:
    """Conv, ConvTranspose, Gemm and MatMul nodes on the longest path through the graph.

    A node with sub-graphs (If, Loop, Scan) counts with the deepest of them, a loop's body once.  Raises BadInput
    for a file that is not ONNX.
    """
    return rounding_depth_of(load_model(path))


def rounding_depth_of(model: onnx.ModelProto) -> int:
    """The same for a parsed model; a call of a local function counts with the function's depth."""
    functions = {(f.domain, f.name): f for f in model.functions}
    known: dict[tuple[str, str], int] = {}

    def of_function(key: tuple[str, str]) -> int:
        if key not in known:
            known[key] = 0  # ONNX functions cannot recurse; a malformed one must not loop here
            known[key] = of_nodes(functions[key].node, {})
        return known[key]

    def of_nodes(nodes: Iterable[onnx.NodeProto], outer: Mapping[str, int]) -> int:
        """The largest depth reached; ``outer`` holds the depth of names from outside."""
        depth = dict(outer)
        deepest = 0
        for node in nodes:
            before = max((depth.get(n, 0) for n in node.input), default=0)
            here = before + int(node.op_type in ROUNDING_OPS)
            if (node.domain, node.op_type) in functions:
                here = before + of_function((node.domain, node.op_type))
            for graph in subgraphs(node):
                formal = dict.fromkeys((v.name for v in graph.input), before)
                here = max(here, of_nodes(graph.node, {**depth, **formal}))
            for name in node.output:
                depth[name] = here
            deepest = max(deepest, here)
        return deepest

    return of_nodes(model.graph.node, {})
