"""A user's function, class or module, built and looked at: does it bring weights of its own?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.sources.arguments import call_builder
from assay.sources.inputs import parse_specs
from assay.sources.options import Architecture, SourceOptions
from assay.sources.registry import checked_module
from assay.sources.seeding import seeded

if TYPE_CHECKING:
    from torch import Tensor, nn


def from_builder(
    builder: Any, names: tuple[str, str], identity: Mapping[str, Any], options: SourceOptions
) -> Architecture:
    """Call ``builder`` (a function or class; a module is taken as it is); ``names`` are name and spec.

    Unless ``--weights`` are given, it is called twice, under two seeds.  A tensor that comes out the
    same both times and is not one number throughout was set on purpose: loaded, or computed.  If
    nothing came out different, the module brings its own weights; otherwise all is randomised
    except what was set on purpose.  Attributes of the builder say more: ``assay_inputs = ["input:batchx1x32x32"]``,
    ``assay_preprocess = {...}`` (a transform as data), ``assay_labels = (...)``.
    """
    from torch import nn

    name, spec = names
    arguments = dict(identity.get("arguments", {}))
    weights: str | None = None
    keep: frozenset[str] = frozenset()
    if isinstance(builder, nn.Module):
        module, weights = builder, f"as {name} brings them"
    else:
        module = _build(builder, arguments, name, options.seed)
        if options.weights is None:
            other = _build(builder, arguments, name, options.seed + 1)
            weights, keep = settle(module, other, name)
    inputs, preprocess, labels = _attributes(builder, name)
    return Architecture(
        name=name,
        spec=spec,
        identity=identity,
        module=module,
        weights=weights,
        keep=keep,
        inputs=inputs,
        preprocess=preprocess,
        labels=labels,
    )


def settle(module: nn.Module, other: nn.Module, name: str) -> tuple[str | None, frozenset[str]]:
    """What two builds under different seeds say: words if the weights are the module's own, and what to keep."""
    mine, theirs = _numbers(module), _numbers(other)
    if mine.keys() != theirs.keys():
        raise BadInput(f"{name} gave two modules with different parameters when called twice")
    same = {k for k, v in mine.items() if _equal(v, theirs[k])}
    if module is other or same == set(mine):
        return (f"as {name} brings them", frozenset()) if mine else (None, frozenset())
    return None, frozenset(k for k in same if not bool((mine[k] == mine[k].flatten()[0]).all()))


def _build(builder: Callable[..., Any], arguments: Mapping[str, Any], name: str, seed: int) -> nn.Module:
    with seeded(seed):
        module: nn.Module = checked_module(call_builder(builder, arguments, name), name)
    return module


def _numbers(module: nn.Module) -> dict[str, Tensor]:
    """Floating-point parameters and batch-norm statistics that have values."""
    from torch.nn.parameter import is_lazy

    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    statistics = ("running_mean", "running_var", "weight", "bias")
    buffers = {k for k, _ in module.named_buffers() if k.rpartition(".")[2] not in statistics}
    return {
        k: v.detach()
        for k, v in tensors.items()
        if k not in buffers and not is_lazy(v) and v.numel() and (v.is_floating_point() or v.is_complex())
    }


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and bool((a == b).all())


def _attributes(builder: Any, name: str) -> tuple[Any, Any, Any]:
    """``assay_inputs``, ``assay_preprocess`` and ``assay_labels``, checked.  Raises BadInput."""
    inputs = getattr(builder, "assay_inputs", None)
    preprocess = getattr(builder, "assay_preprocess", None)
    labels = getattr(builder, "assay_labels", None)
    if inputs is not None:
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        if not texts or not all(isinstance(t, str) for t in texts):
            raise BadInput(f'{name}: assay_inputs must be shapes as text, like ["input:batchx3x224x224"]')
        inputs = parse_specs(texts)
    if preprocess is not None and not (isinstance(preprocess, Mapping) and "kind" in preprocess):
        raise BadInput(f'{name}: assay_preprocess must be a transform as data, like {{"kind": "image", ...}}')
    return inputs, preprocess, None if labels is None else tuple(str(v) for v in labels)


def defining_file(builder: Any) -> Path | None:
    """The file a function, class or module comes from, None for one typed into a shell."""
    import inspect

    target = builder if inspect.isroutine(builder) or inspect.isclass(builder) else type(builder)
    try:
        path = Path(inspect.getsourcefile(inspect.unwrap(target)) or "")
    except TypeError:
        return None
    return path if path.is_file() else None
