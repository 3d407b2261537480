"""How long each stage was busy, added up over threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from assay.core import clock
from assay.core.units import Seconds

STAGES = ("read", "preprocess", "infer", "post")


@dataclass
class StageTime:
    """``samples`` and ``calls`` that went through, ``busy_s`` over all threads, first beginning and last end."""

    samples: int = 0
    calls: int = 0
    busy_s: Seconds = 0.0
    first_s: Seconds | None = None
    last_s: Seconds = 0.0

    def add(self, started_s: Seconds, ended_s: Seconds, samples: int) -> None:
        self.samples += samples
        self.calls += 1
        self.busy_s += ended_s - started_s
        self.first_s = started_s if self.first_s is None else min(self.first_s, started_s)
        self.last_s = max(self.last_s, ended_s)


class Stopwatch:
    """One for all threads.  A stage is entered once a batch, so the lock costs nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.stages = {name: StageTime() for name in STAGES}
        self.starved_s: Seconds = 0.0
        """Time workers waited for something to be read."""

    @contextmanager
    def stage(self, name: str, samples: int) -> Iterator[None]:
        """Time the block; one that raises is not counted."""
        started = clock.now()
        yield
        self.add(name, started, samples)

    def add(self, name: str, started_s: Seconds, samples: int) -> None:
        ended = clock.now()
        with self._lock:
            self.stages[name].add(started_s, ended, samples)

    def starved(self, seconds: Seconds) -> None:
        with self._lock:
            self.starved_s += seconds
