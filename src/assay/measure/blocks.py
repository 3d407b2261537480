"""A short block of calls, timed as a whole: what interleaved comparisons of rates are made of."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence

from assay.core import clock
from assay.core.engine import Session
from assay.core.errors import BadInput
from assay.core.tensors import Feed
from assay.core.units import Seconds
from assay.measure.callers import call_together
from assay.measure.latency import quiet_gc


def timed_block(session: Session, feeds: Sequence[Feed], calls: int, callers: int = 1) -> Seconds:
    """Seconds per call of ``callers`` callers that make ``calls`` calls each, from the first start to the last end.

    With several callers a call counts with the time in which as many as there are callers were made,
    divided by their number: the inverse is the rate.  Raises BadInput for no feeds, calls or callers, and what
    ``session.run`` raises.
    """
    if not feeds or calls < 1 or callers < 1:
        raise BadInput(f"a block needs feeds, calls and callers, not {len(feeds)}, {calls} and {callers}")
    if callers == 1:
        now = clock.current().now
        with quiet_gc():
            started = now()
            for feed in itertools.islice(itertools.cycle(feeds), calls):
                session.run(feed)
            return (now() - started) / calls
    stop = threading.Event()

    def caller(first: int) -> None:
        for i in range(calls):
            if stop.is_set():
                return
            session.run(feeds[(first + i) % len(feeds)])

    with quiet_gc():
        return call_together(caller, callers, stop) / (calls * callers)
