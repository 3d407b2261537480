"""A PyTorch module's ``forward``: the names of what it takes, and whether inputs must be passed by those names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any


def forward_parameters(module: Any) -> list[str]:
    """Names of the tensors ``forward`` can take; empty where the module does not say (``*args``)."""
    return [name for name, _ in _parameters(module)]


def passed_by_name(module: Any, names: Sequence[str]) -> bool:
    """Whether inputs of these names are parameters of ``forward`` but not its first ones in their order.

    An optional parameter that is left out, or one that can be given by name only, makes it so.
    """
    known = _parameters(module)
    first = [name for name, by_place in known if by_place][: len(names)]
    return bool(names) and set(names) <= {name for name, _ in known} and list(names) != first


def _parameters(module: Any) -> list[tuple[str, bool]]:
    """Each with whether it can be passed by its place."""
    schema = getattr(getattr(module, "forward", None), "schema", None)
    if schema is not None:  # a ScriptModule: its first argument is itself
        return [(a.name, not a.kwarg_only) for a in schema.arguments[1:]]
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError, AttributeError):
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [(p.name, p.kind is p.POSITIONAL_OR_KEYWORD) for p in parameters if p.kind in named]
