"""Callers on threads of their own that begin together, and are all over before anybody hears of it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from assay.core import clock
from assay.core.errors import BadInput
from assay.core.units import Seconds


def call_together(caller: Callable[[int], object], count: int, stop: threading.Event) -> Seconds:
    """Run ``caller(0)`` … ``caller(count - 1)`` at the same time; the seconds from the common start to the last end.

    ``stop`` is set when one fails, when a thread cannot be started and when the waiting is interrupted; callers
    look at it.  All threads have ended when this returns or raises: the first failure, or BadInput for more
    threads than the system gives.
    """
    failures: list[BaseException] = []
    gate = threading.Barrier(count + 1)

    def run(place: int) -> None:
        try:
            gate.wait()
        except threading.BrokenBarrierError:  # another one could not be started
            return
        try:
            caller(place)
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=run, args=(i,), name=f"caller-{i}") for i in range(count)]
    try:
        for thread in threads:
            _start(thread, count)
        gate.wait()
        started_s = clock.now()
        for thread in threads:
            thread.join()
        span_s = clock.now() - started_s
    except BaseException:
        stop.set()
        gate.abort()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise
    if failures:
        raise failures[0]
    return span_s


def _start(thread: threading.Thread, count: int) -> None:
    try:
        thread.start()
    except RuntimeError as error:
        raise BadInput(f"{count} threads were asked for: {error}", remedy="ask for fewer callers at a time") from None
