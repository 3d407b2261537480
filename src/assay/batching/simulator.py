"""The batcher on virtual time: the same scheduler and policies, any t(b), any load; deterministic.

What it leaves out is what it is told: the cost of the batcher's own work (``overhead_s`` per
batch) and instances slowing each other down (give the t(b) of as many instances as run).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from assay.batching.arrivals import poisson
from assay.batching.batch import Batch
from assay.batching.batch_times import BatchTimes, profile_sizes
from assay.batching.errors import Dropped
from assay.batching.request import DONE, Request
from assay.batching.scheduler import Scheduler
from assay.batching.settings import BatcherSettings
from assay.batching.statistics import BatcherStatistics
from assay.core.errors import BadInput
from assay.core.stats import Vector, percentile
from assay.core.units import PerSecond, Seconds

ServiceTime = Callable[[int], Seconds]


@dataclass(frozen=True)
class Clients:
    """A closed loop: ``clients`` callers, each asking again ``think_s`` after its answer, ``total`` requests in all.

    They start ``stagger_s`` apart.  Callers told in one batch come back together.
    """

    clients: int
    total: int
    think_s: Seconds = 0.0
    stagger_s: Seconds = 0.0

    def __post_init__(self) -> None:
        if self.clients < 1 or self.total < self.clients or not (self.think_s >= 0 and self.stagger_s >= 0):
            raise BadInput(f"a closed loop needs at least one client and a request for each: {self}")


@dataclass(frozen=True)
class Machine:
    """What is simulated: ``service_s`` is t(b) of one instance, ``overhead_s`` the batcher's own time per batch.

    ``spread`` holds factors (``BatchTimes.spread``) one of which, drawn with ``seed``, multiplies every
    batch's time; empty: t(b) exactly.  ``profiled`` says whether the policy knows t(b) from the start,
    as after a profile at load.  ``alone_s`` is t(b) of a second session, for batches beside which nothing runs.
    """

    service_s: ServiceTime
    overhead_s: Seconds = 0.0
    spread: tuple[float, ...] = ()
    seed: int = 0
    profiled: bool = True
    alone_s: ServiceTime | None = None

    @classmethod
    def measured(cls, times: BatchTimes, overhead_s: Seconds = 0.0) -> Machine:
        """A machine like the one ``times`` was measured on, as it is now.  Raises BadInput when nothing was."""
        if not times.known:
            raise BadInput("nothing was measured yet, so there is no t(b) to simulate", remedy="profile_at_load first")
        return cls(times.curve().__getitem__, overhead_s, times.spread())


@dataclass(frozen=True, eq=False)
class Simulation:
    """One row per request, in order of arrival; ``latency_s`` is NaN where it was dropped."""

    arrived_s: Vector
    latency_s: Vector
    statistics: BatcherStatistics
    duration_s: Seconds
    """From the first arrival to the last answer."""

    @property
    def answered(self) -> int:
        return int(np.isfinite(self.latency_s).sum())

    @property
    def throughput(self) -> PerSecond:
        """Requests answered per second."""
        return self.answered / self.duration_s if self.duration_s > 0 else math.nan

    def latency(self, p: float) -> Seconds:
        """Percentile ``p`` (0..1) of the answered requests' latency.  Raises BadInput when none was answered."""
        if not self.answered:
            raise BadInput("no request was answered: there is no latency")
        return percentile(self.latency_s[np.isfinite(self.latency_s)], p)

    def within(self, limit_s: Seconds) -> float:
        """The share of all requests, dropped ones included, answered within ``limit_s``."""
        return float((self.latency_s <= limit_s).mean())

    def goodput(self, limit_s: Seconds) -> PerSecond:
        """Requests answered within ``limit_s``, per second."""
        return float((self.latency_s <= limit_s).sum()) / self.duration_s if self.duration_s > 0 else math.nan


def simulate(settings: BatcherSettings, machine: Machine, load: Vector | Clients) -> Simulation:
    """Run ``load`` (arrival times in seconds, or a closed loop) of one-row requests.  Raises BadInput for no load."""
    if not isinstance(load, Clients) and len(load) == 0:
        raise BadInput("no arrivals to simulate")
    return _Run(settings, machine, load).go()


