"""Ends this process before it takes the machine's memory.

A graph of a few bytes may make gigabytes while an engine opens it, inside a library that no signal interrupts.  The
system would end the process too, without a word, or another one in its place.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from assay.core.child import MEMORY, most_of_memory, resident
from assay.core.errors import EngineFailed
from assay.core.units import Bytes, Seconds, format_bytes

POLL_S: Seconds = 0.1


def install(report: Callable[[EngineFailed], int]) -> None:
    """Look at this process's memory from now on; at the limit ``report`` says so and the process ends with its code.

    The limit is what the process holds already and what ``most_of_memory`` grants; ``ASSAY_MEMORY`` counts both.
    Raises BadInput for an ``ASSAY_MEMORY`` that is no size.  Does nothing where no limit is told.
    """
    most = most_of_memory()
    if most is None:
        return
    limit = most if os.environ.get(MEMORY) else resident(os.getpid()) + most
    streams = os.dup(1), os.dup(2)
    threading.Thread(target=_watch, args=(limit, streams, report), name="assay-memory", daemon=True).start()


def _watch(limit: Bytes, streams: tuple[int, int], report: Callable[[EngineFailed], int]) -> None:
    pid, never = os.getpid(), threading.Event()
    while not never.wait(POLL_S):
        held = resident(pid)
        if held > limit:
            for number, stream in enumerate(streams, 1):  # where they led before a library was kept quiet
                os.dup2(stream, number)
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            os._exit(report(_told(held, limit)))


def _told(held: Bytes, limit: Bytes) -> EngineFailed:
    whose = f"{MEMORY} is" if os.environ.get(MEMORY) else "it may take nine tenths of what the machine had left,"
    return EngineFailed(
        f"ended at {format_bytes(held)} of memory; {whose} {format_bytes(limit)}",
        remedy="smaller --batch-sizes or inputs; a small file that does this to an engine may be meant to",
    )
