"""The only clock.  Durations come from ``now()``; tests may put another in its place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from assay.core.units import Seconds


@dataclass(frozen=True)
class Clock:
    """``now`` is monotonic, in seconds; ``wall`` is the calendar time, for labels only."""

    now: Callable[[], Seconds]
    sleep: Callable[[Seconds], None]
    wall: Callable[[], datetime]


def _utc() -> datetime:
    return datetime.now(UTC)


REAL = Clock(now=time.perf_counter, sleep=time.sleep, wall=_utc)
_current = REAL


def now() -> Seconds:
    """Monotonic seconds since an arbitrary origin."""
    return _current.now()


def sleep(duration_s: Seconds) -> None:
    _current.sleep(duration_s)


def timestamp() -> str:
    """The calendar time as ISO 8601 in UTC, for labels; never subtract two of these."""
    return _current.wall().isoformat(timespec="seconds")


def current() -> Clock:
    """The clock in force; hot loops bind ``current().now`` once."""
    return _current


@contextlib.contextmanager
def use(clock: Clock) -> Iterator[Clock]:
    """Put ``clock`` in force for the block.  For tests: one process has one clock."""
    global _current
    before, _current = _current, clock
    try:
        yield clock
    finally:
        _current = before
