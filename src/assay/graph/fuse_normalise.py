"""Normalising made part of an ONNX graph: bytes with channels last go in, where floats with channels first went.

``x / 255``, ``- mean`` and ``/ std`` are three float32 operations in this order, the same that preprocessing has, so an
engine that does them as they stand gives equal bits; one that multiplies by a reciprocal instead differs by a rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import BadInput
from assay.graph.subgraphs import every_node

if TYPE_CHECKING:
    import onnx

_UINT8, _FLOAT, _FLOAT16 = 2, 1, 10


@dataclass(frozen=True)
class Normalise:
    """``mean`` and ``std`` per channel, in units of white = 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def fuse_normalise(model: onnx.ModelProto, normalise: Normalise) -> onnx.ModelProto:
    """A copy whose one input, of the same name, is uint8 (batch, height, width, channels).

    Raises BadInput for a model with several inputs, or whose input is not (batch, channels, height, width) of floats
    with as many channels as there are means.
    """
    import onnx

    fused = onnx.ModelProto()
    fused.CopyFrom(model)
    graph = fused.graph
    given = _only_input(graph)
    kind = given.type.tensor_type.elem_type
    dims = list(given.type.tensor_type.shape.dim)
    channels = len(normalise.mean)
    if kind not in (_FLOAT, _FLOAT16) or len(dims) != 4 or dims[1].dim_value != channels:
        raise BadInput(
            f"input {given.name!r} is not (batch, {channels}, height, width) of float32 or float16, so the normalising "
            "of pictures cannot become part of this graph"
        )
    inside = f"{given.name}/normalised"
    for node in every_node(graph):  # those of sub-graphs too, which see the outer names
        for place, name in enumerate(node.input):
            if name == given.name:
                node.input[place] = inside
    nodes, constants = _steps(given.name, inside, normalise, kind)
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes, *kept])
    graph.initializer.extend(constants)
    tensor = given.type.tensor_type
    tensor.elem_type = _UINT8
    order = [onnx.TensorShapeProto.Dimension() for _ in dims]
    for made, old in zip(order, (dims[0], dims[2], dims[3], dims[1]), strict=True):
        made.CopyFrom(old)
    del tensor.shape.dim[:]
    tensor.shape.dim.extend(order)
    return fused


def _steps(given: str, inside: str, normalise: Normalise, kind: int) -> tuple[list[Any], list[Any]]:
    from onnx import helper, numpy_helper

    def constant(name: str, values: Sequence[float]) -> Any:
        array = np.asarray(values, dtype=np.float32).reshape(1, -1, 1, 1)
        return numpy_helper.from_array(array, f"{given}/{name}")

    constants = [constant("white", [255.0]), constant("mean", normalise.mean), constant("std", normalise.std)]
    names = [f"{given}/{step}" for step in ("planes", "float", "unit", "centred", "scaled")]
    last = names[4] if kind == _FLOAT16 else inside
    nodes = [
        helper.make_node("Transpose", [given], [names[0]], name=names[0], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", [names[0]], [names[1]], name=names[1], to=_FLOAT),
        helper.make_node("Div", [names[1], constants[0].name], [names[2]], name=names[2]),
        helper.make_node("Sub", [names[2], constants[1].name], [names[3]], name=names[3]),
        helper.make_node("Div", [names[3], constants[2].name], [last], name=names[4]),
    ]
    if kind == _FLOAT16:
        nodes.append(helper.make_node("Cast", [last], [inside], name=inside, to=_FLOAT16))
    return nodes, constants


def _only_input(graph: onnx.GraphProto) -> Any:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs)
        raise BadInput(f"the model has {len(inputs)} inputs ({names}); normalising is fused into a model with one")
    return inputs[0]
