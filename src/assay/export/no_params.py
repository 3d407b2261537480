"""``--no-params``: a file without weights, which are then inputs."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from assay.core.tensors import Array

if TYPE_CHECKING:
    import onnx

_SMALL = 8
"""Float constants up to this size that are no parameter (scales of a Resize) stay: engines need them fixed."""


def strip_weights(model: onnx.ModelProto, parameters: Collection[str]) -> dict[str, Array]:
    """Turn every weight of ``model`` into an input and give the weights back, by input name.

    A weight is an initializer named as a parameter, or a float one of more than eight elements (what
    folding made of parameters).
    """
    import onnx

    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
    taken: dict[str, Array] = {}
    kept = []
    present = {v.name for v in model.graph.input}
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if tensor.name in parameters or (tensor.data_type in floats and array.size > _SMALL):
            taken[tensor.name] = array
            if tensor.name not in present:
                value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
                model.graph.input.append(value)
        else:
            kept.append(tensor)
    rest = [onnx.TensorProto.FromString(t.SerializeToString()) for t in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(rest)
    return taken
