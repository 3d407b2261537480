"""Closed loop: a number of clients, each asking again as soon as it was answered.

Clients are virtual unless threads are asked for: one driver thread keeps ``clients`` requests
outstanding and never waits for a particular one.  A latency runs from the moment a request is queued to
the moment its answer was handed back on the dispatcher's thread.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from assay.core import clock
from assay.core.record import Figure, withheld
from assay.core.stats import Vector
from assay.core.tensors import Feed
from assay.core.units import Seconds
from assay.core.workload import Clients, StopRule
from assay.measure.callers import call_together
from assay.measure.dispatch import Dispatcher, short_switches
from assay.measure.environment import thread_warnings
from assay.measure.latency import LEAST_WARMUP, quiet_gc
from assay.measure.measurement import (
    Measurement,
    analyse,
    concat_flags,
    rate_figure,
    short_warning,
    unbounded,
    warmup_figure,
)
from assay.measure.noise import cpu_times, neighbours
from assay.measure.torchpipe import closed_loop_row

Run = Callable[[Feed], Any]
_STOP = StopRule(min_calls=1, within=0.02)
"""A closed loop ends with its samples, not when an interval is narrow: the width only labels it."""


@dataclass(frozen=True, eq=False)
class Answered:
    """Every request in the order in which they were answered; ``cpu_s`` is this process's processor time."""

    queued: Vector
    started: Vector
    ended: Vector
    cpu_s: Seconds

    @property
    def seconds(self) -> Vector:
        return self.ended - self.queued

    @property
    def span_s(self) -> Seconds:
        """From the first request to the last answer."""
        return float(self.ended[-1] - self.queued.min())


def measure_clients(target: Dispatcher | Run, feeds: Sequence[Feed], load: Clients) -> Measurement:
    """Send ``load`` to a dispatcher or, with ``load.threads``, to a function that blocks (``session.run``).

    Feeds take turns; the caller has checked them (``measurement.check_rows``).  Every request is kept.
    Raises whatever the first failing request raised.
    """
    drive: _Virtual | _Threads = _Threads(target, feeds, load) if load.threads else _Virtual(target, feeds, load)  # type: ignore[arg-type]
    with quiet_gc(), short_switches():
        warm = drive.press(None)
        before = cpu_times()
        timed = drive.press(load.requests)
        after = cpu_times()
    seconds = timed.seconds
    found = analyse(seconds, _STOP)
    flags = concat_flags(len(warm.ended), found.dropped, len(warm.ended) + len(seconds))
    rate = _rate(timed, found.dropped, load)
    service = timed.ended - timed.started
    figures = {
        **found.figures,
        "throughput": rate if found.settled else unbounded(rate, found.reason),
        **service_figures(service[found.dropped :]),
        "cpu.cores": cpu_figure(timed.cpu_s, timed.span_s),
        "warmup.calls": warmup_figure(flags),
    }
    return Measurement(
        figures=figures,
        values=np.concatenate([warm.seconds, seconds]),
        warmup=flags,
        label=found.label,
        label_reason=found.reason,
        warnings=(*short_warning(seconds, timed.span_s), *neighbours(before, after), *_thread_advice(load)),
        conditions={**load.conditions(), "feeds": len(feeds)},
        columns=_columns(warm, timed),
        details={"torchpipe": closed_loop_row(seconds, timed.span_s, load, timed.cpu_s)},
    )


def service_figures(service: Vector) -> dict[str, Figure]:
    """Median and mean of what is left of a latency when the waiting for a free instance is taken away."""
    known = service[np.isfinite(service)]
    if len(known) == 0:
        return {}
    figures = analyse(known, _STOP).figures
    return {f"service.{name}": figures[f"latency.{name}"] for name in ("p50", "p99", "mean")}


def cpu_figure(cpu_s: Seconds, span_s: Seconds) -> Figure:
    """Cores this process kept busy on average, the load generator's own work included."""
    if span_s <= 0:
        return withheld("cores", "the run took no time that the clock could tell")
    return Figure(cpu_s / span_s, "cores", n=1)


def _rate(timed: Answered, dropped: int, load: Clients) -> Figure:
    """Samples per second between answers, while all clients were waiting for one.

    A step is ``clients`` answers; the last ``clients - 1`` answers fall where some clients had already
    left.  With few steps the rate is that of the whole run, without an interval.
    """
    ends = timed.ended[max(0, dropped - 1) : len(timed.ended) - (load.clients - 1)]
    steps = np.diff(ends[:: load.clients])
    if len(steps) >= 4:
        return rate_figure(steps, load.request_batch * load.clients)
    reason = f"no interval: {len(timed.ended)} requests of {load.clients} clients are too few rounds"
    if timed.span_s <= 0:
        return withheld("samples/s", "the run took no time that the clock could tell", len(timed.ended))
    rows = len(timed.ended) * load.request_batch
    return Figure(rows / timed.span_s, "samples/s", n=len(timed.ended), reason=reason)


