"""The decode pool: pictures become rows beside the event loop and the instances."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable

from assay.core import clock
from assay.core.units import Seconds
from assay.serve.errors import UNAVAILABLE, ServeError

MOST_WAITING = 1000


class DecodePool:
    """``threads`` threads that run tasks in order of arrival; tasks must not raise.

    ``threading`` alone: an executor's futures cost more than a small picture's header.
    """

    def __init__(self, threads: int, most_waiting: int = MOST_WAITING) -> None:
        self._most = most_waiting
        self._tasks: deque[Callable[[], None]] = deque()
        self._ready = threading.Semaphore(0)
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"decode-{index}", daemon=True) for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Callable[[], None]) -> None:
        """Raises ServeError (unavailable) when too many wait or the pool is closed."""
        if self._closed:
            raise ServeError(UNAVAILABLE, "the server is shutting down", reason="closed")
        if len(self._tasks) >= self._most:
            raise ServeError(UNAVAILABLE, f"{self._most} pictures already wait", retry_after_s=1.0, reason="rejected")
        self._tasks.append(task)
        self._ready.release()

    def close(self, within_s: Seconds = 5.0) -> bool:
        """Finish what waits, then end the threads.  Whether they ended: one that hangs in a task is left behind."""
        self._closed = True
        for _ in self._threads:
            self._ready.release()
        until_s = clock.now() + within_s
        for thread in self._threads:
            thread.join(max(0.0, until_s - clock.now()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        _unhurried()
        while True:
            self._ready.acquire()
            try:
                task = self._tasks.popleft()
            except IndexError:
                if self._closed:
                    return
                continue
            task()
            del task


def _unhurried() -> None:
    """This thread, woken up, does not push an engine's thread off its core in the middle of a layer: the core's caches
    would be filled twice.  Where the system knows no such threads, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
