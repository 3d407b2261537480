"""Which precision OpenVINO really used: its execution graph, joined with the source model's MACs.

The execution graph says for every kernel the precision it ran in and the names of the source
operators it stands for; the source model, with every dim made a number, says how many
multiply-accumulates each of those is.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from assay.core.engine import Attestation
from assay.core.tensors import Signature
from assay.engines.base import NoSizeFits, try_feeds
from assay.engines.macs import Ran, matmul_macs, shares

_PRECISION = {"f64": "fp64", "f32": "fp32", "bf16": "bf16", "f16": "fp16", "i8": "int8", "u8": "int8"}
_UNKNOWN = "unknown"
_KERNELS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
_HOPS = 4
_HOW = "execution graph"


@dataclass(frozen=True)
class MacTable:
    """MACs per operator of the source model, by friendly name.

    ``followed_by`` holds the operators behind each, nearest first: a bias addition that was
    fused into a product may be the only name the execution graph gives for both.  ``untold`` says why nothing could be
    counted.
    """

    macs: dict[str, int]
    followed_by: dict[str, tuple[str, ...]]
    untold: str | None = None


def mac_table(model: Any, signature: Signature) -> MacTable:
    """Counted on a copy of ``model`` whose free dims are given sizes; the weights are shared, not copied."""
    if not _products(model):
        return MacTable({}, {})
    followed_by = {op.get_friendly_name(): _followers(op) for op in _products(model)}
    if not model.is_dynamic():
        return MacTable(_counted(model), followed_by)

    def count(feed: dict[str, Any]) -> dict[str, int]:
        fixed = model.clone()
        ports = fixed.inputs
        fixed.reshape({ports[i]: list(feed[s.name].shape) for i, s in enumerate(signature.inputs)})
        return _counted(fixed)

    try:
        counted: dict[str, int] = try_feeds(signature, count)
    except NoSizeFits as error:
        return MacTable({}, {}, error.message)
    return MacTable(counted, followed_by)


def attest_compiled(compiled: Any, table: MacTable, provider: str) -> Attestation:
    """Operators no kernel claims count as run in an ``unknown`` precision, never as run well."""
    if table.untold is not None:
        return Attestation({}, how=_HOW, untold=table.untold)
    kernels: dict[str, tuple[str, str]] = {}
    for kernel in compiled.get_runtime_model().get_ops():
        info = kernel.get_rt_info()
        if "runtimePrecision" not in info or "originalLayersNames" not in info:
            continue
        precision = info["runtimePrecision"].astype(str)
        found = (info["layerType"].astype(str), _PRECISION.get(precision, precision))
        for name in (kernel.get_friendly_name(), *info["originalLayersNames"].astype(str).split(",")):
            kernels.setdefault(name, found)
    ran: list[Ran] = [(provider, _ran_in(name, table, kernels), macs) for name, macs in table.macs.items()]
    return Attestation(shares(ran), how=_HOW)


def _ran_in(name: str, table: MacTable, kernels: dict[str, tuple[str, str]]) -> str:
    if name in kernels:
        return kernels[name][1]
    for follower in table.followed_by[name]:
        layer, precision = kernels.get(follower, ("", ""))
        if layer in _KERNELS:
            return precision
    return _UNKNOWN


def _followers(op: Any) -> tuple[str, ...]:
    """The operators behind ``op`` along the path where each has one consumer."""
    names: list[str] = []
    while len(names) < _HOPS:
        targets = op.output(0).get_target_inputs()
        if len(targets) != 1:
            break
        op = next(iter(targets)).get_node()
        names.append(op.get_friendly_name())
    return tuple(names)


def _products(model: Any) -> list[Any]:
    return [op for op in model.get_ops() if op.get_type_name() in _COUNT]


def _counted(model: Any) -> dict[str, int]:
    """Products of constants alone are folded when compiling and never run."""
    varying = _varying(model)
    return {
        op.get_friendly_name(): _COUNT[op.get_type_name()](op)
        for op in _products(model)
        if op.get_friendly_name() in varying
    }


def _varying(model: Any) -> set[str]:
    """Names of the operators that depend on an input."""
    found: set[str] = set()
    for op in model.get_ordered_ops():
        sources = [value.get_source_output().get_node().get_friendly_name() for value in op.inputs()]
        if op.get_type_name() == "Parameter" or any(name in found for name in sources):
            found.add(op.get_friendly_name())
    return found


def _shape(port: Any) -> tuple[int, ...]:
    return tuple(port.get_shape())


def _convolution(op: Any) -> int:
    """Weight (out, in, *kernel)."""
    return prod(_shape(op.output(0))) * prod(_shape(op.input(1))[1:])


def _group_convolution(op: Any) -> int:
    """Weight (groups, out / groups, in / groups, *kernel)."""
    return prod(_shape(op.output(0))) * prod(_shape(op.input(1))[2:])


def _transposed(op: Any) -> int:
    """Weight (in, out, *kernel)."""
    return prod(_shape(op.input(0))) * prod(_shape(op.input(1))[1:])


def _group_transposed(op: Any) -> int:
    """Weight (groups, in / groups, out / groups, *kernel)."""
    return prod(_shape(op.input(0))) * prod(_shape(op.input(1))[2:])


def _matmul(op: Any) -> int:
    return matmul_macs(_shape(op.input(0)), _shape(op.output(0)), _shape(op.input(1)))


def _recurrent(op: Any) -> int:
    """Data (batch, steps, features); W and R are the two three-dimensional constants behind the lengths."""
    batch, steps, _ = _shape(op.input(0))
    weights = [_shape(value) for value in op.inputs()[-3:-1]]
    return batch * steps * sum(prod(shape) for shape in weights)


def _attention(op: Any) -> int:
    query, key, value = (_shape(op.input(i)) for i in range(3))
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


_COUNT = {
    "Convolution": _convolution,
    "GroupConvolution": _group_convolution,
    "ConvolutionBackpropData": _transposed,
    "GroupConvolutionBackpropData": _group_transposed,
    "MatMul": _matmul,
    "LSTMSequence": _recurrent,
    "GRUSequence": _recurrent,
    "RNNSequence": _recurrent,
    "ScaledDotProductAttention": _attention,
}
