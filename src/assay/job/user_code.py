"""``FILE.py:NAME`` for things that are not models: a user's transform, a file that registers models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.core.errors import BadInput
from assay.sources.python_file import load_file


def transform_file(spec: str) -> tuple[Path, str]:
    """FILE and name of ``--preprocess FILE.py:fn``, which is not run.  Raises BadInput for another form or no file."""
    path, _, name = spec.rpartition(":")
    if not path.endswith(".py") or not name.isidentifier():
        raise BadInput(f"{spec!r} does not name a function", remedy="--preprocess FILE.py:function")
    return _there(Path(path)), name


def user_transform(spec: str) -> Callable[[Any], Any]:
    """The function of ``--preprocess FILE.py:fn``.  Raises BadInput, listing what the file has."""
    path, name = transform_file(spec)
    module = _loaded(path)
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
    return load_file(_there(path))


def _there(path: Path) -> Path:
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    return path
