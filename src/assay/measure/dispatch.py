"""What a load is sent to: anything that takes requests without blocking and calls back when they are answered."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from assay.core.errors import AssayError
from assay.core.tensors import Array, Feed
from assay.core.units import Seconds

SWITCH_INTERVAL_S = 1e-4


class Answer(Protocol):
    """One request: when it was queued and started, and what it was given.

    All moments are of ``core.clock``.  ``error`` is None for one that was answered.  ``context`` is the
    caller's own, ``outputs`` may be let go of.
    """

    enqueued_s: Seconds
    started_s: Seconds
    finished_s: Seconds
    error: AssayError | None
    outputs: dict[str, Array] | None
    context: Any

    @property
    def done(self) -> bool: ...


OnDone = Callable[[Sequence[Any]], object]


class Dispatcher(Protocol):
    """Queues requests; ``on_done`` is called on another thread with those that were answered together.

    A request refused at once comes back ``done`` with its ``error``, and ``on_done`` is not called for it.  One that
    failed before ``submit_many`` was back looks the same, and ``on_done`` is called: whoever counts takes the
    ``context`` away from what was counted.
    """

    def submit_many(self, feeds: Sequence[Feed], on_done: OnDone, contexts: Sequence[Any] = ()) -> Sequence[Answer]: ...


@contextlib.contextmanager
def short_switches() -> Iterator[None]:
    """Threads hand the interpreter over sooner: at the default 5 ms a short call waits for its neighbour."""
    was = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        yield
    finally:
        sys.setswitchinterval(was)
