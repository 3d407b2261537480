"""``NAME?arg=value&other=value`` -> a name and typed arguments; and what comes of wrong ones."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from assay.core.errors import AssayError, BadInput

_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}


def split_arguments(text: str) -> tuple[str, dict[str, Any]]:
    """``resnet18?in_chans=1&drop_rate=0.1`` -> ``("resnet18", {"in_chans": 1, "drop_rate": 0.1})``.

    Values are read as int, float, bool, None, a tuple of numbers (``img_size=96,128``), else text.
    Raises BadInput for an argument without a value or given twice.
    """
    name, _, query = text.partition("?")
    arguments: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if not equals or not key.isidentifier():
            raise BadInput(f"{part!r} in {text!r} is not an argument", remedy="write it like in_chans=1")
        if key in arguments:
            raise BadInput(f"the argument {key!r} is given twice in {text!r}")
        arguments[key] = _value(unquote(value))
    return name, arguments


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all are known of text that is no value
        return text
    if isinstance(value, tuple) and all(isinstance(v, int | float) for v in value):
        return value
    return value if isinstance(value, int | float) else text


def call_builder(builder: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """``builder(**arguments)`` where whatever goes wrong becomes a BadInput that names ``what``."""
    try:
        return builder(**arguments)
    except AssayError:
        raise
    except Exception as error:
        given = ", ".join(f"{k}={v!r}" for k, v in arguments.items()) or "no arguments"
        raise BadInput(
            f"{what} could not be built with {given}: {type(error).__name__}: {first_line(error)}",
            remedy="check the arguments after the question mark" if arguments else None,
        ) from error


def first_line(error: BaseException) -> str:
    """The first non-empty line of an error's message, at most 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else "no message")[:300]
