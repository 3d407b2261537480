"""Values out of parsed JSON, checked for their kind before they are believed.

A file may be damaged or made by hand, and a wrong kind must be told where the file is read,
not wherever the value is used first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
MOST_DEEP = 100
"""Levels of lists and objects; what goes through them calls itself, and Python allows a thousand calls in all."""
_DEEP = f"it is nested more than {MOST_DEEP} levels deep"
_LONGEST = 308
"""Digits of the largest float64."""


def field(data: Mapping[str, Any], name: str, kind: type[T] | tuple[type[T], ...]) -> T:
    """``data[name]``.  Raises KeyError where it is missing, TypeError where it is not a ``kind``."""
    value = data[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is a {type(value).__name__}")
    return value


def optional(data: Mapping[str, Any], name: str, kind: type[T] | tuple[type[T], ...]) -> T | None:
    """The same; None where it is null or missing."""
    return None if data.get(name) is None else field(data, name, kind)


def number(data: Mapping[str, Any], name: str) -> float | None:
    """``data[name]`` as a finite float; None where it is null or missing.

    Raises TypeError for another kind, ValueError for a number that no float64 holds (JSON has such).
    """
    value = optional(data, name, (float, int))
    if value is None:
        return None
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ValueError(f"{name} is beyond all numbers")
    return found


def loads(text: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """JSON of the kind this package writes: no NaN, no number that no float64 holds, at most MOST_DEEP levels.

    ``pairs`` is ``json.loads``'s ``object_pairs_hook``.  Raises ValueError.
    """
    try:
        value = json.loads(
            text, object_pairs_hook=pairs, parse_constant=_no_constant, parse_int=_whole, parse_float=_finite
        )
    except RecursionError:
        raise ValueError(_DEEP) from None
    level = [value]
    for _ in range(MOST_DEEP):
        level = [inner for outer in level for inner in _within(outer) if isinstance(inner, dict | list)]
        if not level:
            return value
    raise ValueError(_DEEP)


def _within(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _whole(text: str) -> int:
    if len(text) > _LONGEST:
        raise ValueError(f"{text[:20]}… is beyond all numbers")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is beyond all numbers")
    return value


def each(data: Mapping[str, Any], name: str, kind: type[T]) -> tuple[T, ...]:
    """The list ``data[name]``, each element a ``kind``.  Raises KeyError, TypeError."""
    values: list[Any] = field(data, name, list)
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"{name} holds a {type(value).__name__}")
    return tuple(values)
