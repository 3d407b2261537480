"""Which precision eager PyTorch really computed in: every dispatched operator of one run, counted."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from assay.core.engine import Attestation
from assay.engines.macs import Ran, conv_macs, matmul_macs, shares, transposed_conv_macs

_PRECISION = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "int8": "int8"}
_HOW = "operators dispatched in one run"


def attest_call(call: Callable[[], Any], device: str) -> Attestation:
    """Run ``call`` under a dispatch mode; every product it does is counted with its dtype.

    A composite operator (``linear``, ``conv2d``) is taken apart until a counted one appears,
    since in inference mode it would otherwise reach the mode whole.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    ran: list[Ran] = []

    class Counter(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func._overloadpacket.__name__
            if name not in _COUNTED and func is not torch.ops.prim.device.default:
                with self:
                    parts = func.decompose(*args, **(kwargs or {}))
                    if parts is not NotImplemented:
                        return parts
            result = func(*args, **(kwargs or {}))
            if name in _COUNTED:
                first = result[0] if isinstance(result, tuple) else result
                precision = _precision(args, first.device.type, "conv" in name)
                ran.append((f"torch:{first.device.type}", precision, _COUNTED[name](args, first)))
            return result

    with Counter():
        call()
    return Attestation(shares(ran), how=f"{_HOW} on {device}")


def _precision(args: Any, device: str, convolution: bool) -> str:
    """The dtype multiplied, unless this process allows float32 to be rounded first."""
    import torch

    tensors = [a for a in args if isinstance(a, torch.Tensor)]
    dtype = str((tensors[-1] if tensors else args[0]).dtype).removeprefix("torch.")
    if dtype != "float32":
        return _PRECISION.get(dtype, dtype)
    if device == "cuda":
        loose = torch.backends.cudnn.allow_tf32 if convolution else torch.backends.cuda.matmul.allow_tf32
        return "tf32" if loose else "fp32"
    part = getattr(torch.backends.mkldnn, "conv" if convolution else "matmul", None)
    allowed = getattr(part, "fp32_precision", "ieee")
    return allowed if allowed in ("bf16", "tf32") else "fp32"


def _convolution(args: Any, out: Any) -> int:
    given, weight = args[0].shape, args[1].shape
    transposed = args[6] if len(args) > 6 and isinstance(args[6], bool) else False
    return transposed_conv_macs(weight, given) if transposed else conv_macs(weight, out.shape)


def _plain_convolution(args: Any, out: Any) -> int:
    return conv_macs(args[1].shape, out.shape)


def _product(args: Any, out: Any) -> int:
    return matmul_macs(args[0].shape, out.shape, args[1].shape)


def _added_product(args: Any, out: Any) -> int:
    return matmul_macs(args[1].shape, out.shape, args[2].shape)


def _linear(args: Any, out: Any) -> int:
    return int(prod(out.shape) * args[0].shape[-1])


def _attention(args: Any, out: Any) -> int:
    """Q·Kᵀ and the weighted sum of V, each batch x heads x queries x keys x width."""
    query, key, value = (a.shape for a in args[:3])
    return int(prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))


def _encoder_layer(args: Any, out: Any) -> int:
    """nn.TransformerEncoderLayer's one operator: its four weights on every token, then the attention itself."""
    given = args[0].shape
    weights = sum(prod(args[place].shape) for place in (3, 5, 14, 16))
    return int(prod(given[:-1]) * weights + 2 * prod(given) * given[-2])


def _multi_head(args: Any, out: Any) -> int:
    """nn.MultiheadAttention's one operator: projections in and out of every token, then the attention itself."""
    query, key = args[0].shape, args[1].shape
    weights = sum(prod(args[place].shape) for place in (5, 7))
    return int(prod(query[:-1]) * weights + 2 * prod(query) * key[-2])


def _recurrent_layer(args: Any, out: Any) -> int:
    """oneDNN's fused RNN: (steps, batch, features), then the two weight matrices."""
    given = args[0].shape
    return int(given[0] * given[1] * (prod(args[1].shape) + prod(args[2].shape)))


_COUNTED: dict[str, Callable[[Any, Any], int]] = {
    "mm": _product,
    "bmm": _product,
    "addmm": _added_product,
    "baddbmm": _added_product,
    "addmv": _added_product,
    "addbmm": lambda args, out: int(prod(args[1].shape) * out.shape[-1]),  # summed over the batch
    "mv": _product,
    "dot": lambda args, out: prod(args[0].shape),
    "linear": _linear,
    "mkldnn_linear": _linear,
    "convolution": _convolution,
    "_convolution": _convolution,
    "convolution_overrideable": _convolution,
    "cudnn_convolution": _plain_convolution,
    "mkldnn_convolution": _plain_convolution,
    "mkldnn_rnn_layer": _recurrent_layer,
    "_transformer_encoder_layer_fwd": _encoder_layer,
    "_native_multi_head_attention": _multi_head,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
}
