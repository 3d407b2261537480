"""Multiply-accumulates of Conv, ConvTranspose, Gemm and MatMul from inferred shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from assay.core.tensors import Signature
from assay.graph.rounding import ROUNDING_OPS
from assay.graph.subgraphs import subgraphs

if TYPE_CHECKING:
    import onnx

Shapes = dict[str, tuple[int | None, ...]]


def inferred_shapes(model: onnx.ModelProto, signature: Signature, sizes: Mapping[str, int]) -> Shapes:
    """Shape of every tensor by name with the free dims set to ``sizes``; None where still unknown."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    specs = {s.name: s for s in signature.inputs}
    for value in fixed.graph.input:
        if value.name in specs:
            for dim, name in zip(value.type.tensor_type.shape.dim, specs[value.name].shape, strict=True):
                if isinstance(name, str) and name in sizes:
                    dim.Clear()
                    dim.dim_value = sizes[name]
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    known: Shapes = {t.name: tuple(t.dims) for t in fixed.graph.initializer}
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError, RuntimeError):
        return known  # too large to serialise, or operators unknown here: MACs are then reported unknown
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
            dims = value.type.tensor_type.shape.dim
            known.setdefault(value.name, tuple(d.dim_value if d.HasField("dim_value") else None for d in dims))
    return known


def count_macs(model: onnx.ModelProto, shapes: Shapes) -> tuple[int | None, dict[str, int], str | None]:
    """Total, MACs per node (by first output's name), and why the total is unknown when it is None.

    Conv: output elements x weight elements per output channel.  ConvTranspose: input elements x
    weight elements per input channel.  Gemm, MatMul: output elements x the contracted size.
    """
    if model.functions:
        return None, {}, "the model has local functions, whose bodies are not counted"
    per_node: dict[str, int] = {}
    unknown = []
    for node in model.graph.node:
        if any(subgraphs(node)):
            unknown.append(f"how often the sub-graphs of {node.op_type} run is only known at run time")
        if node.op_type not in ROUNDING_OPS or node.domain not in ("", "ai.onnx"):
            continue
        macs = _node_macs(node, shapes)
        if macs is None:
            unknown.append(
                f"the shapes at {node.op_type} {node.name or ''.join(node.output[:1])} could not be inferred"
            )
        else:
            per_node[node.output[0]] = macs
    if unknown:
        more = f" ({len(unknown) - 1} more nodes are not counted)" if len(unknown) > 1 else ""
        return None, per_node, f"{unknown[0]}{more}"
    return sum(per_node.values()), per_node, None


def _node_macs(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    if len(node.input) < 2 or not node.output:
        return None
    first, second, out = (shapes.get(n) for n in (node.input[0], node.input[1], node.output[0]))
    if not first or not second or out is None:
        return None
    if node.op_type == "Conv":
        return _product(*out, *second[1:])
    if node.op_type == "ConvTranspose":
        return _product(*first, *second[1:])
    if node.op_type == "MatMul":
        return _product(*out, first[-1])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return _product(*out, first[0 if transposed else -1])


def _product(*dims: int | None) -> int | None:
    return None if any(d is None for d in dims) else math.prod(d for d in dims if d is not None)
