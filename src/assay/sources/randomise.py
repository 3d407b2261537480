"""Random weights under which every branch of a network carries signal.

A freshly built network is a poor subject for verification: residual branches often end in a
normalisation whose weight is zero or in a layer scale of 1e-6, biases are zero, batch-norm
statistics are 0 and 1.  Exporters may then drop or fold whole branches and nobody would see it.
``randomise`` gives every parameter a value that matters; ``calibrate`` then sets batch-norm
statistics from data and keeps magnitudes in range, so that outputs are finite and depend on inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.core.tensors import TensorSpec
from assay.sources.inputs import draw, is_certain, refused

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_GAIN = math.sqrt(2.0)  # He et al. 2015: keeps the variance through a layer followed by a ReLU
_RANGE = (0.2, 5.0)  # layer outputs are brought into this range of standard deviations
_SCALES = ("gamma", "scale", "gain", "alpha", "weight_g", "original0", "ls")
_SMALL_ROW = 50_000  # elements; smaller inputs are calibrated on more rows


def randomise(module: nn.Module, seed: int, keep: frozenset[str] = frozenset()) -> int:
    """Give every floating-point parameter and batch-norm statistic a seeded value, in name order.

    ``keep`` names what is left alone.  Returns how many tensors were set; raises BadInput if none was.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    count = 0
    seen: set[int] = set()
    with torch.no_grad():
        for path, owner in module.named_modules():
            for name, tensor in _own_tensors(owner):
                full = f"{path}.{name}" if path else name
                if full in keep or id(tensor) in seen:
                    continue
                seen.add(id(tensor))
                tensor.copy_(_value(owner, name, tensor, generator))
                count += 1
    if not count:
        raise BadInput("the module has no floating-point parameters to randomise", remedy="give --weights")
    return count


def silent_branches(module: nn.Module) -> list[str]:
    """Names of normalisation layers whose weights are all zero."""
    import torch

    return [
        path
        for path, part in module.named_modules()
        if _is_norm(part) and isinstance(w := part._parameters.get("weight"), torch.Tensor) and not bool(w.any())
    ]


def calibrate(module: nn.Module, specs: tuple[TensorSpec, ...], seed: int, name: str) -> list[str]:
    """Forward seeded inputs once, setting batch-norm statistics and the scale of layers on the way.

    Afterwards outputs are finite and differ between inputs, or a warning says what was seen.
    Raises BadInput when the module does not accept the shapes or gives outputs that are not finite.
    Runs on one thread, so that the result does not depend on how many there are.
    """
    import torch

    if not is_certain(specs):
        return ["dims other than the batch are free, so the randomised weights were not calibrated"]
    elements = sum(math.prod(d for d in s.row_shape() if isinstance(d, int)) for s in specs)
    rows = 8 if elements <= _SMALL_ROW else 4
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    hooks = _hooks(module, torch.Generator().manual_seed(seed + 1))
    try:
        with torch.no_grad():
            _forward(module, specs, rows, seed + 2, name)
            for hook in hooks:
                hook.remove()
            _centre_head(module, specs, rows, seed + 2, name)
            return _check(module, specs, rows, seed + 3, name)
    finally:
        for hook in hooks:
            hook.remove()
        torch.set_num_threads(threads)


def tensors_of(output: Any) -> list[Tensor]:
    """The floating-point tensors in whatever a forward returned, in order."""
    import torch
    from torch.utils import _pytree

    leaves = _pytree.tree_leaves(output)
    return [t for t in leaves if isinstance(t, torch.Tensor) and t.is_floating_point() and t.numel()]


