"""Pending: the requests that wait, in lanes that may share a batch.

A *lane* holds requests whose feeds fit together (same row shapes, same unbatched inputs).
Within a lane there is one FIFO per priority level and a last one for requests that missed
their deadline but are still to be served.  Nothing here is thread-safe.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator
from itertools import chain

from assay.batching.request import Request
from assay.core.units import Seconds

KEPT_LANES = 8
"""Empty lanes are forgotten beyond this many, so that odd shapes leave nothing behind."""


class Solo:
    """The lane of a request that may share a batch with no other: every instance differs from all others."""

    __slots__ = ()


class Lane:
    """``rows`` wait here; ``timed`` of the requests have a deadline.  The last level holds the late ones."""

    __slots__ = ("key", "levels", "mergeable", "rows", "timed")

    def __init__(self, key: Hashable, levels: int) -> None:
        self.key = key
        self.mergeable = not isinstance(key, Solo)
        self.levels: tuple[deque[Request], ...] = tuple(deque() for _ in range(levels + 1))
        self.rows = 0
        self.timed = 0

    def head(self) -> Request | None:
        """The next request to serve."""
        for level in self.levels:
            if level:
                return level[0]
        return None

    def oldest_s(self) -> Seconds:
        """When the oldest waiting request came: not always the head's time, where there are priorities."""
        return min((level[0].enqueued_s for level in self.levels if level), default=math.inf)

    def __iter__(self) -> Iterator[Request]:
        """Waiting requests in the order in which they will be served."""
        return chain.from_iterable(self.levels)

    def is_late(self, request: Request) -> bool:
        """Whether ``request``, this lane's head, has missed its deadline and is served all the same."""
        late = self.levels[-1]
        return bool(late) and late[0] is request


class Pending:
    """``count`` requests wait, in any number of lanes."""

    def __init__(self, levels: int) -> None:
        self.count = 0
        self._levels = levels
        self._rows = [0] * (levels + 1)
        self._lanes: dict[Hashable, Lane] = {}
        self._sequence = 0

    @property
    def rows(self) -> int:
        return sum(self._rows)

    def rows_before(self, priority: int) -> int:
        """Rows that are served before a new request of ``priority``, whatever their lanes."""
        return self._rows[0] if self._levels == 1 else sum(self._rows[:priority])

    def add(self, request: Request) -> Lane:
        lane = self._lanes.get(request.lane)
        if lane is None:
            lane = self._lanes[request.lane] = Lane(request.lane, self._levels)
        self._sequence += 1
        request.sequence = self._sequence
        level = request.priority - 1
        lane.levels[level].append(request)
        lane.rows += request.rows
        lane.timed += request.deadline_s < math.inf
        self._rows[level] += request.rows
        self.count += 1
        return lane

    def pop(self, lane: Lane, level: int) -> Request:
        """Take the first request of one of ``lane``'s levels."""
        request = lane.levels[level].popleft()
        self.left(lane, level, 1, request.rows, request.deadline_s < math.inf)
        return request

    def remove(self, request: Request) -> None:
        """Take a waiting request out of the middle; linear in the number of requests that wait."""
        lane = self._lanes[request.lane]
        level = request.priority - 1
        if request not in lane.levels[level]:
            level = self._levels
        lane.levels[level].remove(request)
        self.left(lane, level, 1, request.rows, request.deadline_s < math.inf)

    def postpone(self, lane: Lane, level: int) -> None:
        """Put the first request of ``level`` behind all others; it has no deadline any more."""
        request = lane.levels[level].popleft()
        lane.timed -= 1
        request.deadline_s = math.inf
        self._rows[level] -= request.rows
        self._rows[self._levels] += request.rows
        lane.levels[self._levels].append(request)

    def lanes(self) -> list[Lane]:
        """Lanes in which something waits, the first to be served in front: by priority, then age, late ones last."""
        found = [lane for lane in self._lanes.values() if lane.rows]
        if len(found) > 1:
            found.sort(key=_urgency)
        return found

    def drain(self) -> list[Request]:
        """Everything that waits, in order of arrival; nothing waits afterwards."""
        everything = sorted(chain.from_iterable(self._lanes.values()), key=lambda r: r.sequence)
        self._lanes.clear()
        self._rows = [0] * (self._levels + 1)
        self.count = 0
        return everything

    def left(self, lane: Lane, level: int, count: int, rows: int, timed: int) -> None:
        """``count`` requests, ``timed`` of them with a deadline, no longer stand in ``lane``'s ``level``."""
        lane.rows -= rows
        lane.timed -= timed
        self._rows[level] -= rows
        self.count -= count
        if lane.rows == 0 and len(self._lanes) > KEPT_LANES:
            self._lanes.pop(lane.key, None)


def _urgency(lane: Lane) -> tuple[bool, int, int]:
    head = lane.head()
    if head is None:  # never among lanes in which something waits
        return True, 0, 0
    return lane.is_late(head), head.priority, head.sequence
