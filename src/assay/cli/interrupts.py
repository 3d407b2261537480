"""Ctrl-C that is not lost.

Python raises KeyboardInterrupt wherever it happens to be, and in a destructor or a library's callback
it is printed and forgotten.  The handler here also remembers it, and the next stage stops.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

_seen = threading.Event()


def install() -> None:
    """Remember SIGINT besides raising KeyboardInterrupt, and let SIGTERM end the process as an exit does: with its
    children, locks and temporary folders.  Only in a process's main thread."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _interrupted)
        signal.signal(signal.SIGTERM, _ended)


def check() -> None:
    """Raise KeyboardInterrupt if one came and was lost."""
    if _seen.is_set():
        _seen.clear()
        raise KeyboardInterrupt


def _ended(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _interrupted(number: int, frame: FrameType | None) -> None:
    _seen.set()
    raise KeyboardInterrupt
