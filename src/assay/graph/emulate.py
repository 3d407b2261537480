"""A graph that shows on any fp32 engine what a number format must cost.

Every product (Conv, ConvTranspose, MatMul, Gemm) gets its factors rounded to the format and, where one
factor is a weight, their common dim in a random order, which changes nothing but the order of the
sums; for bf16, fp16 and int8 the results of all operators that compute are rounded too.  int8 rounds
activations to 256 steps of the range they have in the batch, and weights per output channel; with even
seeds the range of a factor is the mean of the samples' extremes, as of quantisers that average over their
calibration data, and what lies outside is cut off.  The model's own outputs stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.graph.subgraphs import drop_unread_weights

if TYPE_CHECKING:
    import onnx

FORMATS = ("fp64", "fp32", "tf32", "bf16", "fp16", "int8")
_CASTS = {"bf16": 16, "fp16": 10}
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
_MOVES = frozenset(
    {
        "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Concat", "Split", "Gather", "Identity",
        "Expand", "Pad", "MaxPool", "Relu", "Constant", "Cast", "DepthToSpace", "SpaceToDepth", "Tile", "Shape",
    }
)  # fmt: skip
_FLOAT = 1
_TF32_SPLIT = float(2**13 + 1)


def emulate(model: onnx.ModelProto, precision: str, seed: int) -> onnx.ModelProto:
    """A copy of the fp32 ``model`` (weights in memory) with the rounding of ``precision`` put in.

    Raises BadInput for a precision not in ``FORMATS``, and for bf16 below opset 13, which cannot say it.
    """
    import onnx

    if precision not in FORMATS:
        raise BadInput(f"{precision!r} cannot be emulated; known: {', '.join(FORMATS)}")
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if precision == "bf16" and opset < 13:
        raise BadInput(f"opset {opset} has no bf16 (13 has)")
    copy = onnx.ModelProto()
    needs_types = precision in (*_CASTS, "int8")
    copy.CopyFrom(onnx.shape_inference.infer_shapes(model) if needs_types else model)
    _Emulation(copy, precision, seed, opset).apply()
    return copy


class _Emulation:
    def __init__(self, model: onnx.ModelProto, precision: str, seed: int, opset: int) -> None:
        self._graph = model.graph
        self._precision = precision
        self._rng = np.random.default_rng(seed)
        self._weights = {t.name: t for t in self._graph.initializer if t.data_type == _FLOAT}
        types = [*self._graph.value_info, *self._graph.output]
        self._results = {v.name for v in self._graph.output}
        self._floats = {v.name for v in types if v.type.tensor_type.elem_type == _FLOAT}
        self._nodes: list[onnx.NodeProto] = []
        self._made = 0
        self._opset = opset
        self._rows = _batched_input(model) if precision == "int8" and seed % 2 == 0 else None
        self._varying = _varying(model) if self._rows else set()

    def apply(self) -> None:
        for node in list(self._graph.node):
            if node.op_type in _PRODUCTS and node.domain in ("", "ai.onnx"):
                self._product(node)
            rounded = self._outputs_to_round(node)
            self._nodes.append(node)
            for index in rounded:
                name = node.output[index]
                node.output[index] = f"{name}/exact"
                self._round_result(f"{name}/exact", name)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        drop_unread_weights(self._graph)

    def _outputs_to_round(self, node: onnx.NodeProto) -> list[int]:
        if self._precision not in (*_CASTS, "int8") or node.op_type in _MOVES:
            return []
        if self._precision == "int8" and self._results & set(node.output):
            return []
        return [i for i, name in enumerate(node.output) if name in self._floats]

    def _product(self, node: onnx.NodeProto) -> None:
        import onnx

        found = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        weight = self._weights.get(node.input[1])
        order = None
        if weight is not None:
            array = onnx.numpy_helper.to_array(weight)
            along = _axes(node.op_type, found, array.ndim)
            if along is not None:
                order = self._rng.permutation(array.shape[along[1]])
                array = array.take(order, along[1])
            array = self._round_weight(array, _channel(node.op_type, found, array.ndim))
            node.input[1] = self._constant(array)
            if order is not None and along is not None:
                index = self._constant(order.astype(np.int64))
                node.input[0] = self._node("Gather", [node.input[0], index], axis=along[0])
        else:
            node.input[1] = self._round(node.input[1])
        node.input[0] = self._round(node.input[0])

    def _round(self, name: str) -> str:
        """The activation ``name`` rounded to the format."""
        if self._precision in _CASTS:
            return self._cast_pair(name, self._name())
        if self._precision == "tf32":  # Veltkamp's split keeps the upper 11 bits of the significand
            big = self._node("Mul", [name, self._constant(np.float32(_TF32_SPLIT))])
            return self._node("Sub", [big, self._node("Sub", [big, name])])
        if self._precision == "int8":
            parts = [self._name() for _ in range(3)]
            self._add("DynamicQuantizeLinear", [self._clipped(name)], parts)
            return self._node("DequantizeLinear", parts)
        return name

    def _clipped(self, name: str) -> str:
        """Cut off at the mean of the samples' extremes."""
        if self._rows is None or name not in self._varying:
            return name
        batch = self._node("Gather", [self._node("Shape", [self._rows]), self._constant(np.array([0]))])
        flat = self._node("Reshape", [name, self._node("Concat", [batch, self._constant(np.array([-1]))], axis=0)])
        zero = self._constant(np.float32(0))
        low = self._node("Min", [self._mean_of("ReduceMin", flat), zero])
        high = self._node("Max", [self._mean_of("ReduceMax", flat), zero])
        return self._node("Min", [self._node("Max", [name, low]), high])

    def _mean_of(self, op: str, flat: str) -> str:
        if self._opset >= 18:
            extremes = self._node(op, [flat, self._constant(np.array([1]))], keepdims=0)
        else:
            extremes = self._node(op, [flat], axes=[1], keepdims=0)
        return self._node("ReduceMean", [extremes], keepdims=0)

    def _round_weight(self, array: Array, channel: int) -> Array:
        if self._precision == "bf16":
            return array.astype(ml_dtypes.bfloat16).astype(np.float32)
        if self._precision == "fp16":
            with np.errstate(over="ignore"):
                return array.astype(np.float16).astype(np.float32)
        if self._precision == "tf32":
            big = array * np.float32(_TF32_SPLIT)
            return np.asarray(big - (big - array), np.float32)
        if self._precision == "int8":
            axes = tuple(i for i in range(array.ndim) if i != channel)
            scale = np.maximum(np.abs(array).max(axes, keepdims=True), 1e-30) / 127
            return np.asarray(np.round(array / scale) * scale, np.float32)
        return array

    def _round_result(self, source: str, target: str) -> None:
        if self._precision in _CASTS:
            self._cast_pair(source, target)
            return
        parts = [self._name() for _ in range(3)]
        self._add("DynamicQuantizeLinear", [source], parts)
        self._add("DequantizeLinear", parts, [target])

    def _cast_pair(self, source: str, target: str) -> str:
        middle = self._node("Cast", [source], to=_CASTS[self._precision])
        self._add("Cast", [middle], [target], to=_FLOAT)
        return target

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = self._name()
        self._add(op, inputs, [name], **attributes)
        return name

    def _add(self, op: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        import onnx

        if not self._varying.isdisjoint(inputs):
            self._varying |= set(outputs)
        self._nodes.append(onnx.helper.make_node(op, inputs, outputs, name=f"{outputs[0]}/{op}", **attributes))

    def _constant(self, array: Any) -> str:
        import onnx

        name = self._name()
        whole = np.asarray(array, order="C")  # ascontiguousarray would give a scalar a dim
        self._graph.initializer.append(onnx.numpy_helper.from_array(whole, name))
        return name

    def _name(self) -> str:
        self._made += 1
        return f"emulated/{self._made}"


def _batched_input(model: onnx.ModelProto) -> str | None:
    """The first input, where its first axis is the batch of everything; None for a model of another kind."""
    weights = {t.name for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in weights]
    if not inputs or not inputs[0].type.tensor_type.shape.dim:
        return None
    first = inputs[0].type.tensor_type.shape.dim[0]
    outputs = [v.type.tensor_type.shape.dim for v in model.graph.output]
    alike = all(d and (d[0].dim_param, d[0].dim_value) == (first.dim_param, first.dim_value) for d in outputs)
    return str(inputs[0].name) if alike else None


def _varying(model: onnx.ModelProto) -> set[str]:
    """Tensors that depend on the inputs, and so hold every sample."""
    weights = {t.name for t in model.graph.initializer}
    found = {v.name for v in model.graph.input if v.name not in weights}
    for node in model.graph.node:
        if any(name in found for name in node.input):
            found |= set(node.output)
    return found


def _axes(op: str, attributes: dict[str, Any], ndim: int) -> tuple[int, int] | None:
    """The common dim of activation and weight, as an axis of each; None where it cannot be permuted."""
    if op == "Conv":
        return (1, 1) if attributes.get("group", 1) == 1 else None
    if op == "ConvTranspose":
        return (1, 0) if attributes.get("group", 1) == 1 else None
    if op == "Gemm":
        return (0 if attributes.get("transA", 0) else 1, 1 if attributes.get("transB", 0) else 0)
    return (-1, ndim - 2) if ndim >= 2 else None


def _channel(op: str, attributes: dict[str, Any], ndim: int) -> int:
    """The weight's axis of output channels."""
    if op == "Conv" or (op == "Gemm" and attributes.get("transB", 0)):
        return 0
    return 1 if op == "ConvTranspose" else ndim - 1
