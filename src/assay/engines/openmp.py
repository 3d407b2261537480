"""The idle OpenMP team that the calling thread leaves behind, released.

GNU's OpenMP keeps the team of every thread that ever ran a parallel region.  Once the teams of a process have more
threads than it has cores, idle members sleep almost at once instead of spinning for a few milliseconds, and each
small operator pays for waking them: a network of forty operators was seen to take 1.5 ms at best where it takes
0.57 ms with one team (two cores).  A session's workers have teams of their own, so whoever built the module should
not keep one.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

_HARD = 2  # omp_pause_hard, OpenMP 5.0 section 3.2.44


def release_idle_team() -> bool:
    """Release the calling thread's team in the OpenMP library that torch brought; True when it was done.

    The next parallel region of this thread makes a new one.  False where torch has another OpenMP library, or where
    the thread is inside a parallel region.
    """
    import torch

    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        pause = getattr(ctypes.CDLL(str(path)), "omp_pause_resource_all", None)
        if pause is not None:
            return bool(pause(_HARD) == 0)
    return False
