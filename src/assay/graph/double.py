"""An ONNX graph in float64: its exact arithmetic, against which rounding is told from error.

The inputs keep their dtypes (a Cast follows each), everything floating after them is float64 and so
are the outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.graph.subgraphs import every_node, inlined, subgraphs

if TYPE_CHECKING:
    import onnx

_FLOATS = frozenset({1, 10, 16})
_DOUBLE = 11
_SIZES = {"Resize": (1, 2), "Upsample": (1,)}
"""Inputs whose type is float32 whatever the data are."""
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


def to_double(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of ``model`` (weights in memory) computing in float64.  Raises BadInput for a quantised one."""
    import onnx

    found = sorted({n.op_type for n in every_node(model.graph) if n.op_type in _QUANTISED})
    if found:
        raise BadInput(f"a quantised graph ({found[0]}) has no float64 form", remedy="give the float model")
    model = inlined(model)
    double = onnx.ModelProto()
    double.CopyFrom(model)
    graph = double.graph
    weights = {t.name for t in graph.initializer}  # which older files list among the inputs too
    floats = [v.name for v in graph.input if v.name not in weights and v.type.tensor_type.elem_type in _FLOATS]
    _convert(graph)
    elements = {t.name: t.data_type for t in graph.initializer}
    for value in graph.input:
        if value.name in weights:
            value.type.tensor_type.elem_type = elements[value.name]
    renamed = {name: f"{name}/double" for name in floats}
    _rename_inputs(graph, renamed)
    casts = [onnx.helper.make_node("Cast", [n], [to], name=f"cast/{n}", to=_DOUBLE) for n, to in renamed.items()]
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return double


def _convert(graph: onnx.GraphProto) -> None:
    sizes = {n.input[i] for n in graph.node for i in _SIZES.get(n.op_type, ()) if i < len(n.input)}
    for tensor in graph.initializer:
        if tensor.name not in sizes:
            _double_tensor(tensor)
    del graph.value_info[:]
    for value in graph.output:
        if value.type.tensor_type.elem_type in _FLOATS:
            value.type.tensor_type.elem_type = _DOUBLE
    for node in graph.node:
        if not (node.op_type == "Constant" and node.output[0] in sizes):
            _convert_node(node)
        for inner in subgraphs(node):
            _convert(inner)
            for value in inner.input:
                if value.type.tensor_type.elem_type in _FLOATS:
                    value.type.tensor_type.elem_type = _DOUBLE


def _convert_node(node: onnx.NodeProto) -> None:
    import onnx

    for attribute in list(node.attribute):
        if attribute.name in ("to", "dtype") and attribute.i in _FLOATS:
            attribute.i = _DOUBLE
        elif attribute.HasField("t"):
            _double_tensor(attribute.t)
        elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            values: Any = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            shape = [] if attribute.name == "value_float" else [len(values)]
            node.attribute.remove(attribute)
            tensor = onnx.helper.make_tensor("value", _DOUBLE, shape, values if shape else [values])
            node.attribute.append(onnx.helper.make_attribute("value", tensor))


def _double_tensor(tensor: onnx.TensorProto) -> None:
    import numpy as np
    import onnx

    if tensor.data_type in _FLOATS:
        array = onnx.numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def _rename_inputs(graph: onnx.GraphProto, renamed: dict[str, str]) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
        for inner in subgraphs(node):
            own = {v.name for v in inner.input} | {o for n in inner.node for o in n.output}
            _rename_inputs(inner, {k: v for k, v in renamed.items() if k not in own})
