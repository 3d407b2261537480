"""A quantised ONNX graph written out in plain arithmetic: what its stored scales say, exactly.

QuantizeLinear becomes ``clip(round(x / scale) + zero_point)`` and DequantizeLinear ``(q - zero_point) * scale`` (ONNX
operator specification, ties to even), all in floating point, so the graph can be run in float64 or with its
sums in another order (graph/arithmetic.py).  The same graph with the rounding left out or made random, its stored
weights moved within their half steps, and the cut at the ends of the ranges left out, tells what its quantisers must
cost, and what they cut off.

A cut at the zero point itself is always kept: quantisers fold a ReLU into it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.graph.subgraphs import drop_unread_weights

if TYPE_CHECKING:
    import onnx

_LIMITS = {"uint8": (0, 255), "int8": (-128, 127), "uint16": (0, 65535), "int16": (-32768, 32767)}
_OTHER = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
_UINT8 = 2
_ROUND, _RANDOM, _NONE = "nearest", "random", "none"


@dataclass(frozen=True)
class Spelling:
    """``rounding`` is ``nearest``, ``random`` (up or down by chance, right on average) or ``none``.  ``cut`` names the
    quantisers (their outputs) that cut off what they cannot hold, None all of them.  ``jitter`` moves what is
    rounded by up to so many steps, ``moved`` every stored weight by up to half a step.  ``watched`` adds two outputs
    per quantiser, see ``watch_names``.  ``only`` names the quantisers to write out, the others and all weights stay as
    they are; None writes out everything.
    """

    rounding: str = _ROUND
    cut: Collection[str] | None = None
    jitter: float = 0.0
    moved: bool = False
    watched: bool = False
    seed: int = 0
    only: Collection[str] | None = None


@dataclass(frozen=True)
class Quantiser:
    """One QuantizeLinear of activations: the tensor it reads, the one it makes, and its node's name."""

    node: str
    source: str
    made: str


def watch_names(quantiser: Quantiser) -> tuple[str, str]:
    """The outputs that say how far the largest value reaches, as a multiple of the range on that side, and the
    share of the values that is cut off."""
    return f"{quantiser.made}/reach", f"{quantiser.made}/cut"


def quantisers_of(model: onnx.ModelProto) -> list[str]:
    """What ``Spelling.only`` may name: the outputs of the QuantizeLinear nodes, in order."""
    return [n.output[0] for n in model.graph.node if n.op_type == "QuantizeLinear"]


def spell_out(model: onnx.ModelProto, how: Spelling) -> tuple[onnx.ModelProto, tuple[Quantiser, ...]]:
    """A copy of ``model`` (weights in memory) without quantised operators, and its quantisers of activations.

    Raises BadInput for quantisation of another kind than Q/DQ pairs of 8 or 16 bits per tensor or per axis.
    """
    import onnx

    other = sorted({n.op_type for n in model.graph.node if n.op_type in _OTHER})
    if other:
        raise BadInput(f"the quantised graph holds {other[0]}; only QuantizeLinear and DequantizeLinear can be read")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    speller = _Speller(copy, how)
    speller.apply()
    return copy, tuple(speller.quantisers)


