"""Latency: one caller, one call after another; the time a call takes from feed to outputs on the host."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Sequence

import numpy as np

from assay.core import clock
from assay.core.engine import Session
from assay.core.stats import Vector
from assay.core.tensors import Feed
from assay.core.units import Seconds
from assay.core.workload import StopRule, Workload
from assay.measure.environment import thread_warnings
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

LEAST_WARMUP = 3

__all__ = ["Measurement", "measure_latency", "quiet_gc"]


def measure_latency(session: Session, feeds: Sequence[Feed], workload: Workload) -> Measurement:
    """Press ``session`` with one caller until the stop rule is met, feeds taking turns.

    The warm-up lasts ``workload.warmup_s`` and at least three calls; leading calls that are still
    slower than the rest are counted to it afterwards (series.warmup_end).  Every timing is kept.

    Raises BadInput for no feeds or feeds of another batch size, and whatever ``session.run`` raises.
    """
    check_feeds(session.signature, feeds, workload)
    with quiet_gc():
        warm = _warm_up(session, feeds, workload.warmup_s)
        before = cpu_times()
        timed, span = _timed(session, feeds, workload.stop)
        after = cpu_times()
    found = analyse(timed, workload.stop)
    counted = timed[found.dropped :]
    flags = concat_flags(len(warm), found.dropped, len(warm) + len(timed))
    rate = rate_figure(counted, workload.batch)
    figures = {
        **found.figures,
        "throughput": rate if found.settled else unbounded(rate, found.reason),
        "warmup.calls": warmup_figure(flags),
    }
    return Measurement(
        figures=figures,
        values=np.concatenate([warm, timed]),
        warmup=flags,
        label=found.label,
        label_reason=found.reason,
        warnings=(*short_warning(counted, span), *neighbours(before, after), *thread_warnings(1)),
        conditions={**workload.conditions(), "callers": 1, "feeds": len(feeds)},
    )


@contextlib.contextmanager
def quiet_gc() -> Iterator[None]:
    """No garbage collection meanwhile; one before, so that its debts are not paid in between."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _warm_up(session: Session, feeds: Sequence[Feed], warmup_s: Seconds) -> Vector:
    now = clock.current().now
    values: list[float] = []
    started = now()
    while len(values) < LEAST_WARMUP or now() - started < warmup_s:
        feed = feeds[len(values) % len(feeds)]
        begin = now()
        session.run(feed)
        values.append(now() - begin)
    return np.asarray(values)


def _timed(session: Session, feeds: Sequence[Feed], stop: StopRule) -> tuple[Vector, Seconds]:
    """Seconds per call, and the seconds from the first call's start to the last one's end."""
    now = clock.current().now
    values: list[float] = []
    started = end = now()
    stopper = Stopper(stop, started)
    while not values or not stopper.enough(values, end):
        feed = feeds[len(values) % len(feeds)]
        begin = now()
        session.run(feed)
        end = now()
        values.append(end - begin)
    return np.asarray(values), end - started
