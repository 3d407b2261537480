"""One writer at a time: a lock on an open file, which ends with the process that holds it."""

from __future__ import annotations

import sys
from typing import IO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


def hold(file: IO[str]) -> None:
    """Take the lock, until ``file`` is closed.  Raises OSError, at once, where another process holds it."""
    if sys.platform == "win32":
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
