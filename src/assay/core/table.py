"""Tables of ``"name": "package.module:attribute"``, resolved only when used.

A table is a plain dict that a reader can see; nothing registers itself.  Names
that come from a bundle or a config file are looked up here and are therefore
table keys, never import paths.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from assay.core.errors import UnknownName


def load(target: str) -> Any:
    """``"package.module:attribute"`` -> the attribute.  The target must come from a table."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def resolve(table: Mapping[str, str], name: str, kind: str) -> Any:
    """Look ``name`` up and import it.

    Raises UnknownName, with near names, when the table has no such key.
    """
    try:
        target = table[name]
    except KeyError:
        raise UnknownName(kind, name, table) from None
    return load(target)
