"""JSON files of a bundle: written canonically, read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.checked import loads
from assay.core.errors import BadInput, StorageFailed

MAX_BYTES = 32 * 2**20
"""Empty lists take thirty times their two bytes once they are read."""


def write_json(path: Path, value: Any) -> None:
    """Two-space indented JSON, keys in the order given.  Raises StorageFailed, BadInput for NaN."""
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError as error:
        raise BadInput(f"{path.name} cannot be written as JSON: {error}") from error
    try:
        path.write_bytes(as_utf8(text + "\n"))
    except OSError as error:
        raise StorageFailed(f"cannot write {path}: {error.strerror}") from error


def as_utf8(text: str) -> bytes:
    """JSON text in UTF-8; bytes of a path that are no UTF-8 (lone surrogates here) become JSON's escapes of them."""
    return text.encode("utf-8", "backslashreplace")


def read_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises BadInput for a missing, huge, corrupt or ambiguous file: a key that stands twice in one
    object could be read differently by two programs.
    """
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path} is too large for a JSON file of a bundle ({path.stat().st_size} bytes)")
    try:
        text = path.read_text(encoding="utf-8")
        return loads(text, _unique)
    except ValueError as error:
        raise BadInput(f"{path} is not valid JSON: {error}") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object.  Raises BadInput."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise BadInput(f"{path} holds a JSON {type(value).__name__}, not an object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
