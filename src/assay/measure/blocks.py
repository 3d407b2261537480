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
from assay.measure.latency import quiet_gc


def timed_block(session: Session, feeds: Sequence[Feed], calls: int, callers: int = 1) -> Seconds:
    """Seconds per call of ``callers`` callers that make ``calls`` calls each, from the first start to the last end.

    With several callers a call counts with the time in which as many as there are callers were made,
    divided by their number: the inverse is the rate.  Raises BadInput for no feeds, calls or callers, and what
    ``session.run`` raises.
    """
    if not feeds or calls < 1 or callers < 1:
        raise BadInput(f"a block needs feeds, calls and callers, not {len(feeds)}, {calls} and {callers}")
    now = clock.current().now
    if callers == 1:
        with quiet_gc():
            started = now()
            for feed in itertools.islice(itertools.cycle(feeds), calls):
                session.run(feed)
            return (now() - started) / calls
    failures: list[BaseException] = []
    ready = threading.Barrier(callers + 1)

    def caller(first: int) -> None:
        ready.wait()
        try:
            for i in range(calls):
                session.run(feeds[(first + i) % len(feeds)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(callers)]
    with quiet_gc():
        for thread in threads:
            thread.start()
        ready.wait()
        started = now()
        for thread in threads:
            thread.join()
        span = now() - started
    if failures:
        raise failures[0]
    return span / (calls * callers)
