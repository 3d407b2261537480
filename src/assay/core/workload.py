"""Workload: how a session is pressed, and when to stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from assay.core.errors import BadInput
from assay.core.units import Seconds


@dataclass(frozen=True)
class StopRule:
    """Stop at ``max_s`` seconds or ``max_calls``; before that, no sooner than ``min_calls`` and not
    before the median's interval is narrower than ``within`` (a fraction; 0 turns that off)."""

    min_calls: int = 20
    max_calls: int = 100_000
    max_s: Seconds = 3.0
    within: float = 0.02

    def __post_init__(self) -> None:
        if self.min_calls < 1 or self.max_calls < self.min_calls or self.max_s <= 0:
            raise BadInput(f"a stop rule that never lets anything run: {self}")


@dataclass(frozen=True)
class Workload:
    """``scenario`` is ``latency`` (one caller) or ``offline`` (the session's own parallelism)."""

    scenario: str = "latency"
    batch: int = 1
    stop: StopRule = StopRule()
    warmup_s: Seconds = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise BadInput(f"a batch holds at least one row, not {self.batch}")

    def conditions(self) -> dict[str, Any]:
        """The part of a Record's ``conditions`` this decides."""
        return {"scenario": self.scenario, "batch": self.batch, "seed": self.seed, **asdict(self.stop)}
