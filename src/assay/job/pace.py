"""A budget kept: nothing begins that cannot end within it, as estimated from what was measured so far."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from assay.core import clock
from assay.core.units import Seconds, format_seconds


@dataclass
class Pace:
    """``ends_s`` is the moment (of core's clock) at which the budget is spent, infinite without one.

    ``cut`` tells, in words, what was left out since it would not have fit.  Kinds of work are named by the caller;
    what is known of a kind is how long it took the last time, since a machine's load changes.
    """

    ends_s: Seconds = math.inf
    cut: list[str] = field(default_factory=list)
    _took: dict[str, Seconds] = field(default_factory=dict)
    _from_s: Seconds | None = None

    def left(self) -> Seconds:
        """Until the budget is spent; below zero afterwards."""
        return self.ends_s - clock.now()

    def share_out(self) -> None:
        """Shares are of what is left from now on."""
        self._from_s = clock.now()

    def at(self, share: float) -> Seconds:
        """The moment at which ``share`` of what was left is spent; 1 is the budget's end."""
        if math.isinf(self.ends_s):
            return self.ends_s
        begin = clock.now() if self._from_s is None else self._from_s
        return begin + share * max(0.0, self.ends_s - begin)

    @contextlib.contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Remember how long the block took; one that raised ended early and says nothing."""
        started = clock.now()
        yield
        self.learn(kind, clock.now() - started)

    def learn(self, kind: str, took_s: Seconds) -> None:
        self._took[kind] = max(0.0, took_s)

    def known(self, kind: str, unknown_s: Seconds = 0.0) -> Seconds:
        """What ``kind`` took the last time; ``unknown_s`` where it was never done."""
        return self._took.get(kind, unknown_s)

    def longest(self, prefix: str, unknown_s: Seconds = 0.0) -> Seconds:
        """The longest of the kinds whose names begin with ``prefix``."""
        return max((s for kind, s in self._took.items() if kind.startswith(prefix)), default=unknown_s)

    def fits(self, what: str, needs_s: Seconds, until_s: Seconds | None = None) -> bool:
        """Whether ``needs_s`` from now end by ``until_s`` (None: by the budget's end); what does not fit is cut."""
        left = (self.ends_s if until_s is None else min(until_s, self.ends_s)) - clock.now()
        if needs_s <= left:
            return True
        there = format_seconds(max(0.0, left))
        self.cut.append(f"{what}: about {format_seconds(needs_s)} were needed, {there} of the time for it were left")
        return False
