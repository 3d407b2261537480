"""The PyTorch module as the reference: numpy in, named numpy out, and which axes follow the batch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from assay.core.errors import BadInput, SignatureMismatch
from assay.core.tensors import Array, Feed, dtype_name, is_float
from assay.export.flatten import flatten, is_flat
from assay.export.inputs import InputPlan

if TYPE_CHECKING:
    import torch

_MESSAGE = 600


class Reference:
    """Runs the module in its own precision.  ``names`` renames the outputs, in order, once set."""

    def __init__(self, module: Any, plan: InputPlan) -> None:
        self.module = module
        self.plan = plan
        self.names: tuple[str, ...] | None = None
        self.flat = True

    @property
    def needs_wrapper(self) -> bool:
        """Whether exporters cannot take the module as it is: nested outputs, or inputs by keyword."""
        return not self.flat or any(self.plan.bindings)

    def tensors(self, feed: Feed) -> tuple[torch.Tensor, ...]:
        """The feed as tensors in the plan's order (copies)."""
        return tuple(to_tensor(feed[s.name]) for s in self.plan.specs)

    def run(self, feed: Feed) -> dict[str, Array]:
        """Every output as numpy.  Raises BadInput quoting torch when the feed does not suit the module."""
        return self._call(self.module, self.tensors(feed), feed)

    def run_double(self, feed: Feed) -> dict[str, Array] | None:
        """The same in float64 on a copy of the module, or None where that cannot be done."""
        try:
            module = copy.deepcopy(self.module).double()
            tensors = tuple(t.double() if t.is_floating_point() else t for t in self.tensors(feed))
            return self._call(module, tensors, feed)
        except Exception:  # some modules cannot be copied, or hold float32 constants of their own
            return None

    def _call(self, module: Any, tensors: Sequence[Any], feed: Feed) -> dict[str, Array]:
        import torch

        bound = list(zip(tensors, self.plan.bindings, strict=True))
        args = [t for t, name in bound if name is None]
        kwargs = {name: t for t, name in bound if name is not None}
        try:
            with torch.no_grad():
                value = module(*args, **kwargs)
        except Exception as error:  # whatever the module raises, it is about this input
            shapes = ", ".join(f"{n}:{'x'.join(map(str, a.shape))}:{a.dtype}" for n, a in feed.items())
            said = " ".join(str(error).split())[:_MESSAGE]
            raise BadInput(
                f"the model does not accept {shapes}; torch says: {type(error).__name__}: {said}",
                remedy="give the inputs the model takes, in forward's order, with --shape name:1x3x224x224[:dtype]",
            ) from error
        self.flat = is_flat(value)
        found = flatten(value)
        names = self.names or tuple(n for n, _ in found)
        if len(names) != len(found):
            raise BadInput(f"the model gave {len(found)} outputs, before it gave {len(names)}")
        return {n: to_array(t, n) for n, (_, t) in zip(names, found, strict=True)}


def name_outputs(found: Sequence[str], given: tuple[str, ...], inputs: Sequence[str]) -> tuple[str, ...]:
    """The outputs' names in the file: the user's, else the module's own, kept apart from the inputs'."""
    if given:
        if len(given) != len(found):
            raise BadInput(
                f"{len(given)} output names were given, the model has {len(found)} outputs: {', '.join(found)}",
                remedy=f"--output-names {','.join(found)}",
            )
        clash = sorted(set(given) & set(inputs))
        if clash:
            raise BadInput(f"{clash[0]!r} is the name of an input and of an output; ONNX needs them to differ")
        return given
    return tuple(f"{n}_out" if n in inputs else n for n in found)


def batch_axes(a: Feed, b: Feed, batches: tuple[int, int]) -> dict[str, int | None]:
    """The first axis of each output whose size is the batch at both sizes; None where there is none."""
    axes: dict[str, int | None] = {}
    for name in a:
        pairs = list(zip(a[name].shape, b[name].shape, strict=False))
        same_rank = a[name].ndim == b[name].ndim
        axes[name] = next((i for i, pair in enumerate(pairs) if same_rank and pair == batches), None)
    return axes


def to_tensor(array: Array) -> torch.Tensor:
    import torch

    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, copy=True, order="C"))


def to_array(tensor: torch.Tensor, name: str) -> Array:
    """A dense tensor as numpy.  Raises BadInput for a dtype outside the closed list."""
    import torch

    dense = tensor.detach().cpu().resolve_neg()
    if dense.layout != torch.strided or dense.is_complex() or dense.is_quantized:
        raise BadInput(f"output {name!r} is {tensor.dtype} {tensor.layout}; only dense real tensors can be exported")
    if dense.dtype == torch.bfloat16:
        bits: Array = dense.contiguous().view(torch.int16).numpy()
        return np.array(bits.view(ml_dtypes.bfloat16))
    try:
        array: Array = dense.numpy().copy()
        dtype_name(array)
    except (TypeError, SignatureMismatch):
        raise BadInput(f"output {name!r} has the dtype {tensor.dtype}, which cannot be exported") from None
    return array


def unit_roundoff(array: Array) -> float | None:
    """2**-(p+1) for the array's float format, None for other dtypes."""
    name = dtype_name(array)
    return float(ml_dtypes.finfo(array.dtype).eps) / 2 if is_float(name) else None
