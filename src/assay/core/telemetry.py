"""Import a library without its maker being told.

``openvino`` and ``nncf`` send an event to a statistics service when they are imported and used,
through a package of its own, and work without it: each has a stub for where it is missing.  So it
is made to look missing during the first import.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_CLIENT = "openvino_telemetry"


def import_untold(name: str) -> ModuleType:
    """``importlib.import_module(name)`` with the statistics client out of reach.  Raises ImportError."""
    if name in sys.modules:
        return importlib.import_module(name)
    before = {key: module for key, module in sys.modules.items() if key.partition(".")[0] == _CLIENT}
    for key in before:
        del sys.modules[key]
    sys.modules[_CLIENT] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[_CLIENT]
        sys.modules.update(before)