def _columns(warm: Answered, timed: Answered) -> dict[str, Vector]:
    phases = [(phase, phase.queued.min() if len(phase.queued) else 0.0) for phase in (warm, timed)]
    names = ("queued", "started", "ended")
    return {f"{n}_s": np.concatenate([getattr(phase, n) - start for phase, start in phases]) for n in names}


def _thread_advice(load: Clients) -> list[str]:
    return thread_warnings(load.clients) if load.threads else thread_warnings(1)


class _Virtual:
    """Keeps ``clients`` requests outstanding from this thread."""

    def __init__(self, dispatcher: Dispatcher, feeds: Sequence[Feed], load: Clients) -> None:
        self._dispatcher = dispatcher
        self._feeds = itertools.cycle(feeds)
        self._load = load

    def press(self, requests: int | None) -> Answered:
        """``requests`` in all; None: a warm-up, for as long as the load says and once around every client."""
        now = clock.current().now
        finished: SimpleQueue[tuple[Seconds, Sequence[Any]]] = SimpleQueue()
        put, get, submit = finished.put, finished.get, self._dispatcher.submit_many

        def on_done(answers: Sequence[Any]) -> None:
            put((now(), answers))

        queued: list[Seconds] = []
        started: list[Seconds] = []
        ended: list[Seconds] = []
        cpu = time.process_time()
        left = self._left(requests)
        sent = outstanding = min(self._load.clients, left(0))
        self._send(submit, sent, on_done)
        while outstanding:
            at_s, answers = get()
            count = len(answers)
            for answer in answers:
                if answer.error is not None:
                    self._drain(get, outstanding - count)
                    raise answer.error
            queued += [a.enqueued_s for a in answers]
            started += [a.started_s for a in answers]
            ended += [at_s] * count
            due = min(count, left(sent))
            outstanding += due - count
            if due:
                sent += due
                self._send(submit, due, on_done)
        used = time.process_time() - cpu
        return Answered(np.asarray(queued), np.asarray(started), np.asarray(ended), used)

    def _send(self, submit: Callable[..., Sequence[Any]], count: int, on_done: Callable[[Sequence[Any]], None]) -> None:
        for answer in submit(tuple(itertools.islice(self._feeds, count)), on_done):
            if answer.error is not None and answer.done:
                on_done((answer,))

    def _left(self, requests: int | None) -> Callable[[int], int]:
        if requests is not None:
            return lambda sent: requests - sent
        load, now, started = self._load, clock.current().now, clock.now()
        least = max(LEAST_WARMUP, load.clients)
        return lambda sent: load.clients if sent < least or now() - started < load.warmup_s else 0

    @staticmethod
    def _drain(get: Callable[[], tuple[Seconds, Sequence[Any]]], outstanding: int) -> None:
        """Wait for the answers still to come, so that the caller may close everything."""
        while outstanding > 0:
            outstanding -= len(get()[1])


class _Threads:
    """One OS thread per client, which take requests from one counter."""

    def __init__(self, run: Run, feeds: Sequence[Feed], load: Clients) -> None:
        self._run = run
        self._feeds = itertools.cycle(feeds)
        self._load = load
        self._lock = threading.Lock()

    def press(self, requests: int | None) -> Answered:
        """See ``_Virtual.press``."""
        spans: list[tuple[Seconds, Seconds]] = []
        turns = self._turns(requests)
        stop = threading.Event()
        cpu = time.process_time()

        def client(_: int) -> None:
            now = clock.current().now
            while not stop.is_set() and (feed := self._next(turns)) is not None:
                begin = now()
                self._run(feed)
                end = now()
                with self._lock:
                    spans.append((begin, end))

        call_together(client, self._load.clients, stop)
        table = np.asarray(sorted(spans, key=lambda span: span[1])).reshape(-1, 2)
        nothing = np.full(len(table), np.nan)
        return Answered(table[:, 0], nothing, table[:, 1], time.process_time() - cpu)

    def _next(self, turns: Iterator[object]) -> Feed | None:
        with self._lock:
            return None if next(turns, None) is None else next(self._feeds)

    def _turns(self, requests: int | None) -> Iterator[object]:
        if requests is not None:
            yield from range(1, requests + 1)
            return
        started, count = clock.now(), 0
        while count < max(LEAST_WARMUP, self._load.clients) or clock.now() - started < self._load.warmup_s:
            count += 1
            yield count