def _own_tensors(owner: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's own floating-point parameters, and its batch-norm statistics."""
    for name, parameter in owner._parameters.items():
        if parameter is not None and (parameter.is_floating_point() or parameter.is_complex()):
            yield name, parameter
    statistics = ["running_mean", "running_var"]
    if "running_var" in owner._buffers:  # a frozen batch norm keeps weight and bias as buffers too
        statistics += ["weight", "bias"]
    for name in statistics:
        buffer = owner._buffers.get(name)
        if buffer is not None:
            yield name, buffer


def _is_norm(owner: nn.Module) -> bool:
    kind = type(owner).__name__.lower()
    return "norm" in kind or "running_var" in owner._buffers


def _value(owner: nn.Module, name: str, old: Tensor, generator: torch.Generator) -> Tensor:
    import torch

    def normal(std: float, mean: float = 0.0) -> Tensor:
        return mean + std * torch.randn(old.shape, generator=generator, dtype=torch.float32)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(old.shape, generator=generator, dtype=torch.float32)

    if old.is_complex():
        fan = max(old.numel() // max(old.shape[0], 1), 1) if old.ndim > 1 else 1
        return torch.complex(normal(1 / math.sqrt(2 * fan)), normal(1 / math.sqrt(2 * fan)))
    if name == "running_mean":
        return normal(0.1)
    if name == "running_var" or (name == "weight" and _is_norm(owner)):
        return uniform(0.5, 1.5)
    if name == "bias" or name.startswith("bias_") or name.endswith("_bias"):
        return normal(0.1)
    fan_in = _fan_in(owner, name, old)
    if fan_in:
        return normal(_GAIN / math.sqrt(fan_in))
    return _loose(name, old, normal, uniform)


def _fan_in(owner: nn.Module, name: str, old: Tensor) -> float | None:
    """How many products are summed into one output, for weights of linear and convolution layers."""
    from torch import nn

    if old.ndim < 2 or "weight" not in name or name.endswith("weight_g"):
        return None
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return 2.0  # rows of variance 1
    if isinstance(owner, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        overlap = math.prod(old.shape[2:]) / math.prod(owner.stride)
        return float(old.shape[0] / owner.groups * max(overlap, 1.0))
    return float(math.prod(old.shape[1:]))


def _loose(name: str, old: Tensor, normal: Callable[..., Tensor], uniform: Callable[[float, float], Tensor]) -> Tensor:
    """Parameters that lie directly on a module: position embeddings, class tokens, layer scales, gates …

    Their value before tells what they are: one number everywhere is a scale or a bias, numbers that
    differ are an embedding, whose mean and spread are kept.
    """
    import torch

    if not bool(torch.isfinite(old).all()):  # never set, as torch.empty leaves it
        old = torch.zeros_like(old)
    first = float(old.flatten()[0]) if old.numel() else 0.0
    constant = bool((old == first).all())
    is_scale = any(part in name.lower() for part in _SCALES) or old.numel() == 1 or "weight" in name
    if constant and abs(first) >= 0.5:
        return first * uniform(0.5, 1.5) if old.numel() > 1 else first * uniform(0.9, 1.1)
    if constant and (is_scale or first != 0.0):
        return uniform(0.3, 1.0)
    if constant:
        return normal(0.2) if old.ndim > 1 else normal(0.1)
    spread = float(old.float().std()) if old.numel() > 1 else 0.0
    return normal(max(spread, 0.2), float(old.float().mean()))


def _hooks(module: nn.Module, generator: torch.Generator) -> list[Any]:
    """Hooks for the one calibrating forward; without any normalisation, layers are scaled as well."""
    from torch import nn

    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    parts = list(module.modules())
    hooks: list[Any] = []
    plain = not any(_is_norm(p) for p in parts)
    for part in parts:
        if part._buffers.get("running_var") is not None:
            hooks.append(part.register_forward_pre_hook(_set_statistics(generator)))
        elif plain and isinstance(part, layers) and "weight" in part._parameters:
            hooks.append(part.register_forward_hook(_scale_layer()))
    return hooks


def _set_statistics(generator: torch.Generator) -> Callable[..., None]:
    """Statistics of the data that arrives, moved a little, so that they are not undone by folding."""
    import torch

    def before(part: nn.Module, args: tuple[Any, ...]) -> None:
        data = args[0].float()
        axes = [a for a in range(data.ndim) if a != 1]
        mean, var = data.mean(axes), data.var(axes, unbiased=False)
        if mean.shape != part._buffers["running_mean"].shape or not bool(torch.isfinite(var).all()):
            return
        var = var.clamp_min(1e-3 * float(var.mean()) + 1e-6)
        shift = 0.1 * torch.randn(mean.shape, generator=generator)
        stretch = 0.8 + 0.45 * torch.rand(var.shape, generator=generator)
        part._buffers["running_mean"].copy_(mean + shift * var.sqrt())
        part._buffers["running_var"].copy_(var * stretch)

    return before


def _scale_layer() -> Callable[..., Any]:
    """Scale a layer, the first time it runs, so that its output's spread is near one if it left the range."""
    done: set[int] = set()

    def after(part: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        spread = float(output.float().std()) if output.numel() > 1 else 1.0
        if id(part) in done or not math.isfinite(spread) or spread == 0 or _RANGE[0] <= spread <= _RANGE[1]:
            done.add(id(part))
            return None
        done.add(id(part))
        for parameter in part._parameters.values():
            if parameter is not None:
                parameter.div_(spread)
        return output / spread

    return after


def _centre_head(module: nn.Module, specs: tuple[TensorSpec, ...], rows: int, seed: int, name: str) -> None:
    """Where the output is that of a layer with a bias, move the bias so that it varies about zero.

    Otherwise one class tends to win for every input, and agreement about the winner shows nothing.
    """
    import torch
    from torch import nn

    last: list[tuple[nn.Module, Tensor]] = []
    linear = [p for p in module.modules() if isinstance(p, nn.Linear)]
    biased = [p for p in linear if isinstance(p._parameters.get("bias"), torch.Tensor)]
    hooks = [p.register_forward_hook(lambda part, args, out: last.append((part, out))) for p in biased]
    try:
        outputs = tensors_of(_forward(module, specs, rows, seed, name))
    finally:
        for hook in hooks:
            hook.remove()
    for part, made in last:
        if sum(p is part for p, _ in last) == 1 and any(made is o for o in outputs) and made.shape[0] > 1:
            mean = made.float().mean(tuple(range(made.ndim - 1)))
            bias = part._parameters["bias"]
            assert bias is not None
            bias.sub_(0.9 * mean)


def _check(module: nn.Module, specs: tuple[TensorSpec, ...], rows: int, seed: int, name: str) -> list[str]:
    """Finite, and not the same for different inputs."""
    import torch

    first = tensors_of(_forward(module, specs, rows, seed, name))
    second = tensors_of(_forward(module, specs, rows, seed + 1, name))
    if not all(bool(torch.isfinite(t).all()) for t in (*first, *second)):
        raise BadInput(f"{name}: with randomised weights the outputs are not finite", remedy="give --weights")
    if not first or not any(s.dtype.startswith(("float", "bfloat")) for s in specs):
        return []  # integer inputs are drawn as zeros: there is nothing to tell apart
    same = [
        i
        for i, (a, b) in enumerate(zip(first, second, strict=False))
        if a.shape == b.shape and float((a - b).float().abs().max()) <= 1e-4 * float(a.float().abs().max())
    ]
    if not same:
        return []
    which = ", ".join(map(str, same))
    return [f"with randomised weights, output {which} hardly depends on the input: comparing it shows little"]


def _forward(module: nn.Module, specs: tuple[TensorSpec, ...], rows: int, seed: int, name: str) -> Any:
    try:
        return module(*draw(specs, rows, seed))
    except Exception as error:
        raise refused(name, specs, error) from error
