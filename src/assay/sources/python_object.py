"""A module that already lives in memory, as ``assay.run(module, example=x)`` gives it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assay.core.errors import BadInput
from assay.core.model import Model
from assay.core.tensors import DTYPES, TensorSpec
from assay.sources.finish import finish
from assay.sources.options import Architecture, SourceOptions
from assay.sources.registry import checked_module

if TYPE_CHECKING:
    from torch import Tensor, nn


def from_module(module: nn.Module, name: str, example: Any, options: SourceOptions) -> Model:
    """The module as it is, in eval mode and with its own weights (``options.weights`` replaces them).

    ``example`` is one input (tensor or array), a tuple or list of them in ``forward``'s order, or a
    dict by the names of ``forward``'s parameters; None when ``options.shapes`` say it all.  Axis 0 of
    every input whose size there is the first input's is taken as the batch, and is free.  Inputs are
    called ``input`` when there is one, else as ``forward`` or the dict calls them.  The caller's module is left as it
    is: a copy is used where one can be made.  Raises BadInput for examples it cannot read, and for
    modules that do not run on them.
    """
    checked_module(module, name)
    copied, warnings = _copy(module)
    inputs = None
    if isinstance(example, Mapping):
        tensors = {str(k): as_tensor(v, str(k)) for k, v in example.items()}
        copied, order = _by_keyword(copied, list(tensors))
        inputs = specs_of({k: tensors[k] for k in order})
    elif example is not None:
        several = isinstance(example, tuple | list)
        values = list(example) if several else [example]
        names = ["input"] if len(values) == 1 else _positional_names(module, len(values))
        inputs = specs_of({n: as_tensor(v, n) for n, v in zip(names, values, strict=True)})
    kind = type(module)
    return finish(
        Architecture(
            name=name,
            spec=f"python:{kind.__module__}.{kind.__qualname__}",
            identity={"builder": "python", "class": kind.__qualname__, "tree": _tree(module)},
            module=copied,
            weights="as given in Python",
            inputs=inputs,
            warnings=warnings,
        ),
        options,
    )


def _parameters(module: nn.Module) -> Mapping[str, inspect.Parameter]:
    """Those of ``forward``; none where they cannot be told, as of compiled code."""
    try:
        return inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return {}


def _positional(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    return [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _positional_names(module: nn.Module, count: int) -> list[str]:
    """What ``forward`` calls its first ``count`` inputs; ``input_0`` … where it does not say (``*args``)."""
    names = _positional(_parameters(module))[:count]
    return names if len(names) == count else [f"input_{i}" for i in range(count)]


def as_tensor(value: Any, name: str) -> Tensor:
    """A tensor of a known dtype from a tensor, an array or a number.  Raises BadInput naming the input."""
    import numpy as np
    import torch

    if not isinstance(value, torch.Tensor):
        try:
            array = np.asarray(value, order="C")  # ascontiguousarray would give a scalar a dim
            value = torch.from_numpy(array if array.flags.writeable else array.copy())  # torch warns of the others
        except (TypeError, ValueError) as error:
            found = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
            raise BadInput(
                f"the example for {name!r} is {found}, not a tensor or an array that torch takes",
                remedy="give a tensor, a tuple of tensors, or a dict of them by forward's parameter names",
            ) from error
    if dtype_of(value) not in DTYPES:
        raise BadInput(f"the example for {name!r} has the dtype {value.dtype}, which is not supported")
    tensor: Tensor = value
    return tensor


def dtype_of(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def specs_of(tensors: Mapping[str, Tensor]) -> tuple[TensorSpec, ...]:
    """Specs with a free batch at axis 0 of every tensor that has the first one's size there."""
    if not tensors:
        raise BadInput("the example holds no inputs", remedy="give example=x")
    rows = next((t.shape[0] for t in tensors.values() if t.ndim), None)
    specs = []
    for name, tensor in tensors.items():
        batched = tensor.ndim > 0 and tensor.shape[0] == rows
        shape = tuple(tensor.shape)
        specs.append(
            TensorSpec(name, dtype_of(tensor), ("batch", *shape[1:]) if batched else shape, 0 if batched else None)
        )
    return tuple(specs)


def positional(forward: Any, names: Sequence[str], call: Any) -> Any:
    """A function ``(self, *names)`` that calls ``call(dict)``; exporters read its signature."""

    def run(self: Any, *args: Any) -> Any:
        return call(self, dict(zip(names, args, strict=True)))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, kind) for n in ("self", *names)]
    )
    run.__doc__ = forward.__doc__
    return run


def _by_keyword(module: nn.Module, names: list[str]) -> tuple[nn.Module, list[str]]:
    """A module to be called with positional inputs, and their order, for inputs given by name.

    That is the module itself where the names are ``forward``'s first parameters; otherwise one that
    passes them on as keywords, or as the one dict the module takes.
    """
    parameters = _parameters(module)
    plain = _positional(parameters)
    order = sorted(names, key=lambda n: plain.index(n) if n in plain else len(plain))
    if order == plain[: len(order)]:
        return module, order
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    if takes_any or set(names) <= set(parameters):
        return _wrap(module, order, lambda self, feed: self.inner(**feed)), order
    if len(plain) == 1:
        return _wrap(module, order, lambda self, feed: self.inner(feed)), order
    raise BadInput(
        f"the example's names {', '.join(names)} are not parameters of forward, which has "
        f"{', '.join(parameters) or 'none that can be told'}",
        remedy="give example=(x, …), in forward's order",
    )


def _wrap(module: nn.Module, names: list[str], call: Any) -> nn.Module:
    from torch import nn

    if not all(n.isidentifier() for n in names):
        raise BadInput(f"inputs must be named like Python parameters, not {', '.join(names)}")
    kind = type("ByKeyword", (nn.Module,), {"forward": positional(module.forward, names, call), "__module__": __name__})
    wrapper: nn.Module = kind()
    wrapper.add_module("inner", module)
    return wrapper.train(module.training)


def _copy(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    try:
        return copy.deepcopy(module), ()
    except Exception as error:
        said = f"the module could not be copied ({type(error).__name__}), so your own was put into eval mode"
        return module, (said,)


def _tree(module: nn.Module) -> list[str]:
    """The classes and settings of the whole tree: two architectures may have the same parameters."""
    return [f"{path}:{type(part).__qualname__}({part.extra_repr()})" for path, part in module.named_modules()]
