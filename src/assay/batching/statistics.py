"""What a batcher has done so far: running totals, and the snapshot people are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from assay.batching.batch_times import SizeTimes
from assay.core.units import Seconds

DROP_REASONS = ("rejected", "expired", "cancelled", "closed", "failed")


@dataclass(frozen=True)
class BatcherStatistics:
    """An immutable snapshot; every count is since the batcher was made.

    ``submitted`` = ``completed`` + ``pending`` + ``running`` + all ``dropped``.  A batch's size in
    ``batches`` is its rows without padding; ``queue_s`` sums over requests, ``compute_s`` over
    batches.  ``times`` compares predicted with actual t(b), by the size run (padding included).
    """

    submitted: int
    completed: int
    pending: int
    running: int
    dropped: Mapping[str, int]
    batches: Mapping[int, int]
    rows: int
    padded_rows: int
    queue_s: Seconds
    compute_s: Seconds
    isolated_batches: int
    """Merged batches that failed and whose requests were run again one by one."""
    callback_errors: int
    times: tuple[SizeTimes, ...]

    @property
    def executions(self) -> int:
        return sum(self.batches.values())

    @property
    def mean_batch(self) -> float | None:
        """Rows per execution; None before the first."""
        return self.rows / self.executions if self.executions else None


@dataclass
class Counters:
    """The running totals behind the snapshot; changed under the scheduler's lock."""

    submitted: int = 0
    completed: int = 0
    running: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROP_REASONS, 0))
    batches: dict[int, int] = field(default_factory=dict)
    rows: int = 0
    padded_rows: int = 0
    queue_s: Seconds = 0.0
    compute_s: Seconds = 0.0
    isolated_batches: int = 0
    callback_errors: int = 0

    def snapshot(self, pending: int, times: tuple[SizeTimes, ...]) -> BatcherStatistics:
        return BatcherStatistics(
            submitted=self.submitted,
            completed=self.completed,
            pending=pending,
            running=self.running,
            dropped=MappingProxyType(dict(self.dropped)),
            batches=MappingProxyType(dict(sorted(self.batches.items()))),
            rows=self.rows,
            padded_rows=self.padded_rows,
            queue_s=self.queue_s,
            compute_s=self.compute_s,
            isolated_batches=self.isolated_batches,
            callback_errors=self.callback_errors,
            times=times,
        )