class _Speller:
    def __init__(self, model: onnx.ModelProto, how: Spelling) -> None:
        import onnx

        self._graph = model.graph
        self._how = how
        self._known = {t.name: t for t in self._graph.initializer}
        for node in self._graph.node:
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self._known[node.output[0]] = node.attribute[0].t
        self._to_array = onnx.numpy_helper.to_array
        self._to_dtype = onnx.helper.tensor_dtype_to_np_dtype
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[str, str] = {}
        self._rng = np.random.default_rng(how.seed)
        self.quantisers: list[Quantiser] = []

    def apply(self) -> None:
        for node in list(self._graph.node):
            if node.op_type == "QuantizeLinear" and self._is_wanted(node.output[0]):
                self._quantise(node)
            elif node.op_type == "DequantizeLinear" and self._is_wanted(node.input[0]):
                self._dequantise(node)
            else:
                self._nodes.append(node)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]  # what was an integer is none any more
        drop_unread_weights(self._graph)

    def _is_wanted(self, quantised: str) -> bool:
        return self._how.only is None or quantised in self._how.only

    def _quantise(self, node: onnx.NodeProto) -> None:
        scale, zero, (low, high) = self._grid(node)
        x, made = node.input[0], node.output[0]
        source = self._known.get(x)
        if source is not None:
            steps = np.clip(np.round(self._to_array(source) / scale) + zero, low, high)
            self._constant(steps.astype(np.float32), made)
            return
        found = Quantiser(node.name or made, x, made)
        self.quantisers.append(found)
        steps = self._add("Div", [x, self._constant(scale)])
        if self._how.watched:
            self._watch(found, steps, (low - zero, high - zero))
        shifted = self._add("Add", [self._rounded(steps), self._constant(zero)])
        bounds = [self._bound(found, low, zero), self._bound(found, high, zero)]
        if bounds == ["", ""]:
            self._add("Identity", [shifted], made)
            return
        self._add("Clip", [shifted, *bounds], made)

    def _bound(self, found: Quantiser, limit: int, zero: Array) -> str:
        """The constant to clip at; none ("") where the cut is left out."""
        at_zero = bool((zero == limit).all())
        if at_zero or self._how.cut is None or found.made in self._how.cut:
            return self._constant(np.float32(limit))
        return ""

    def _rounded(self, steps: str) -> str:
        how = self._how
        if how.rounding == _NONE:
            return steps
        if how.rounding == _RANDOM:
            return self._add("Floor", [self._add("Add", [steps, self._random(steps, 0.0, 1.0)])])
        if how.jitter:
            steps = self._add("Add", [steps, self._random(steps, -how.jitter, how.jitter)])
        return self._add("Round", [steps])

    def _random(self, like: str, low: float, high: float) -> str:
        seed = float(self._rng.integers(1, 2**24))
        return self._add("RandomUniformLike", [like], low=low, high=high, seed=seed, dtype=1)

    def _watch(self, found: Quantiser, steps: str, ends: tuple[Any, Any]) -> None:
        """How far values reach on the side where they reach furthest, and how many are cut off."""
        import onnx

        below, above = (np.asarray(e, np.float32) for e in ends)
        shares, cuts = [], []
        for end, less in ((below, True), (above, False)):
            if (end == 0).all():
                continue
            half = self._constant(np.asarray(end + (-0.5 if less else 0.5), np.float32))
            reached = self._add("Div", [steps, self._constant(np.where(end == 0, 1, end).astype(np.float32))])
            shares.append(self._add("ReduceMax", [reached], keepdims=0))
            outside = self._add("Less" if less else "Greater", [steps, half])
            cuts.append(self._add("ReduceMean", [self._add("Cast", [outside], to=1)], keepdims=0))
        reach, cut = watch_names(found)
        self._add("Max", shares, reach)
        self._add("Sum", cuts, cut)
        for name in (reach, cut):
            self._graph.output.append(onnx.helper.make_tensor_value_info(name, 1, []))

    def _dequantise(self, node: onnx.NodeProto) -> None:
        scale, zero, _ = self._grid(node)
        stored = self._known.get(node.input[0])
        if stored is None:
            shifted = self._add("Sub", [node.input[0], self._constant(zero)])
            self._add("Mul", [shifted, self._constant(scale)], node.output[0])
            return
        steps = self._to_array(stored).astype(np.float64)
        if self._how.moved and steps.ndim > 1:
            steps = steps + self._rng.uniform(-0.5, 0.5, steps.shape)
        self._constant(((steps - zero) * scale.astype(np.float64)).astype(np.float32), node.output[0])

    def _grid(self, node: onnx.NodeProto) -> tuple[Array, Array, tuple[int, int]]:
        """Scale and zero point ready to be broadcast, and the smallest and largest step."""
        found = {a.name: a.i for a in node.attribute}
        names = [n for n in node.input[1:] if n]
        if found.get("block_size") or not names or any(n not in self._known for n in names):
            raise BadInput(f"{node.name or node.output[0]} is quantised in blocks, or its scale is computed")
        scale = self._to_array(self._known[names[0]]).astype(np.float32)
        if len(names) > 1:
            zero = self._to_array(self._known[names[1]])
        else:  # from opset 21 on an attribute may say the type in its place
            zero = np.zeros(scale.shape, self._to_dtype(found.get("output_dtype") or _UINT8))
        limits = _LIMITS.get(str(zero.dtype))
        if limits is None and node.op_type == "QuantizeLinear":
            raise BadInput(f"{node.name or node.output[0]} quantises to {zero.dtype}, not to 8 or 16 bits")
        zero = zero.astype(np.float32)
        if scale.size > 1:
            rank = self._rank(node)
            shape = [1] * rank
            shape[found.get("axis", 1) % rank] = scale.size
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        else:
            scale, zero = scale.reshape(()), zero.reshape(())
        return scale, zero, limits or (0, 0)

    def _rank(self, node: onnx.NodeProto) -> int:
        stored = self._known.get(node.input[0])
        if stored is None:
            raise BadInput(f"{node.name or node.output[0]} quantises an activation per axis")
        return max(1, len(stored.dims))

    def _add(self, op: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        import onnx

        name = output or self._name()
        self._nodes.append(onnx.helper.make_node(op, inputs, [name], name=f"{name}/{op}", **attributes))
        return name

    def _constant(self, array: Any, name: str = "") -> str:
        import onnx

        array = np.asarray(array)
        key = f"{array.dtype}{array.shape}{array.tobytes().hex()}" if array.size == 1 and not name else ""
        if key and key in self._made:
            return self._made[key]
        name = name or self._name()
        self._graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        if key:
            self._made[key] = name
        return name

    def _name(self) -> str:
        return f"spelled/{len(self._nodes)}/{len(self._graph.initializer)}"
