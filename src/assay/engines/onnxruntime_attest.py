"""Which provider and precision ONNX Runtime really used: a twin session's own profile.

The twin is opened with the same options and profiling on.  The profile gives, for every
node that ran, the operator (after fusion), the provider, and the dtypes and shapes that went
in and came out.  Weights a kernel packed for itself are missing there; only then a second
twin with packing off is asked for their shapes, by node name.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from assay.core.engine import Attestation
from assay.core.errors import EngineFailed
from assay.engines.macs import Ran, conv_macs, matmul_macs, recurrent_macs, shares, transposed_conv_macs

_PRECISION = {"double": "fp64", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}
_CONV = frozenset({"Conv", "FusedConv", "NhwcFusedConv", "NhwcConv", "ConvInteger"})
_PRODUCTS = frozenset(
    {
        "Gemm",
        "FusedGemm",
        "GemmFloat8",
        "MatMul",
        "FusedMatMul",
        "FusedMatMulActivation",
        "TransposeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "GemmFastGelu",
    }
)
_RECURRENT = frozenset({"LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"})
_WHOLE_NUMBER = frozenset({"DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
"""Operators that quantise their float input inside: what they multiply is int8."""


@dataclass(frozen=True)
class TwinPlan:
    """``opened(profile prefix, extra session entries)`` and ``ran(session)``; ``float32`` is what a float is here."""

    opened: Callable[[str | None, dict[str, str]], Any]
    ran: Callable[[Any], None]
    float32: str = "fp32"


@dataclass(frozen=True)
class _Node:
    name: str
    op: str
    provider: str
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def given(self) -> tuple[int, ...]:
        return self.inputs[0][1]

    @property
    def output(self) -> tuple[int, ...]:
        return self.outputs[0][1]


def attest_twin(plan: TwinPlan) -> Attestation:
    """Raises EngineFailed when the profile holds no node at all."""
    nodes = _profile(plan, {})
    if not nodes:
        raise EngineFailed("onnxruntime's profile holds no node: what ran could not be read")
    if any(_macs(node) is None for node in nodes):
        unpacked = {n.name: n for n in _profile(plan, {"session.disable_prepacking": "1"})}
        nodes = [_with_weights(n, unpacked.get(n.name)) for n in nodes]
    ran: list[Ran] = []
    for node in nodes:
        macs = _macs(node)
        if macs is None:
            raise EngineFailed(f"onnxruntime's profile does not tell the weights of {node.op} {node.name!r}")
        if macs:
            ran.append((node.provider, _precision(node, plan.float32), macs))
    placed = Counter(node.provider for node in nodes)
    where = ", ".join(f"{count} on {provider}" for provider, count in sorted(placed.items()))
    return Attestation(shares(ran), how=f"profile of a session with the same options; nodes: {where}")


def _with_weights(node: _Node, unpacked: _Node | None) -> _Node:
    """The shapes of the unpacked twin, the provider and the first input's dtype of the real one."""
    if unpacked is None or unpacked.op != node.op or _macs(node) is not None:
        return node
    return _Node(node.name, node.op, node.provider, unpacked.inputs, node.outputs)


def _profile(plan: TwinPlan, entries: dict[str, str]) -> list[_Node]:
    with tempfile.TemporaryDirectory(prefix="assay-attest-") as folder:
        session = plan.opened(str(Path(folder, "profile")), entries)
        plan.ran(session)
        events = json.loads(Path(session.end_profiling()).read_text())
    return list({node.name: node for event in events if (node := _node(event)) is not None}.values())


def _node(event: dict[str, Any]) -> _Node | None:
    args = event.get("args") or {}
    if event.get("cat") != "Node" or not event.get("name", "").endswith("_kernel_time") or "op_name" not in args:
        return None
    return _Node(
        event["name"].removesuffix("_kernel_time"),
        args["op_name"],
        args.get("provider", ""),
        _tensors(args.get("input_type_shape", [])),
        _tensors(args.get("output_type_shape", [])),
    )


def _tensors(rows: list[dict[str, list[int]]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple((dtype, tuple(shape)) for row in rows for dtype, shape in row.items())


def _macs(node: _Node) -> int | None:
    """0 for an operator that multiplies nothing, None where the profile lacks the weights' shape."""
    op = node.op
    if not node.inputs or not node.outputs:
        return 0
    if op in _PRODUCTS:
        # A vector on the right lowers the rank; where it does not, it is the bias behind a packed weight.
        vector = len(node.inputs) > 1 and len(node.inputs[1][1]) == 1 and len(node.output) < len(node.given)
        return matmul_macs(node.given, node.output, node.inputs[1][1] if vector else None)
    if op in _CONV or op in ("ConvTranspose", "QLinearConv"):
        weight = _weight(node)
        if weight is None:
            return None
        return transposed_conv_macs(weight, node.given) if op == "ConvTranspose" else conv_macs(weight, node.output)
    if op == "QLinearMatMul" or op == "QGemm":
        return matmul_macs(node.given, node.output)
    if op in _RECURRENT:
        weights = [shape for _, shape in node.inputs[1:] if len(shape) == 3]
        return recurrent_macs(node.given, weights[0], weights[1]) if len(weights) > 1 else None
    if op in ("Attention", "MultiHeadAttention"):
        return _attention(node)
    return 0


def _weight(node: _Node) -> tuple[int, ...] | None:
    """A convolution's weight has its input's rank; it comes after the input, scales and zero points aside."""
    fitting = [shape for _, shape in node.inputs[1:] if len(shape) == len(node.given)]
    return fitting[0] if fitting else None


def _attention(node: _Node) -> int | None:
    """Queries times keys and weights times values; ``Attention`` multiplies the input's projections too."""
    batch, length, width = node.given if len(node.given) == 3 else (0, 0, 0)
    if node.op == "MultiHeadAttention":
        keys = node.inputs[1][1] if len(node.inputs) > 1 else node.given
        return 2 * batch * length * keys[-2] * width
    matrices = [shape for _, shape in node.inputs[1:] if len(shape) == 2 and shape[0] == width]
    if not matrices:
        return None
    return batch * length * prod(matrices[0]) + 2 * batch * length * length * node.output[-1]


def _precision(node: _Node, float32: str) -> str:
    dtype = node.inputs[0][0]
    if node.op in _WHOLE_NUMBER:
        return "int8"
    return float32 if dtype == "float" else _PRECISION.get(dtype, dtype)
