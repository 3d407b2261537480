"""Blocks of calls: how many are made, by whom, and what their time is per call."""

import threading

import numpy as np
import pytest

from assay.core import clock
from assay.core.errors import BadInput, EngineFailed
from assay.measure.blocks import timed_block


class Sleeping:
    """Calls that take ``seconds`` of a clock that only calls move."""

    def __init__(self, seconds):
        self.seconds, self.now, self.seen, self.lock = seconds, 0.0, [], threading.Lock()

    def run(self, feed):
        with self.lock:
            self.now += self.seconds
            self.seen.append(feed["x"][0])
        return {"y": feed["x"]}

    def clock(self):
        return clock.Clock(now=lambda: self.now, sleep=lambda s: None, wall=clock.REAL.wall)


def feeds(count=3):
    return [{"x": np.full(1, i)} for i in range(count)]


def test_one_caller():
    session = Sleeping(0.5)
    with clock.use(session.clock()):
        assert timed_block(session, feeds(), 7) == pytest.approx(0.5)
    assert session.seen == [0, 1, 2, 0, 1, 2, 0]


def test_several_callers_share_the_time():
    session = Sleeping(0.25)
    with clock.use(session.clock()):
        # The calls follow one another on this clock, so the rate is one call in 0.25 s whoever makes it.
        assert timed_block(session, feeds(), 5, callers=4) == pytest.approx(0.25, rel=0.3)
    assert len(session.seen) == 20


def test_a_failing_call_is_raised():
    class Failing:
        def run(self, feed):
            raise EngineFailed("it fell over")

    for callers in (1, 3):
        with pytest.raises(EngineFailed, match="fell over"):
            timed_block(Failing(), feeds(), 2, callers)


@pytest.mark.parametrize(("given", "calls", "callers"), [([], 1, 1), (feeds(), 0, 1), (feeds(), 1, 0)])
def test_an_empty_block_is_refused(given, calls, callers):
    with pytest.raises(BadInput, match="a block needs"):
        timed_block(Sleeping(1.0), given, calls, callers)
