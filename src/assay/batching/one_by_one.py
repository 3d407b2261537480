"""When a model that is opened twice, over all cores and a call per core, runs one call after the other.

A call over all cores that takes little more than its share of a call per core answers every request in a fraction
of the time, as long as there are few.  With Poisson arrivals and calls of t seconds, c at a time, a request is in
the system for about

    t (1 + u^(sqrt(2 (c + 1)) - 1) / (2 c (1 - u))),   u = rate t / c

on average (Sakasegawa 1977, halved because calls of one size all take as long; for c = 1 it is the formula of
Pollaczek and Khinchine).  Where that is less for one call at a time over all cores than for a call per core, a
request that comes while a call runs waits for its end.
"""

from __future__ import annotations

import math

from assay.batching.batch import Batch
from assay.batching.batch_times import BatchTimes
from assay.batching.meter import Meter
from assay.core.units import PerSecond, Seconds

BUSIEST = 0.75
"""Of its time that one call after the other may take: nearer to the limit the formula says more than it knows, and
callers who come back when they are answered, who are no Poisson traffic either, are always near it."""
WAITING_SHARE = 0.5
"""Of the instances: with more requests waiting than that (one at least) they work side by side after all.  A call over
all cores that another process disturbs holds up everybody, and a burst is no Poisson traffic."""
LONG = 1.5
"""A call that is planned for longer than so many calls of one row at load is not waited for."""
PATIENCE = 1.5
"""Nor one that has taken so many times what was planned."""


class OneByOne:
    """``alone`` is t(b) of the session for lone calls, ``times`` that of those side by side; live objects."""

    def __init__(self, alone: BatchTimes, times: BatchTimes, meter: Meter, instances: int) -> None:
        self.alone = alone
        self._times = times
        self._meter = meter
        self._instances = instances
        self._most = max(1, int(WAITING_SHARE * instances))

    def pays(self, waiting: int) -> bool:
        """Whether ``waiting`` requests are answered sooner one after the other."""
        rate = self._meter.rate
        if waiting > self._most or not rate or not self.alone.known or not self._times.known:
            return False
        call_s = self.alone.typical(1)
        if rate * call_s > BUSIEST:
            return False
        return in_system_s(call_s, 1, rate) <= in_system_s(self._times.typical(1), self._instances, rate)

    def wait_until_s(self, running: Batch, waiting: int) -> Seconds:
        """When to stop waiting for ``running``; 0: do not wait."""
        if not running.alone or not self.pays(waiting) or running.predicted_s > LONG * self._times.typical(1):
            return 0.0
        return running.started_s + PATIENCE * running.predicted_s


def in_system_s(call_s: Seconds, at_once: int, rate: PerSecond) -> Seconds:
    """The mean time from arrival to answer, as above; infinite for more arrivals than calls."""
    busy = rate * call_s / at_once
    if busy >= 1:
        return math.inf
    waits = math.pow(busy, math.sqrt(2 * (at_once + 1)) - 1) / (2 * at_once * (1 - busy))
    return call_s * (1 + waits)