def highest_rate(
    settings: BatcherSettings,
    machine: Machine,
    limit_s: Seconds,
    *,
    share: float = 0.99,
    requests: int = 5000,
    seed: int = 0,
) -> PerSecond:
    """The highest Poisson rate at which ``share`` of all requests is answered within ``limit_s``, to 1 %.

    0 when not even a trickle is.  The deadline the policy plans with is ``limit_s`` too.  Raises BadInput where a
    batch takes no time: there is no highest rate then.
    """
    times = {b: machine.service_s(b) for b in range(1, settings.max_batch + 1)}
    if min(times.values()) <= 0:
        raise BadInput(f"a batch of {min(times, key=times.__getitem__)} rows takes no time: there is no highest rate")
    top = settings.instances * max(b / time_s for b, time_s in times.items())
    planned = replace(settings, slo_s=limit_s)

    def holds(rate: PerSecond) -> bool:
        return simulate(planned, machine, poisson(rate, requests, seed)).within(limit_s) >= share

    low, high = 0.0, top
    while high - low > 0.01 * top:
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


_ARRIVE, _FINISH, _WAKE = range(3)


class _Run:
    """One simulation.  Events at one moment are handled in the order in which they were planned."""

    def __init__(self, settings: BatcherSettings, machine: Machine, load: Vector | Clients) -> None:
        sizes = profile_sizes(settings.max_batch, settings.buckets)

        def times(service_s: ServiceTime) -> BatchTimes:
            points = {size: [f * service_s(size) for f in machine.spread or (1.0,)] for size in sizes}
            return BatchTimes(settings.max_batch, points=points if machine.profiled else None)

        alone = times(machine.alone_s) if machine.alone_s is not None else None
        self._machine = machine
        self._load = load
        self._random = np.random.default_rng(machine.seed)
        self._scheduler = Scheduler(settings, times(machine.service_s), alone)
        self._free = settings.instances
        self._events: list[tuple[Seconds, int, int, Batch | None]] = []
        self._planned = self._planned_arrivals = 0
        self._arrived: list[Request] = []
        self._last_s = 0.0

    def go(self) -> Simulation:
        load = self._load
        first = load.stagger_s * np.arange(load.clients) if isinstance(load, Clients) else load
        for time_s in first:
            self._plan(float(time_s), _ARRIVE)
        while self._events:
            now_s, _, kind, batch = heapq.heappop(self._events)
            if kind == _ARRIVE:
                self._arrive(now_s)
            elif batch is not None:
                self._finish(batch, now_s)
            if not self._events or self._events[0][0] > now_s:  # whatever happens at one moment is seen together
                self._serve(now_s)
        return self._result()

    def _arrive(self, now_s: Seconds) -> None:
        request = Request(None, 1, None, _nobody, now_s)
        self._arrived.append(request)
        try:
            self._scheduler.offer(request, now_s)
        except Dropped:
            self._again(now_s)

    def _serve(self, now_s: Seconds) -> None:
        """Free instances take what the policy gives them; else an alarm is set for when it would."""
        scheduler = self._scheduler
        while self._free:
            batch = scheduler.take(now_s)
            for _ in scheduler.dropped:
                self._again(now_s)
            scheduler.dropped.clear()
            if batch is None:
                if scheduler.wait_until_s < math.inf:
                    self._plan(scheduler.wait_until_s, _WAKE)
                return
            self._free -= 1
            self._plan(now_s + self._service_s(batch) + self._machine.overhead_s, _FINISH, batch)

    def _service_s(self, batch: Batch) -> Seconds:
        machine = self._machine
        factor = machine.spread[self._random.integers(len(machine.spread))] if machine.spread else 1.0
        batch.apart = batch.alone and machine.alone_s is not None
        service_s = machine.alone_s if batch.apart and machine.alone_s is not None else machine.service_s
        return factor * service_s(batch.size)

    def _finish(self, batch: Batch, now_s: Seconds) -> None:
        self._free += 1
        self._scheduler.finished(batch, now_s, now_s - batch.started_s - self._machine.overhead_s)
        self._scheduler.counters.completed += len(batch.requests)
        self._last_s = now_s
        for request in batch.requests:
            request.finished_s = now_s
            request.state = DONE
            self._again(now_s)

    def _again(self, now_s: Seconds) -> None:
        """A client of a closed loop got its answer and asks again."""
        load = self._load
        if isinstance(load, Clients) and self._planned_arrivals < load.total:
            self._plan(now_s + load.think_s, _ARRIVE)

    def _plan(self, time_s: Seconds, kind: int, batch: Batch | None = None) -> None:
        self._planned += 1
        self._planned_arrivals += kind == _ARRIVE
        heapq.heappush(self._events, (time_s, self._planned, kind, batch))

    def _result(self) -> Simulation:
        requests = self._arrived
        arrived_s = np.array([r.enqueued_s for r in requests])
        answered = [r.finished_s - r.enqueued_s if r.error is None else math.nan for r in requests]
        duration_s = max(self._last_s, float(arrived_s[-1])) - float(arrived_s[0])
        return Simulation(arrived_s, np.array(answered), self._scheduler.statistics(), duration_s)


def _nobody(requests: object) -> None:
    """Nobody waits for a simulated request."""
