"""In which precision an ONNX graph is written: the dtype its products multiply."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_INTEGER = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "QGemm", "DynamicQuantizeMatMul"})
_FLOAT = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "FusedConv", "FusedMatMul", "LSTM", "GRU", "RNN"})
_NAMES = {1: "fp32", 10: "fp16", 11: "fp64", 16: "bf16"}
_COARSEST_FIRST = ("int8", "bf16", "fp16", "fp32", "fp64")


def graph_precision(model: onnx.ModelProto) -> str:
    """The coarsest precision any product is done in; ``fp32`` for a graph without any.

    A file some of whose layers were put back to a higher precision is still a file of the lower
    one: that decides its error.  How much of it ran so is for ``attest()`` to say.  A product whose operands both
    come from DequantizeLinear is int8.  Weights kept in companion files need not be loaded.
    """
    graph = model.graph
    dtypes = _dtypes(model)
    made_by = {name: node for node in graph.node for name in node.output}
    found: set[str] = set()
    for node in graph.node:
        if node.op_type in _INTEGER:
            precision = "int8"
        elif node.op_type in _FLOAT:
            makers = [made_by.get(name) for name in node.input[:2]]
            dequantised = all(m is not None and m.op_type == "DequantizeLinear" for m in makers)
            known = [_NAMES[dtypes[name]] for name in node.input[:2] if dtypes.get(name) in _NAMES]
            precision = "int8" if dequantised else (known or ["fp32"])[0]  # an unknown dtype is fp32's by default
        else:
            continue
        found.add(precision)
    return next((name for name in _COARSEST_FIRST if name in found), "fp32")


def _dtypes(model: onnx.ModelProto) -> dict[str, int]:
    """Element type of every tensor that can be known, by name."""
    graph = model.graph
    found = {t.name: t.data_type for t in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.HasField("tensor_type"):
            found.setdefault(value.name, value.type.tensor_type.elem_type)
    for node in graph.node:  # casts and constants settle what the file leaves open, without shape inference
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to":
                found.setdefault(node.output[0], attribute.i)
            if node.op_type == "Constant" and attribute.name == "value":
                found.setdefault(node.output[0], attribute.t.data_type)
        if node.output and node.output[0] not in found:
            floats = [found[n] for n in node.input if found.get(n) in _NAMES]
            if floats:
                found[node.output[0]] = floats[0]
    return found
