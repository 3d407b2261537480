"""Callers that begin together: none is left behind, whatever happens."""

import threading

import pytest

from assay.core.errors import BadInput, EngineFailed
from assay.measure.callers import call_together


@pytest.fixture
def nothing_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def test_all_are_called_and_over(nothing_left):
    inside = threading.Barrier(4)
    seen = []

    def caller(place):
        inside.wait(20)  # opens only when all four are there
        seen.append(place)

    assert call_together(caller, 4, threading.Event()) > 0
    assert sorted(seen) == [0, 1, 2, 3]


def test_the_first_failure_stops_the_others(nothing_left):
    stop = threading.Event()

    def caller(place):
        if place == 1:
            raise EngineFailed("device lost")
        assert stop.wait(20)

    with pytest.raises(EngineFailed, match="device lost"):
        call_together(caller, 3, stop)


def test_more_threads_than_the_system_gives(nothing_left, monkeypatch):
    start, started, called = threading.Thread.start, [], []

    def refusing(thread):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)
    with pytest.raises(BadInput, match="5 threads were asked for: can't start new thread"):
        call_together(called.append, 5, threading.Event())
    assert called == []


def test_an_interrupt_ends_the_callers_before_it_goes_on(nothing_left, monkeypatch):
    join, stop = threading.Thread.join, threading.Event()

    def interrupted(thread, timeout=None):
        monkeypatch.setattr(threading.Thread, "join", join)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call_together(lambda place: stop.wait(20), 2, stop)
    assert stop.is_set()
