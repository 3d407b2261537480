"""``FILE.py:NAME`` for things that are not models: a user's transform, a file that registers models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.core.errors import BadInput
from assay.sources.python_file import load_file


def user_transform(spec: str) -> Callable[[Any], Any]:
    """The function of ``--preprocess FILE.py:fn``.  Raises BadInput, listing what the file has."""
    path, colon, name = spec.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise BadInput(f"{spec!r} does not name a function", remedy="--preprocess FILE.py:function")
    module = _loaded(Path(path))
    function = getattr(module, name, None)
    if not callable(function):
        known = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
        raise BadInput(f"{path} has no function {name!r}; it has: {', '.join(known) or 'none'}")
    found: Callable[[Any], Any] = function
    return found


def register_file(path: Path) -> None:
    """Run a user's file so that its ``@assay.register_model`` functions are known.  Raises BadInput."""
    _loaded(path)


def _loaded(path: Path) -> ModuleType:
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    return load_file(path)
