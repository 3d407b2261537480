"""Open loop: requests come when they are scheduled to, whether or not earlier ones were answered.

A latency runs from the *scheduled* arrival to the moment the answer was handed back.  A stalled system
that keeps the generator itself from sending is thus charged for it (no coordinated omission); the
*service* time beside it runs from the moment an instance took the request.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from assay.core import clock
from assay.core.errors import AssayError, BadInput, EngineFailed
from assay.core.record import Figure, withheld
from assay.core.stats import Vector, percentile
from assay.core.tensors import Array, Feed
from assay.core.units import Seconds, format_seconds
from assay.core.workload import Arrivals, StopRule
from assay.measure.clients import cpu_figure, service_figures
from assay.measure.dispatch import Dispatcher, short_switches
from assay.measure.environment import thread_warnings
from assay.measure.latency import quiet_gc
from assay.measure.little import Inflight, little
from assay.measure.measurement import (
    PERCENTILES,
    Measurement,
    analyse,
    percentile_figure,
    short_warning,
    unbounded,
    warmup_figure,
)
from assay.measure.noise import cpu_times, neighbours

_STOP = StopRule(min_calls=1, within=0.0)
_LEAD_S = 0.005
_LATE_SHARE = 0.05


@dataclass(frozen=True)
class Limit:
    """``share`` of all requests are to be answered within ``latency_s`` of their scheduled arrival."""

    latency_s: Seconds
    share: float = 0.99

    def __post_init__(self) -> None:
        if not self.latency_s > 0 or not 0 < self.share < 1:
            raise BadInput(f"no limit to hold: {self.share} within {self.latency_s} s", remedy="--p99 15ms")


@dataclass(frozen=True, eq=False)
class Served:
    """One row per scheduled request, in seconds from the start of the schedule; NaN where it never happened.

    ``sent`` of the schedule's requests were issued before it was given up, ``errors`` counts why some
    were not answered.
    """

    scheduled: Vector
    queued: Vector
    started: Vector
    ended: Vector
    errors: dict[str, int]
    inflight: Inflight
    cpu_s: Seconds
    first_error: AssayError | None
    sent: int

    @property
    def seconds(self) -> Vector:
        """From the scheduled arrival to the answer; infinite where there is none."""
        return np.where(np.isnan(self.ended), np.inf, self.ended - self.scheduled)

    def within(self, limit_s: Seconds) -> float:
        """The share of all scheduled requests that were answered within ``limit_s``."""
        late = len(self.scheduled) - int((self.seconds[: self.sent] <= limit_s).sum())
        return 1 - late / len(self.scheduled)


def measure_server(
    dispatcher: Dispatcher, feeds: Sequence[Feed], load: Arrivals, schedule: Vector, limit: Limit | None = None
) -> Measurement:
    """Send a request at every moment of ``schedule`` (ascending, seconds from the start).

    Those scheduled before ``load.warmup_s`` are warm-up.  With a ``limit`` no more are sent once it
    cannot be held any more, but for the warm-up and one request after it, without which there would be
    nothing to tell.  Raises EngineFailed when not one request was answered.
    """
    _check(schedule, load)
    least = int((schedule < load.warmup_s).sum()) + 1
    with quiet_gc(), short_switches():
        before = cpu_times()
        served = _Generator(dispatcher, feeds, schedule, limit).go(load.drain_s, least)
        after = cpu_times()
    return _measurement(served, load, [*neighbours(before, after), *thread_warnings(1)], limit)


def press_schedule(
    dispatcher: Dispatcher, feeds: Sequence[Feed], schedule: Vector, limit: Limit, drain_s: Seconds
) -> Served:
    """The same without the figures: a trial of a search."""
    with quiet_gc(), short_switches():
        return _Generator(dispatcher, feeds, schedule, limit).go(drain_s)


def _check(schedule: Vector, load: Arrivals) -> None:
    if len(schedule) == 0 or not (schedule[-1] > load.warmup_s):
        raise BadInput(
            f"{len(schedule)} arrivals, none after the warm-up of {format_seconds(load.warmup_s)}",
            remedy="a higher --rate or a longer --duration",
        )


def _measurement(served: Served, load: Arrivals, warnings: list[str], limit: Limit | None) -> Measurement:
    sent = served.sent
    seconds, scheduled = served.seconds[:sent], served.scheduled[:sent]
    warm = int((scheduled < load.warmup_s).sum())
    timed = seconds[warm:]
    answered = np.isfinite(timed)
    if not answered.any():
        why = served.first_error.message if served.first_error else "none was answered in time"
        raise EngineFailed(f"{len(timed)} requests were sent and not one was answered: {why}")
    found = analyse(timed[answered], _STOP)
    counted = timed[_nth(answered, found.dropped) :]
    figures = {**found.figures, **_with_unanswered(counted, found.settled, found.reason)}
    figures |= service_figures((served.ended - served.started)[warm:sent])
    span = float(np.nanmax(served.ended[:sent]) - scheduled[warm])
    rate = int(answered.sum()) * load.request_batch / span
    figures["throughput"] = Figure(
        rate, "samples/s", n=int(answered.sum()), reason="no interval: arrivals decide it while the system keeps up"
    )
    lag = (served.queued[:sent] - scheduled)[warm:]
    figures["generator.lag.p99"] = Figure(percentile(lag[np.isfinite(lag)], 0.99), "s", n=len(lag))
    figures["requests.unanswered"] = Figure(float((~answered).sum()), "requests", n=len(timed))
    figures["cpu.cores"] = cpu_figure(served.cpu_s, float(np.nanmax(served.ended[:sent])))
    law = little(served.inflight, scheduled, seconds, warm)
    figures |= law.figures()
    flags = np.arange(sent) < sent - len(counted)
    figures["warmup.calls"] = warmup_figure(flags)
    return Measurement(
        figures=figures,
        values=seconds,
        warmup=flags,
        label=found.label,
        label_reason=found.reason,
        warnings=(*_warnings(served, lag, timed, span), *law.warnings(), *warnings),
        conditions={**load.conditions(), "given_up": sent < len(served.scheduled)},
        columns=_columns(served),
        details=_details(served, counted, limit, law.to_json()),
    )


def _details(served: Served, counted: Vector, limit: Limit | None, law: dict[str, Any]) -> dict[str, Any]:
    """``observed`` are plain order statistics of this run, unanswered requests counted as infinitely late."""
    observed = {f"p{100 * p:g}": percentile(counted, p) for p in (0.5, 0.9, 0.99, 0.999)}
    observed["max"] = float(counted.max())
    details: dict[str, Any] = {
        "observed_s": {name: value if np.isfinite(value) else None for name, value in observed.items()},
        "unanswered": served.errors,
        "little": law,
    }
    if limit is not None:
        details["within_limit"] = served.within(limit.latency_s)
    return details


def _columns(served: Served) -> dict[str, Vector]:
    names = ("scheduled", "queued", "started", "ended")
    return {f"{name}_s": getattr(served, name)[: served.sent] for name in names}


def _nth(answered: Array, count: int) -> int:
    """The index after the first ``count`` answered requests."""
    return int(np.flatnonzero(answered)[count - 1]) + 1 if count else 0


def _with_unanswered(counted: Vector, settled: bool, reason: str) -> dict[str, Figure]:
    """Percentiles over all requests, where some were never answered; the mean is then unknown."""
    missing = int(np.isinf(counted).sum())
    if not missing:
        return {}
    why = f"{missing} of {len(counted)} requests were not answered"
    figures: dict[str, Figure] = {"latency.mean": withheld("s", why, len(counted))}
    for name, p in PERCENTILES.items():
        figure = percentile_figure(counted, p)
        if figure.value is not None and not np.isfinite(figure.value):
            figure = withheld("s", why, len(counted))
        elif figure.high is not None and not np.isfinite(figure.high):
            figure = unbounded(figure, why)
        figures[name] = figure if settled else unbounded(figure, reason)
    return figures


def _warnings(served: Served, lag: Vector, timed: Vector, span: Seconds) -> list[str]:
    found = short_warning(timed, span)
    sent = served.sent
    typical, late = float(np.nanmedian(np.where(np.isinf(timed), np.nan, timed))), float(np.nanmedian(lag))
    if late > _LATE_SHARE * typical:
        found.append(
            f"the load generator was late by {format_seconds(late)} at the median, which is counted in the latency "
            f"of {format_seconds(typical)}; lower the rate or leave a core to the generator"
        )
    if sent < len(served.scheduled):
        found.append(f"given up after {sent} of {len(served.scheduled)} requests: the limit could not be held any more")
    if served.errors:
        said = ", ".join(f"{count} {name}" for name, count in sorted(served.errors.items()))
        found.append(f"not answered: {said}")
    return found


class _Generator:
    """Issues from the calling thread; answers are collected between two arrivals."""

    def __init__(self, dispatcher: Dispatcher, feeds: Sequence[Feed], schedule: Vector, limit: Limit | None) -> None:
        self._dispatcher = dispatcher
        self._feeds = itertools.cycle(feeds)
        self._schedule = [float(t) for t in schedule]
        self._limit = limit
        self._clock = clock.current()
        self._finished: SimpleQueue[tuple[Seconds, Sequence[Any]]] = SimpleQueue()
        n = len(self._schedule)
        self._queued = [np.nan] * n
        self._started = [np.nan] * n
        self._ended = [np.nan] * n
        self._errors: Counter[str] = Counter()
        self._first_error: AssayError | None = None
        self._collected = 0
        self._late = 0
        self._delivered = 0
        self._counting = threading.Lock()

    def go(self, drain_s: Seconds, least: int = 1) -> Served:
        """``least`` requests are sent however late the answers are."""
        schedule, now = self._schedule, self._clock.now
        n = len(schedule)
        allowed = n if self._limit is None else (1 - self._limit.share) * n
        inflight = Inflight(schedule[-1])
        cpu = time.process_time()
        self._start = start = now() + _LEAD_S
        sent = 0
        while sent < n and (self._late <= allowed or sent < least):
            at_s = now() - start
            if at_s >= inflight.next_s:
                inflight.note(at_s, self._delivered)
            due = sent
            while due < n and schedule[due] <= at_s:
                due += 1
            if due > sent:
                self._send(sent, due)
                sent = due
            self._collect()
            if sent < n and (wait_s := min(schedule[sent], inflight.next_s) - (now() - start)) > 0:
                self._clock.sleep(wait_s)
        self._drain(sent, drain_s)
        queued, started, ended = (np.asarray(c) - start for c in (self._queued, self._started, self._ended))
        unanswered = sent - self._collected
        if unanswered:
            self._errors[f"without an answer {format_seconds(drain_s)} after the last arrival"] += unanswered
        used = time.process_time() - cpu
        errors = dict(self._errors)
        return Served(np.asarray(schedule), queued, started, ended, errors, inflight, used, self._first_error, sent)

    def _send(self, first: int, end: int) -> None:
        feeds = tuple(itertools.islice(self._feeds, end - first))
        sent = self._dispatcher.submit_many(feeds, self._on_done, range(first, end))
        refused = [answer for answer in sent if answer.error is not None and answer.done]
        if refused:
            self._note(self._clock.now(), refused)
            with self._counting:
                self._delivered += len(refused)

    def _on_done(self, answers: Sequence[Any]) -> None:
        self._finished.put((self._clock.now(), answers))
        with self._counting:
            self._delivered += len(answers)

    def _collect(self) -> None:
        while not self._finished.empty():
            self._note(*self._finished.get())

    def _note(self, at_s: Seconds, answers: Sequence[Any]) -> None:
        limit_s = np.inf if self._limit is None else self._limit.latency_s
        for answer in answers:
            index = answer.context
            if index is None:  # it failed before ``submit_many`` was back, and was taken for a refused one
                continue
            answer.context = None
            self._collected += 1
            self._queued[index] = answer.enqueued_s
            if answer.error is not None:
                self._first_error = self._first_error or answer.error
                self._errors[type(answer.error).__name__] += 1
                self._late += 1
                continue
            self._started[index] = answer.started_s
            self._ended[index] = at_s
            answer.outputs = None
            self._late += at_s - self._start - self._schedule[index] > limit_s

    def _drain(self, sent: int, drain_s: Seconds) -> None:
        until_s = self._clock.now() + drain_s
        while self._collected < sent and (left_s := until_s - self._clock.now()) > 0:
            try:
                self._note(*self._finished.get(timeout=left_s))
            except Empty:
                return
