"""Functions and tables from a user's own Python file.  Opening one runs its code."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from assay.core.errors import BadInput, UnknownName

_USER_FUNCTION = re.compile(r"^.+\.py:[A-Za-z_]\w*$")


def is_user_function(text: str) -> bool:
    """Whether ``text`` reads ``FILE.py:function``."""
    return bool(_USER_FUNCTION.match(text))


def user_function(text: str) -> Any:
    """The callable that ``FILE.py:function`` names.  Raises BadInput or UnknownName."""
    file, _, name = text.rpartition(":")
    module = load_file(Path(file))
    if not hasattr(module, name):
        raise UnknownName(f"function in {file}", name, [n for n in vars(module) if not n.startswith("_")])
    function = getattr(module, name)
    if not callable(function):
        raise BadInput(f"{name} in {file} is not a function")
    return function


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own.  Raises BadInput when it is missing or fails."""
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    name = f"assay_user_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # onnxscript reads a function's source through its module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script may end Python when it is imported
        del sys.modules[name]
        raise BadInput(f"{path} could not be run: {type(error).__name__}: {error}") from error
    return module
