"""t(b) as it will be while serving: measured at load with as many callers as there are instances."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping

import numpy as np

from assay.batching.batch_times import BatchTimes, profile, profile_sizes
from assay.batching.settings import BatcherSettings
from assay.batching.worker import Sessions, fitting
from assay.core import clock
from assay.core.engine import Session
from assay.core.errors import BadInput
from assay.core.tensors import Array, Feed, Signature
from assay.core.units import Seconds


def profile_at_load(
    session: Session | Mapping[int, Session],
    feed: Feed,
    settings: BatcherSettings,
    calls: int = 5,
    within_s: Seconds = math.inf,
) -> BatchTimes:
    """Run ``session`` at the sizes worth knowing, ``settings.instances`` callers at a time, ``calls`` times each.

    Instances share cores, so the t(b) of one caller alone would be too good to be true.  ``feed``
    (one row or more) is repeated to every size; a model that is never merged is run with it as
    it is.  Doubles as the warm-up.  No size is begun after ``within_s``: the smallest and the largest come first,
    what lies between is then interpolated.  Raises BadInput for a feed without rows, and what the session raises.
    """
    sessions = Sessions.of(session)
    signature = sessions.signature
    settings = fitting(settings, sessions)
    rows = signature.batch_of(feed)
    if rows < 1:
        raise BadInput("a profile needs a feed of at least one row")
    sizes = profile_sizes(settings.max_batch, settings.buckets) if sessions.mergeable else (rows,)
    feeds = {size: repeated(signature, feed, size) if sessions.mergeable else feed for size in sizes}
    points: dict[int, list[Seconds]] = {size: [] for size in sizes}
    failures: list[Exception] = []

    def caller(size: int) -> None:
        try:
            measured = profile(lambda b: sessions.at(b).run(feeds[b]), (size,), calls)
            points[size].extend(measured[size])
        except Exception as error:
            failures.append(error)

    until_s = clock.now() + within_s
    for size in dict.fromkeys((sizes[0], sizes[-1], *sizes)):
        if size != sizes[0] and clock.now() > until_s:
            continue
        threads = [threading.Thread(target=caller, args=(size,)) for _ in range(settings.instances)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
    return BatchTimes(settings.max_batch, points={size: found for size, found in sorted(points.items()) if found})


def repeated(signature: Signature, feed: Feed, rows: int) -> dict[str, Array]:
    """``feed`` with its rows repeated in turn to ``rows`` rows; unbatched inputs as they are."""
    made: dict[str, Array] = {}
    for spec in signature.inputs:
        array = feed[spec.name]
        if spec.batch_axis is None:
            made[spec.name] = array
            continue
        index = np.arange(rows) % array.shape[spec.batch_axis]
        made[spec.name] = np.ascontiguousarray(array.take(index, spec.batch_axis))
    return made
