"""Names for a user's own models: ``@register_model``, ``create_model``, ``list_models``."""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from assay.core.errors import BadInput, UnknownName, suggest
from assay.core.table import load, resolve

if TYPE_CHECKING:
    from torch import nn

F = TypeVar("F", bound=Callable[..., Any])

# Where names with a prefix come from: how to list them, and how to build one from its arguments.
LISTS: dict[str, str] = {
    "timm": "assay.sources.timm:list_names",
    "torchvision": "assay.sources.torchvision:list_names",
}
CREATORS: dict[str, str] = {
    "timm": "assay.sources.timm:create",
    "torchvision": "assay.sources.torchvision:create",
}
_registered: dict[str, Callable[..., Any]] = {}


@overload
def register_model(target: F) -> F: ...
@overload
def register_model(target: str | None = None, *, name: str | None = None) -> Callable[[F], F]: ...
def register_model(target: Any = None, *, name: str | None = None) -> Any:
    """Give a function that returns a module (or a module class) a name.

    Written bare, ``@register_model("name")`` or ``@register_model(name="name")``; without a name
    the function's own is taken.  Registering the same function again, as a reloaded file does,
    replaces it; another function under a taken name raises BadInput.
    """
    if callable(target):
        _add(name or _name_of(target), target)
        return target
    if target is not None and not isinstance(target, str):
        raise BadInput(f"register_model takes a function or a name, not {type(target).__name__}")

    def decorate(function: F) -> F:
        _add(name or target or _name_of(function), function)
        return function

    return decorate


def create_model(name: str, **arguments: Any) -> nn.Module:
    """Build the module registered as ``name``, or ``timm:NAME`` / ``torchvision:NAME``.

    ``arguments`` go to the builder unchanged.  Raises BadInput for an unknown name (with near
    ones) or a builder that does not return a module.
    """
    if name in _registered:
        module: nn.Module = checked_module(_registered[name](**arguments), name)
        return module
    prefix, colon, rest = name.partition(":")
    if colon:
        built: nn.Module = resolve(CREATORS, prefix, "model source")(rest, arguments)
        return built
    near = near_names(name)
    if near:
        raise BadInput(f"there is no registered model {name!r}", remedy=f"did you mean {' or '.join(near)}?")
    raise UnknownName("registered model", name, _registered)


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a glob, sorted: registered ones, and with a prefix (``timm:resnet*``) others'."""
    prefix, colon, rest = pattern.partition(":")
    if colon:
        names = resolve(LISTS, prefix, "model source")()
        return [f"{prefix}:{n}" for n in sorted(fnmatch.filter(names, rest or "*"))]
    return sorted(fnmatch.filter(_registered, pattern))


def is_registered(name: str) -> bool:
    return name in _registered


def registered_names() -> list[str]:
    return sorted(_registered)


def registered(name: str) -> Callable[..., Any]:
    """The function behind a registered name.  Raises UnknownName."""
    try:
        return _registered[name]
    except KeyError:
        raise UnknownName("registered model", name, _registered) from None


def near_names(name: str) -> list[str]:
    """Registered names and prefixed names of the installed collections that ``name`` may have meant."""
    near = suggest(name, _registered)
    for prefix, target in LISTS.items():
        if importlib.util.find_spec(prefix) is None:
            continue
        names = load(target)()
        found = [name] if name in names else suggest(name, names, most=2)
        near += [f"{prefix}:{n}" for n in found]
    exact = [n for n in near if n.partition(":")[2] == name]
    return exact or near


def checked_module(built: Any, name: str) -> Any:
    """``built`` if it is an ``nn.Module``; BadInput otherwise."""
    from torch import nn

    if not isinstance(built, nn.Module):
        raise BadInput(f"{name} gave a {type(built).__name__}, not a torch.nn.Module")
    return built


def _name_of(function: Callable[..., Any]) -> str:
    try:
        return str(function.__name__)
    except AttributeError:  # functools.partial, or an object that can be called
        raise BadInput(
            f"a {type(function).__name__} has no name of its own", remedy='register_model(…, name="my_net")'
        ) from None


def _add(name: str, function: Callable[..., Any]) -> None:
    before = _registered.get(name)
    if before is not None and not _same(before, function):
        raise BadInput(
            f"the name {name!r} is taken by {before.__module__}.{getattr(before, '__qualname__', repr(before))}",
            remedy=f'register it under another name: @register_model(name="{name}_2")',
        )
    _registered[name] = function


def forget(module_name: str) -> None:
    """Drop the names a file registered, before the file is loaded again."""
    for name in [n for n, f in _registered.items() if f.__module__ == module_name]:
        del _registered[name]


def _same(a: Callable[..., Any], b: Callable[..., Any]) -> bool:
    """Whether both are one definition seen twice: a reloaded file, or a notebook cell run again.

    Two definitions of one name at different lines of one file are different functions.
    """
    if a is b:
        return True
    if any(getattr(a, part, None) != getattr(b, part, None) for part in ("__module__", "__qualname__")):
        return False
    here, there = getattr(a, "__code__", None), getattr(b, "__code__", None)
    if here is None or there is None:
        return here is there
    return bool(here.co_filename != there.co_filename or here.co_firstlineno == there.co_firstlineno)
