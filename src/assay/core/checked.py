"""Values out of parsed JSON, checked for their kind before they are believed.

A file may be damaged or made by hand, and a wrong kind must be told where the file is read,
not wherever the value is used first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def field(data: Mapping[str, Any], name: str, kind: type[T] | tuple[type[T], ...]) -> T:
    """``data[name]``.  Raises KeyError where it is missing, TypeError where it is not a ``kind``."""
    value = data[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def optional(data: Mapping[str, Any], name: str, kind: type[T] | tuple[type[T], ...]) -> T | None:
    """The same; None where it is null or missing."""
    return None if data.get(name) is None else field(data, name, kind)


def each(data: Mapping[str, Any], name: str, kind: type[T]) -> tuple[T, ...]:
    """The list ``data[name]``, each element a ``kind``.  Raises KeyError, TypeError."""
    values: list[Any] = field(data, name, list)
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"{name} holds a {type(value).__name__}")
    return tuple(values)
