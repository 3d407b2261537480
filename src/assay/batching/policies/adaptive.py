"""adaptive: work-conserving, sized from the measured t(b), aware of deadlines.

1. t(b) is profiled at load and refined online (``BatchTimes``: a quantile, not the mean;
   sizes are compared by their medians).
2. A free instance takes the largest b with now + t(b) at or before the earliest deadline among
   those b rows.  Requests that cannot finish even alone are dropped first, and so are those whose
   little time left would force a batch too small to keep up with the arrivals: one late request
   served in a small batch makes the ones behind it late (``hopeless``; the early drop of Nexus,
   SOSP 2019, with a window that follows the measured rate).
3. b is capped at the knee of b / t(b): the smallest size with ``KNEE_SHARE`` of the best rate.
   A larger batch would only add latency.  Below the knee, requests without deadlines are split where that
   makes them finish sooner on average (``_soonest``): on a CPU, where t(b) is nearly b t(1), all of a batch
   wait for its last row.  Only sizes that cost little of the best rate and keep up with the arrivals are
   considered, so that a server at its limit still batches.
4. A request whose predicted finish lies after its deadline is refused on arrival (``admits``).
5. It holds a batch back only when nothing runs, the callers of the last batch were learned to
   come back after a short gap, and merging with them saves more than that gap.  A closed loop
   otherwise falls into two groups that alternate for ever: N / (t(q) + t(k)) instead of
   N / (t(q + k) + gap).  One caller never waits for itself; arrivals that do not answer
   completions show long gaps, which turns holding off.
6. Compiled sizes are padded up to only where that gives more rows per second.

Without deadlines, where batches save much, this is ``eager`` with the knee cap; before anything was measured,
``eager``.
"""

from __future__ import annotations

import math
from collections import deque

from assay.batching.pending import Lane
from assay.batching.policies.base import Decision, Situation
from assay.batching.request import Request
from assay.core.units import PerSecond, Seconds

KNEE_SHARE = 0.97
EXPLORE_EVERY = 64
"""With a long queue every so many batches one ignores the knee, so that a large size that was once
measured slow is measured again.  Never where a deadline is at stake."""
METER_SHARE = 0.9
"""Heads that hold the batch below the size that serves this share of the arrivals are dropped."""
BUSIEST = 0.9
"""A size keeps up with arrivals that keep the instances busy for this share of the time at most."""
SPLIT_SHARE = 0.85
"""A batch is split only into sizes that have this share of the best rate."""
GAPS_KEPT = 16
GAPS_NEEDED = 8
GAP_SLACK = 1.2


