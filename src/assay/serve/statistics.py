"""What one served version has done, in the form of Triton's statistics extension.

Counts and durations are per request except ``execution_count`` and ``batch_stats``, which are per
batch; a batch's compute durations are charged once to the batch and to each of its requests, as
Triton does.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from assay.core.units import Seconds

PHASES = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
FAILURES = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
Spans = tuple[Seconds, Seconds, Seconds]


@dataclass
class Duration:
    count: int = 0
    total_s: Seconds = 0.0

    def add(self, duration_s: Seconds, count: int = 1) -> None:
        self.count += count
        self.total_s += duration_s

    def to_json(self) -> dict[str, int]:
        return {"count": self.count, "ns": round(1e9 * self.total_s)}


@dataclass
class _Batches:
    """All batches of one size: seconds of gathering, inference and handing out."""

    count: int = 0
    spans: list[Seconds] = field(default_factory=lambda: [0.0, 0.0, 0.0])


@dataclass(frozen=True)
class BatchDone:
    """``queued_s`` and ``total_s`` have one entry per request; ``rows`` counts the batch's rows."""

    rows: int
    spans: Spans
    queued_s: Sequence[Seconds]
    total_s: Sequence[Seconds]


class ModelStatistics:
    """Any thread may add and read."""

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self._lock = threading.Lock()
        self._phases = {name: Duration() for name in PHASES}
        self._batches: dict[int, _Batches] = {}
        self.failures = dict.fromkeys(FAILURES, 0)
        self.drops: dict[str, int] = {}
        self._inferences = 0
        self._executions = 0
        self._last_ms = 0

    def batch(self, done: BatchDone, wall_ms: int) -> None:
        """One batch was answered; ``wall_ms`` is the calendar time in milliseconds since 1970."""
        count = len(done.total_s)
        with self._lock:
            phases = self._phases
            phases["success"].add(sum(done.total_s), count)
            phases["queue"].add(sum(done.queued_s), count)
            entry = self._batches.get(done.rows)
            if entry is None:
                entry = self._batches[done.rows] = _Batches()
            entry.count += 1
            for index, name in enumerate(("compute_input", "compute_infer", "compute_output")):
                phases[name].add(done.spans[index] * count, count)
                entry.spans[index] += done.spans[index]
            self._inferences += done.rows
            self._executions += 1
            self._last_ms = wall_ms

    def failed(self, reason: str, duration_s: Seconds, drop: str = "") -> None:
        """One request was answered with an error; ``reason`` is one of ``FAILURES``, ``drop`` the batcher's name."""
        with self._lock:
            self._phases["fail"].add(duration_s)
            self.failures[reason] += 1
            if drop:
                self.drops[drop] = self.drops.get(drop, 0) + 1

    def totals(self) -> dict[str, Any]:
        """``phases`` (name -> Duration), ``failures``, ``drops``, ``inferences``, ``executions``: one moment's copy."""
        with self._lock:
            return {
                "phases": {n: Duration(d.count, d.total_s) for n, d in self._phases.items()},
                "failures": dict(self.failures),
                "drops": dict(self.drops),
                "inferences": self._inferences,
                "executions": self._executions,
                "batches": {size: entry.count for size, entry in sorted(self._batches.items())},
            }

    def to_json(self) -> dict[str, Any]:
        """One element of ``model_stats``."""
        with self._lock:
            batches = [
                {
                    "batch_size": size,
                    **{
                        name: Duration(entry.count, span).to_json()
                        for name, span in zip(
                            ("compute_input", "compute_infer", "compute_output"), entry.spans, strict=True
                        )
                    },
                }
                for size, entry in sorted(self._batches.items())
            ]
            return {
                "name": self.name,
                "version": self.version,
                "last_inference": self._last_ms,
                "inference_count": self._inferences,
                "execution_count": self._executions,
                "inference_stats": {name: d.to_json() for name, d in self._phases.items()},
                "response_stats": {},
                "batch_stats": batches,
                "memory_usage": [],
            }
