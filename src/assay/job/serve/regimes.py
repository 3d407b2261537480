"""How one model uses the machine's cores: one call over all of them, or a call per core, or each when it is better.

A lone request is answered soonest when all cores work on it.  Under load the cores waste nothing when each
works on a batch of its own: nothing is split and nobody waits for the slowest part.  So a model whose
settings were left open is opened both ways; a batch beside which nothing runs goes to the wide session, all others
to the narrow one, and between the two loads requests go through the wide one in turn (``batching.one_by_one``).
Where the narrow one gives a lower rate, or would answer too late for the
SLO, it is closed again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from assay.batching.batch_times import BatchTimes, profile_sizes
from assay.batching.profiling import profile_at_load
from assay.batching.settings import BatcherSettings
from assay.core import clock
from assay.core.engine import OpenOptions, Session
from assay.core.tensors import Feed
from assay.core.units import Bytes, Seconds
from assay.job.opening import engine
from assay.job.serve.options import Batching
from assay.measure.environment import cores_granted

PROFILE_S: Seconds = 1.0
"""About as long as t(b) is measured for at load; it is refined while serving."""
MOST_CALLS = 5
MOST_INSTANCES = 8
"""Some engines hold the weights once per instance, so a machine of many cores gets instances of several threads."""
MOST_BYTES: Bytes = 500 * 1024 * 1024
"""A larger file is opened once only."""
WORTH = 0.95
"""The narrow session is kept unless its rate at load is below this share of the wide one's."""


@dataclass(frozen=True)
class Regimes:
    """``session`` for load; ``alone`` for lone batches, None: the same.  ``close`` closes both.  ``plan`` says in words
    how many calls run side by side with how many threads each."""

    session: Session
    alone: Session | None
    times: BatchTimes | None
    alone_times: BatchTimes | None
    close: Callable[[], None]
    plan: str


@dataclass(frozen=True)
class Openable:
    """A model that can be opened: ``again`` opens it with other options; ``size_bytes`` of its file."""

    session: Session
    engine: str
    options: OpenOptions
    again: Callable[[OpenOptions], Session]
    size_bytes: Bytes


def regimes(opened: Openable, batching: Batching, feed: Feed, settings: BatcherSettings) -> Regimes:
    """``settings`` are those for one session; the caller takes the instances from the one that comes back."""
    wide, close = opened.session, opened.session.close
    options = narrow_options(opened, batching)
    if options is None:
        times = profiled(wide, feed, replace(settings, instances=wide.parallelism))
        return Regimes(wide, None, times, None, close, planned(opened.engine, opened.options, wide))
    wide_times = profiled(wide, feed, settings, PROFILE_S / 4)  # of the two, it matters less
    narrow = opened.again(options)
    try:
        times = profiled(narrow, feed, replace(settings, instances=narrow.parallelism), PROFILE_S / 2)
    except BaseException:
        narrow.close()
        raise
    sizes = profile_sizes(settings.max_batch, settings.buckets)
    widely = planned(opened.engine, opened.options, wide)
    if times is None or wide_times is None or not _worth(wide_times, (times, narrow.parallelism), sizes, batching):
        narrow.close()
        return Regimes(wide, None, wide_times, None, close, widely)

    def close_both() -> None:
        narrow.close()
        wide.close()

    plan = f"{planned(opened.engine, options, narrow)}; {widely} for a lone one"
    return Regimes(narrow, wide, times, wide_times, close_both, plan)


def narrow_options(opened: Openable, batching: Batching) -> OpenOptions | None:
    """One call per core; None where that was not left open, or the engine or the machine is not made for it."""
    options = opened.options
    cores = max(1, int(cores_granted()))
    left_open = (batching.instances, batching.threads, options.threads, options.streams) == (None,) * 4
    found = engine(opened.engine)
    if not left_open or options.instances != 1 or cores < 2 or not options.device.startswith("cpu"):
        return None
    if not getattr(found, "divides_cores", False) or opened.size_bytes > MOST_BYTES:
        return None
    instances = min(cores, MOST_INSTANCES)
    together = getattr(found, "threads_shared", False)
    return replace(options, instances=instances, threads=cores if together else cores // instances)


def planned(engine_name: str, options: OpenOptions, session: Session) -> str:
    """Such as ``2 calls × 1 thread``; the threads are all cores' where none were asked for."""
    calls = session.parallelism
    if not options.device.startswith("cpu"):
        return f"{_counted(calls, 'call')} on {options.device}"
    threads = options.threads or max(1, int(cores_granted()))
    if getattr(engine(engine_name), "threads_shared", False):
        threads = max(1, threads // calls)
    return f"{_counted(calls, 'call')} × {_counted(threads, 'thread')}"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("s" if count != 1 else "")


def _worth(wide: BatchTimes, narrow: tuple[BatchTimes, int], sizes: Sequence[int], batching: Batching) -> bool:
    times, instances = narrow
    if batching.slo_s is not None and times.predict(1) > 0.5 * batching.slo_s:
        return False
    return instances * _rate(times, sizes) >= WORTH * _rate(wide, sizes)


def _rate(times: BatchTimes, sizes: Sequence[int]) -> float:
    """Rows per second of one caller at the best size."""
    return max(size / max(times.typical(size), 1e-9) for size in sizes)


def profiled(
    session: Session, feed: Feed, settings: BatcherSettings, within_s: Seconds = PROFILE_S
) -> BatchTimes | None:
    """Warm up every size, and measure t(b) within about ``within_s``.  None where a made-up feed does not run."""
    rows = max(1, session.signature.batch_of(feed))
    try:
        session.run(feed)
        began_s = clock.now()
        session.run(feed)
    except Exception:
        return None
    per_row_s = (clock.now() - began_s) / rows
    sizes: Sequence[int] = profile_sizes(settings.max_batch, settings.buckets)
    round_s = sum(sizes) * per_row_s * settings.instances
    calls = max(1, min(MOST_CALLS, int(within_s / max(round_s, 1e-6)) - 1))
    return profile_at_load(session, feed, settings, calls, within_s)