class Adaptive:
    def __init__(self, situation: Situation) -> None:
        self._max_batch = situation.max_batch
        self._times = situation.times
        self._buckets = situation.buckets
        self._knee = situation.max_batch
        self._knee_version = -1
        self._batches = 0
        self._gaps: deque[Seconds] = deque(maxlen=GAPS_KEPT)
        self._gap_s = math.inf
        self._meter = situation.meter
        self._rate: PerSecond = 0.0
        self._best: PerSecond = 0.0
        self._split: dict[int, int] = {}
        self._split_version = -1
        self._target = 1
        self._instances = situation.instances
        self._returning = 0
        self._returning_since_s = 0.0

    def decide(self, lane: Lane, now_s: Seconds, running: int) -> Decision:
        cap = self.knee()
        rows = lane.rows
        if rows > cap:
            rows = cap
            if not lane.timed and self._batches % EXPLORE_EVERY == EXPLORE_EVERY - 1:
                rows = min(lane.rows, self._max_batch)
        if rows < cap and self._returning > 0 and not running:
            until_s = self._hold_until(lane, rows, cap, now_s)
            if until_s > now_s:
                return 0, until_s
        if lane.timed:
            rows = self._within_deadlines(lane, rows, now_s)
        elif rows > 1 and self._rate and self._times.known:
            rows = self._soonest(rows)
        return self._buckets.better(rows, self._times.typical), 0.0

    def least_s(self, rows: int) -> Seconds:
        return self._service_s(rows)

    def hopeless(self, lane: Lane, head: Request, now_s: Seconds) -> bool:
        rows = max(head.rows, min(self._target, lane.rows)) if head is lane.head() else head.rows
        return now_s + self._service_s(rows) > head.deadline_s

    def _service_s(self, rows: int) -> Seconds:
        return self._times.predict(self._buckets.up(rows))

    def admits(self, finish_s: Seconds, deadline_s: Seconds) -> bool:
        return finish_s <= deadline_s

    def planned_batch(self, left_s: Seconds) -> int:
        """The knee, or less where a batch of that size would take longer than there is time."""
        rows = self.knee()
        while rows > 1 and self._service_s(rows) > left_s:
            rows -= 1
        return rows

    def arrived(self, request: Request, now_s: Seconds) -> None:
        if self._returning > 0:
            self._returning -= request.rows
            if self._returning <= 0:
                self._learn(now_s - self._returning_since_s)

    def finished(self, rows: int, now_s: Seconds, running: int) -> None:
        self._batches += 1
        if self._meter.rate != self._rate:
            self._follow(self._meter.rate)
        if self._returning > 0:
            self._learn(math.inf)
        self._returning = rows
        self._returning_since_s = now_s

    def _follow(self, rate: PerSecond) -> None:
        """The smallest batch that keeps up with the arrivals, and sizes anew."""
        self._rate = rate
        self._split.clear()
        needed = METER_SHARE * self._rate / self._instances
        cap = self.knee()
        typical = self._times.typical
        self._target = next((b for b in self._buckets.sizes if b >= needed * typical(b)), cap)
        self._target = min(self._target, cap)

    def knee(self) -> int:
        """The smallest allowed size whose rows per second reach ``KNEE_SHARE`` of the best."""
        times = self._times
        if self._knee_version != times.version:
            self._knee_version = times.version
            rates = [(size / max(times.typical(size), 1e-9), size) for size in self._buckets.sizes]
            self._best = max(rates)[0]
            enough = KNEE_SHARE * self._best
            self._knee = next(size for rate, size in rates if rate >= enough) if times.known else self._max_batch
        return self._knee

    def _soonest(self, rows: int) -> int:
        """How many of ``rows`` waiting rows to take, so that all of them finish soonest on average.

        In goes of b rows, one after the other, the k-th finishes at k t(b): the mean is t(b) (1 + rows / b) / 2.
        """
        times = self._times
        if self._split_version != times.version:
            self._split_version = times.version
            self._split.clear()
        found = self._split.get(rows)
        if found is None:
            needed = max(self._rate / (BUSIEST * self._instances), SPLIT_SHARE * self._best)
            found, soonest_s = rows, times.typical(self._buckets.up(rows))
            for size in self._sizes_below(rows):
                took_s = times.typical(size)
                mean_s = took_s * (1 + math.ceil(rows / size)) / 2
                if size >= needed * took_s and mean_s < soonest_s:
                    found, soonest_s = size, mean_s
            self._split[rows] = found
        return found

    def _sizes_below(self, rows: int) -> list[int]:
        """Powers of two, where every size can be run: the others lie between them."""
        if self._buckets.any_size:
            return [1 << i for i in range((rows - 1).bit_length())]
        return [size for size in self._buckets.sizes if size < rows]

    def _within_deadlines(self, lane: Lane, most: int, now_s: Seconds) -> int:
        """The largest number of leading rows that would all be finished in time; at least the head's.

        Requests that are lost anyway do not count: they are dropped on the way.
        """
        earliest_s = math.inf
        taken = 0
        for request in lane:
            if taken and now_s + self._service_s(request.rows) > request.deadline_s:
                continue
            rows = taken + request.rows
            earliest_s = min(earliest_s, request.deadline_s)
            if taken and (rows > most or now_s + self._service_s(rows) > earliest_s):
                break
            taken = rows
            if taken >= most:
                break
        return taken

    def _hold_until(self, lane: Lane, rows: int, cap: int, now_s: Seconds) -> Seconds:
        """When to stop waiting for the callers of the last batch; not later than now: do not wait."""
        until_s = self._returning_since_s + self._gap_s
        hold_s = until_s - now_s
        if hold_s <= 0 or not math.isfinite(hold_s):
            return 0.0
        apart_s = self._service_s(rows) + self._service_s(min(self._returning, cap))
        merged = min(rows + self._returning, cap)
        merged_s = self._service_s(merged)
        if hold_s >= apart_s - merged_s:
            return 0.0
        if lane.timed and until_s + merged_s > min(r.deadline_s for r in lane):
            return 0.0
        return until_s

    def _learn(self, gap_s: Seconds) -> None:
        """``gap_s``: from a batch's end until as many rows had come again; infinite when they had not in time."""
        gaps = self._gaps
        gaps.append(gap_s)
        if len(gaps) >= GAPS_NEEDED:
            self._gap_s = GAP_SLACK * sorted(gaps)[math.ceil(0.9 * len(gaps)) - 1]
