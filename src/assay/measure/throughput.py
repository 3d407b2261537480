"""Throughput offline: as many callers as the session serves at a time, each taking the next feed at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from assay.core import clock
from assay.core.engine import Session
from assay.core.errors import BadInput
from assay.core.record import Figure, withheld
from assay.core.stats import Vector
from assay.core.tensors import Feed
from assay.core.units import Seconds
from assay.core.workload import Workload
from assay.measure.dispatch import short_switches
from assay.measure.environment import thread_warnings
from assay.measure.latency import LEAST_WARMUP, quiet_gc
from assay.measure.measurement import (
    Measurement,
    analyse,
    check_feeds,
    concat_flags,
    rate_figure,
    short_warning,
    unbounded,
    warmup_figure,
)
from assay.measure.noise import cpu_times, neighbours
from assay.measure.stopping import Stopper


@dataclass(frozen=True, eq=False)
class _Calls:
    """Start and end of every call, by the order in which they ended."""

    begin: Vector
    end: Vector

    @property
    def seconds(self) -> Vector:
        return self.end - self.begin


def measure_throughput(session: Session, feeds: Sequence[Feed], workload: Workload) -> Measurement:
    """Press ``session`` with ``session.parallelism`` callers until the stop rule is met.

    The rate is counted between call ends while every caller was busy, in steps of ``parallelism``
    calls; the latencies are those under this load.  Raises BadInput for no feeds or feeds of
    another batch size, and whatever ``session.run`` raises in any caller.
    """
    check_feeds(session.signature, feeds, workload)
    callers = session.parallelism
    if callers < 1:
        raise BadInput(f"a session serves at least one caller, not {callers}")
    with quiet_gc(), short_switches():
        warm = _Press(session, feeds, callers, _WarmUp(workload.warmup_s, callers)).go()
        before = cpu_times()
        timed = _Press(session, feeds, callers, Stopper(workload.stop, clock.now())).go()
        after = cpu_times()
    seconds = timed.seconds
    found = analyse(seconds, workload.stop)
    counted = seconds[found.dropped :]
    flags = concat_flags(len(warm.end), found.dropped, len(warm.end) + len(seconds))
    rate = _rate(timed, found.dropped, callers, workload.batch)
    figures = {
        **found.figures,
        "throughput": rate if found.settled else unbounded(rate, found.reason),
        "warmup.calls": warmup_figure(flags),
    }
    span = float(timed.end[-1] - timed.begin.min())
    return Measurement(
        figures=figures,
        values=np.concatenate([warm.seconds, seconds]),
        warmup=flags,
        label=found.label,
        label_reason=found.reason,
        warnings=(*short_warning(counted, span), *neighbours(before, after), *thread_warnings(callers)),
        conditions={**workload.conditions(), "callers": callers, "feeds": len(feeds)},
    )


def _rate(calls: _Calls, dropped: int, callers: int, batch: int) -> Figure:
    """Samples per second between ends, while all callers were busy.

    The last ``callers - 1`` ends fall where some callers had already left.  A step is ``callers`` calls.
    A lone caller's first step begins with its first call.
    """
    ends = calls.end[max(0, dropped - 1) : len(calls.end) - (callers - 1)]
    if callers == 1 and dropped == 0:
        ends = np.concatenate([calls.begin[:1], ends])
    steps = np.diff(ends[::callers])
    if len(steps) == 0:
        return withheld("samples/s", f"{len(calls.end)} calls of {callers} callers are too few to count a rate")
    return rate_figure(steps, batch * callers)


class _WarmUp:
    """The stop rule of a warm-up: long enough, and some calls of every caller."""

    def __init__(self, warmup_s: Seconds, callers: int) -> None:
        self._warmup_s = warmup_s
        self._calls = max(LEAST_WARMUP, callers)
        self._started_s = clock.now()

    def enough(self, values: Sequence[float], now_s: Seconds) -> bool:
        return len(values) >= self._calls and now_s - self._started_s >= self._warmup_s


class _Press:
    """Callers that take feeds in turn until the rule says enough, or one of them fails."""

    def __init__(self, session: Session, feeds: Sequence[Feed], callers: int, rule: Stopper | _WarmUp) -> None:
        self._session = session
        self._feeds = itertools.cycle(feeds)
        self._callers = callers
        self._rule = rule
        self._lock = threading.Lock()
        self._stopped = False
        self._failure: BaseException | None = None
        self._seconds: list[float] = []
        self._spans: list[tuple[float, float]] = []

    def go(self) -> _Calls:
        if self._callers == 1:
            self._call()  # a thread of its own would only add a hand-over
        else:
            threads = [threading.Thread(target=self._call, name=f"caller-{i}") for i in range(self._callers)]
            for thread in threads:
                thread.start()
            self._join(threads)
        if self._failure is not None:
            raise self._failure
        spans = np.asarray(sorted(self._spans, key=lambda span: span[1]))
        return _Calls(spans[:, 0], spans[:, 1])

    def _join(self, threads: Sequence[threading.Thread]) -> None:
        """Wait for all; an interrupt lets them finish the call they are in."""
        try:
            for thread in threads:
                thread.join()
        except BaseException:
            self._stopped = True
            for thread in threads:
                thread.join()
            raise

    def _call(self) -> None:
        """A lone caller's looks at the series are time that nobody pressed: they are cut out of the rate."""
        now, looking_s = clock.current().now, 0.0
        alone = self._callers == 1
        try:
            while (feed := self._next()) is not None:
                begin = now()
                self._session.run(feed)
                end = now()
                looked_s = self._ended(begin - looking_s, end - looking_s, end)
                looking_s += looked_s if alone else 0.0
        except BaseException as error:
            with self._lock:
                self._failure = self._failure or error
                self._stopped = True

    def _next(self) -> Feed | None:
        with self._lock:
            return None if self._stopped else next(self._feeds)

    def _ended(self, begin: Seconds, end: Seconds, now_s: Seconds) -> Seconds:
        """Note one call, by the caller's clock; how long the rule then looked at the series."""
        with self._lock:
            self._spans.append((begin, end))
            self._seconds.append(end - begin)
            started_s = clock.now()
            self._stopped = self._stopped or self._rule.enough(self._seconds, now_s)
            return clock.now() - started_s
