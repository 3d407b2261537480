"""Products and poolings for onnx's reference evaluator, done by torch: the evaluator's own are loops in Python."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from assay.core.tensors import Array


def fast_ops() -> list[Any]:
    """Operator classes to hand to ``ReferenceEvaluator(new_ops=…)``; empty without torch."""
    if importlib.util.find_spec("torch") is None:
        return []
    from onnx.reference.op_run import OpRun
    from onnx.reference.ops.op_conv import Conv as SlowConv
    from onnx.reference.ops.op_conv_transpose import ConvTranspose as SlowConvTranspose

    class Conv(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x: Array, w: Array, b: Any = None, **given: Any) -> Any:
            pads = _symmetric(given, w.ndim - 2)
            if pads is None or x.ndim > 5:
                return _slow(SlowConv, self, (x, w, b), given)
            return (_conv(x, w, b, given, pads),)

    class ConvTranspose(OpRun):  # type: ignore[misc]
        op_domain = ""

        def _run(self, x: Array, w: Array, b: Any = None, **given: Any) -> Any:
            pads = _symmetric(given, w.ndim - 2)
            if pads is None or given.get("output_shape") or x.ndim > 5:
                return _slow(SlowConvTranspose, self, (x, w, b), given)
            return (_conv_transpose(x, w, b, given, pads),)

    return [Conv, ConvTranspose]


def _slow(kind: Any, op: Any, inputs: tuple[Any, ...], given: dict[str, Any]) -> Any:
    return kind._run(op, *inputs, **given)


def _symmetric(given: dict[str, Any], dims: int) -> list[int] | None:
    """The padding of every dim where both sides are equal and explicit; None where not."""
    if given.get("auto_pad") not in (None, "NOTSET"):
        return None
    pads = list(given.get("pads") or [0] * (2 * dims))
    return pads[:dims] if pads[:dims] == pads[dims:] else None


def _conv(x: Array, w: Array, b: Any, given: dict[str, Any], pads: list[int]) -> Array:
    import torch

    dims = w.ndim - 2
    function = (torch.nn.functional.conv1d, torch.nn.functional.conv2d, torch.nn.functional.conv3d)[dims - 1]
    found = function(
        _tensor(x),
        _tensor(w),
        None if b is None else _tensor(b),
        stride=list(given.get("strides") or [1] * dims),
        padding=pads,
        dilation=list(given.get("dilations") or [1] * dims),
        groups=given.get("group") or 1,
    )
    return np.asarray(found.numpy())


def _conv_transpose(x: Array, w: Array, b: Any, given: dict[str, Any], pads: list[int]) -> Array:
    import torch

    dims = w.ndim - 2
    functional = torch.nn.functional
    function = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[dims - 1]
    found = function(
        _tensor(x),
        _tensor(w),
        None if b is None else _tensor(b),
        stride=list(given.get("strides") or [1] * dims),
        padding=pads,
        output_padding=list(given.get("output_padding") or [0] * dims),
        groups=given.get("group") or 1,
        dilation=list(given.get("dilations") or [1] * dims),
    )
    return np.asarray(found.numpy())


def _tensor(array: Array) -> Any:
    import torch

    return torch.from_numpy(np.array(array, copy=True, order="C"))
