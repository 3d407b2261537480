"""``FILE.py:NAME[?arg=value&…]``: a user's own file.

NAME is a name the file gives to ``@register_model``, an ``nn.Module`` class, a function that returns
a module, or a module.  Loading the file runs it, and it is named as code that ran.  What else the
builder may say about its model stands in ``built.from_builder``.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.machinery
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from assay.core.artifact import digest_file
from assay.core.errors import AssayError, BadInput, suggest
from assay.sources import registry
from assay.sources.arguments import first_line, split_arguments
from assay.sources.built import defining_file, from_builder
from assay.sources.options import Architecture, SourceOptions
from assay.sources.torchvision_ops import make_importable

_PREFIX = "assay_user_"
# Modules that came from beside a user's file: name -> (file, digest when it was loaded).
_beside: dict[str, tuple[Path, str]] = {}
_loaded: dict[str, str] = {}


def open_source(spec: str, options: SourceOptions) -> Architecture:
    """Load the file, build NAME.  Raises BadInput for a missing NAME (listing what there is) or for
    whatever the user's code raises, with its line."""
    path, name = file_and_name(spec)
    _, separator, query = spec.partition("?")
    _, arguments = split_arguments(f"{name}{separator}{query}")
    identity = {"builder": "file", "file": path.name, "name": name, "arguments": arguments}
    with _at_home(path):
        module = load_file(path)
        builder = _find(module, name, path)
        try:
            built = from_builder(builder, (name, spec), identity, options)
        except AssayError as error:
            if error.__cause__ is not None:
                error.message += _line_in(path, error.__cause__)
            raise
    defined = defining_file(builder)
    code = (path,) if defined is None or defined == path else (path, defined)
    return replace(built, code=code, runs_code=(str(path),))


def file_and_name(spec: str) -> tuple[Path, str]:
    """FILE and NAME.  Raises BadInput where there is no NAME, listing what the file has; it is not run."""
    head = spec.partition("?")[0]
    file, colon, name = head.rpartition(":")
    if not colon or not name:
        path = Path(head.rstrip(":"))
        found = _offered_by_source(path)
        remedy = f"say which: {path}:{found[0]}" if found else f"write {path}:NAME"
        names = ", ".join(found) or "none"
        raise BadInput(f"{path} needs the name of a model in it; there are: {names}", remedy=remedy)
    return Path(file), name


def load_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its own name; again only when it, or a file beside it, changed.

    Raises BadInput with the line for whatever it raises.
    """
    resolved = path.resolve()
    name = f"{_PREFIX}{resolved.stem}_{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"
    digest = digest_file(resolved)
    if _loaded.get(name) == digest and name in sys.modules and not _forget_stale(resolved.parent):
        return sys.modules[name]
    _forget_beside()
    registry.forget(name)
    loader = _Fresh(name, str(resolved))
    spec = importlib.util.spec_from_file_location(name, resolved, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        make_importable()
        with _at_home(path):
            loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        _loaded.pop(name, None)
        registry.forget(name)
        if isinstance(error, AssayError):
            raise
        raise _failed(path, error) from error
    _loaded[name] = digest
    return module


class _Fresh(importlib.machinery.SourceFileLoader):
    """Compiles the source each time: a cached ``.pyc`` may be older than an edit of the same second."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


@contextlib.contextmanager
def _at_home(path: Path) -> Iterator[None]:
    """The file's folder comes first in ``sys.path``; what is imported from it is remembered, since
    another file's folder may hold modules of the same names."""
    folder = path.resolve().parent
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = Path(getattr(sys.modules[name], "__file__", None) or "")
            ours = name.partition(".")[0] == "assay" or name.startswith(_PREFIX)
            if file.is_relative_to(folder) and "site-packages" not in file.parts and not ours:
                _beside[name] = (file, digest_file(file))


def _forget_stale(folder: Path) -> bool:
    """Whether a module from ``folder`` changed on disk, or one of another folder stands in its way."""
    for file, digest in _beside.values():
        if file.is_relative_to(folder):
            if not file.is_file() or digest_file(file) != digest:
                return True
        elif (folder / file.name).exists():
            return True
    return False


def _forget_beside() -> None:
    for name in list(_beside):
        sys.modules.pop(name, None)
        del _beside[name]
    importlib.invalidate_caches()


def _find(module: ModuleType, name: str, path: Path) -> Any:
    from torch import nn

    if registry.is_registered(name) and registry.registered(name).__module__ == module.__name__:
        return registry.registered(name)
    found = getattr(module, name, None)
    if isinstance(found, nn.Module) or (callable(found) and not inspect.isclass(found)):
        return found
    if inspect.isclass(found) and issubclass(found, nn.Module):
        return found
    offered = _offered(module)
    if registry.is_registered(name):
        return registry.registered(name)
    what = f"{name!r} in {path} is a {type(found).__name__}" if found is not None else f"{path} has no model {name!r}"
    near = suggest(name, offered)
    raise BadInput(
        f"{what}; there are: {', '.join(offered) or 'none'}",
        remedy=f"did you mean {path}:{near[0]}?" if near else "name a registered model, a module class or a function",
    )


def _offered(module: ModuleType) -> list[str]:
    """Registered names, then module classes and functions that the file defines itself."""
    from torch import nn

    names = [n for n in registry.registered_names() if registry.registered(n).__module__ == module.__name__]
    for name, value in vars(module).items():
        if name.startswith("_"):
            continue
        own = getattr(value, "__module__", None) == module.__name__
        is_class = inspect.isclass(value) and issubclass(value, nn.Module)
        if isinstance(value, nn.Module) or (own and (is_class or inspect.isfunction(value))):
            names.append(name)
    return list(dict.fromkeys(names))


def _offered_by_source(path: Path) -> list[str]:
    """Public functions and classes, read from the text: nothing runs when no model was named."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return []
    return [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")]


def _failed(path: Path, error: BaseException) -> BadInput:
    if isinstance(error, SyntaxError):
        broken = error.filename or path  # perhaps a file that it imports
        return BadInput(f"{broken} is not valid Python: {error.msg} (line {error.lineno})")
    remedy = f"pip install {error.name}" if isinstance(error, ModuleNotFoundError) and error.name else None
    where = _line_in(path, error)
    said = f"{type(error).__name__}: {first_line(error)}{where}"
    return BadInput(f"{path} failed while it was loaded: {said}", remedy=remedy)


def _line_in(path: Path, error: BaseException) -> str:
    """The innermost line of the user's file in an error's traceback."""
    resolved = str(path.resolve())
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == resolved]
    return f" ({path}, line {lines[-1]})" if lines else ""
