"""A PyTorch module run in exact (float64) arithmetic, and in fp32 with a number format's rounding put in.

``rounded`` shows what a format must cost on *this* network: every product (convolution, matrix
product, attention) gets its operands in the format, sums in fp32 in a random order, and every
operator's result is rounded to the format again.  With ``fp32`` nothing but the order of the sums
changes, which is the error no fp32 engine can be blamed for.
"""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

from assay.core.errors import EngineFailed
from assay.core.forward import passed_by_name
from assay.core.tensors import Array, Feed, Signature, is_float
from assay.export.flatten import flatten
from assay.export.reference import to_array, to_tensor

if TYPE_CHECKING:
    import torch

FORMATS = ("fp64", "fp32", "tf32", "bf16", "fp16", "int8")


class ModuleArithmetic:
    """``module`` takes its tensors by their place in the signature, or by its names where ``forward`` needs them so;
    it is copied, never changed."""

    def __init__(self, module: Any, signature: Signature) -> None:
        self._signature = signature
        self._by_name = passed_by_name(module, signature.input_names)
        self._module = _evaluated(module)
        self._double: Any = None

    def exact(self, feed: Feed) -> dict[str, Array]:
        """All outputs in float64 (integer outputs as they are).  Raises EngineFailed where the module cannot."""
        try:
            if self._double is None:
                self._double = _doubled(_evaluated(self._module))
            return self._call(self._double, feed, double=True)
        except Exception as error:  # some modules hold float32 constants or buffers of their own
            raise EngineFailed(f"the module does not run in float64: {_gist(error)}") from error

    def rounded(self, feed: Feed, precision: str, seed: int) -> dict[str, Array]:
        """All outputs in float32 arithmetic with the format's rounding.  Raises EngineFailed."""
        try:
            with _mode(precision, seed, self._signature.batch_of(feed) if self._signature.is_batched else 1):
                return self._call(self._module, feed, double=False)
        except Exception as error:
            raise EngineFailed(f"the module does not run with the rounding of {precision}: {_gist(error)}") from error

    def release(self) -> None:
        """Drop the float64 copy."""
        self._double = None

    def _call(self, module: Any, feed: Feed, *, double: bool) -> dict[str, Array]:
        import torch

        tensors = [to_tensor(feed[name]) for name in self._signature.input_names]
        if double:
            tensors = [t.double() if t.is_floating_point() else t for t in tensors]
        with torch.no_grad():
            if self._by_name:
                found = flatten(module(**dict(zip(self._signature.input_names, tensors, strict=True))))
            else:
                found = flatten(module(*tensors))
        names = self._signature.output_names
        if len(found) != len(names):
            raise EngineFailed(f"the module gave {len(found)} outputs, not {len(names)}: {', '.join(names)}")
        arrays = {name: to_array(t, name) for name, (_, t) in zip(names, found, strict=True)}
        return {n: a.astype("float64") if is_float(self._signature.output(n).dtype) else a for n, a in arrays.items()}


def _evaluated(module: Any) -> Any:
    with warnings.catch_warnings():  # copying an exported program, torch warns about its own pytrees
        warnings.filterwarnings("ignore", "`isinstance.treespec", FutureWarning)
        module = copy.deepcopy(module)
    if getattr(module, "training", False):
        try:
            module.eval()
        except NotImplementedError:
            return module  # an exported program has its mode fixed in the graph
    return module


def _doubled(module: Any) -> Any:
    with warnings.catch_warnings():  # of a copied TorchScript module, torch warns about its own look at .grad
        warnings.filterwarnings("ignore", "The .grad attribute", UserWarning)
        return module.double()


def _gist(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _mode(precision: str, seed: int, rows: int) -> Any:
    """A dispatch mode that rewrites products and rounds results."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten
    generator = torch.Generator().manual_seed(seed)
    rounder = _Rounder(precision, generator, rows if seed % 2 == 0 else None)
    products = {
        aten.mm.default: (0, 1),
        aten.bmm.default: (0, 1),
        aten.addmm.default: (1, 2),
        aten.baddbmm.default: (1, 2),
        aten.convolution.default: (0, 1),
    }
    attention = "_scaled_dot_product"

    class Mode(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            arguments = list(args)
            places = products.get(func)
            if places is not None:
                rounder.operands(arguments, places, convolution=func is aten.convolution.default)
            elif attention in func.__name__:
                for place in range(3):
                    arguments[place] = rounder.operand(arguments[place])
            result = func(*arguments, **(kwargs or {}))
            return rounder.result(result) if not func.is_view else result

    return Mode()


class _Rounder:
    """The arithmetic itself.  Tensors other than float32 pass through.

    int8 takes a factor's range from the whole tensor, or, with ``rows`` samples in it, as the mean of their
    extremes, which cuts off what lies outside: quantisers do either.
    """

    def __init__(self, precision: str, generator: torch.Generator, rows: int | None = None) -> None:
        self._precision = precision
        self._generator = generator
        self._rows = rows

    def operands(self, arguments: list[Any], places: tuple[int, int], *, convolution: bool) -> None:
        """Both factors in the format, their common dim in a random order."""
        import torch

        a, b = (arguments[p] for p in places)
        if a.dtype != torch.float32:
            return
        along = (1, 1) if convolution else (-1, -2)
        a, b = self.operand(a, rows=self._rows), self.operand(b, channel=0 if convolution else b.ndim - 1)
        if not (convolution and (arguments[6] or arguments[8] != 1)):  # transposed, grouped: left in order
            order = torch.randperm(a.shape[along[0]], generator=self._generator)
            a, b = a.index_select(along[0] % a.ndim, order), b.index_select(along[1] % b.ndim, order)
        arguments[places[0]], arguments[places[1]] = a, b

    def operand(self, tensor: Any, channel: int | None = None, rows: int | None = None) -> Any:
        import torch

        if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float32:
            return tensor
        if self._precision == "int8":
            return _fake_int8(tensor, channel, rows)
        return self._to_format(tensor)

    def result(self, value: Any) -> Any:
        import torch

        if self._precision not in ("bf16", "fp16", "int8"):
            return value
        if isinstance(value, torch.Tensor):
            return self.operand(value)
        if isinstance(value, tuple):
            return tuple(self.result(v) for v in value)
        return value

    def _to_format(self, tensor: Any) -> Any:
        import torch

        if self._precision == "bf16":
            return tensor.to(torch.bfloat16).to(torch.float32)
        if self._precision == "fp16":
            return tensor.to(torch.float16).to(torch.float32)
        if self._precision == "tf32":  # 10 bits are kept of 23: round to nearest by adding half a step
            bits = tensor.contiguous().view(torch.int32)
            return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
        return tensor


def _fake_int8(tensor: Any, channel: int | None, rows: int | None = None) -> Any:
    """Rounded to 256 steps of its range: symmetric per channel for weights, else over the whole tensor or the mean of
    its rows'."""
    if not tensor.numel():
        return tensor
    if channel is not None and tensor.ndim > 1:
        dims = [d for d in range(tensor.ndim) if d != channel]
        scale = tensor.abs().amax(dim=dims, keepdim=True).clamp_min(1e-30) / 127
        return (tensor / scale).round() * scale
    low, high = tensor.min().clamp_max(0), tensor.max().clamp_min(0)
    if rows and tensor.shape[0] % rows == 0:
        flat = tensor.reshape(rows, -1)
        low, high = flat.amin(1).mean().clamp_max(0), flat.amax(1).mean().clamp_min(0)
        tensor = tensor.clamp(low, high)
    step = (high - low).clamp_min(1e-30) / 255
    return (tensor / step).round() * step
