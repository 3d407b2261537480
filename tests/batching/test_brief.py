"""Batches so short that the thread that submits them runs them."""

import threading
import time
from dataclasses import replace

import pytest

from assay.batching.batch_times import BatchTimes
from assay.batching.batcher import DynamicBatcher
from assay.batching.settings import BatcherSettings
from assay.core.errors import BadInput

SHORT = BatcherSettings(max_batch=4, instances=2, policy="eager", brief_s=1e-3)


def times(seconds):
    return BatchTimes(4, points={size: [seconds] * 5 for size in (1, 4)})


@pytest.fixture
def noted(session):
    """A session that notes which thread ran it."""
    ran_on = []

    def double(feed):
        ran_on.append(threading.get_ident())
        return {"y": 2 * feed["x"]}

    made = session(double)
    made.ran_on = ran_on
    return made


def wait_idle(batcher, count):
    until = time.monotonic() + 10
    while len(batcher._idle) < count:
        assert time.monotonic() < until
        time.sleep(0.001)


def test_a_brief_batch_is_done_when_submit_returns(noted, row, gathered):
    with DynamicBatcher(noted, SHORT, times(1e-5)) as batcher:
        wait_idle(batcher, 2)
        for value in range(20):
            request = batcher.submit(row(value), gathered)
            assert request.outputs["y"][0, 0] == 2 * value
        assert set(noted.ran_on) == {threading.get_ident()}
        assert batcher.statistics.completed == 20
        assert len(batcher._idle) == 2


@pytest.mark.parametrize("known", [times(2e-3), None])
def test_a_longer_or_unknown_one_is_handed_over(noted, row, gathered, known):
    with DynamicBatcher(noted, SHORT, known) as batcher:
        wait_idle(batcher, 2)
        batcher.submit(row(1), gathered)
        gathered.wait(1)
        assert threading.get_ident() not in noted.ran_on


def test_one_that_failed_is_told_as_ever(session, row, gathered):
    def broken(feed):
        raise ValueError("no")

    with DynamicBatcher(session(broken), SHORT, times(1e-5)) as batcher:
        wait_idle(batcher, 2)
        request = batcher.submit(row(1), gathered)
        assert request.done
        assert "no" in str(request.error)
        assert len(batcher._idle) == 2


def test_a_callback_that_submits_again_does_not_pile_up(noted, row):
    """Three thousand requests, each submitted by the one before: far more than the interpreter's recursion limit."""
    left, deepest, done = [3000], [0], threading.Event()
    depth = threading.local()

    def again(requests):
        depth.now = getattr(depth, "now", 0) + 1
        deepest[0] = max(deepest[0], depth.now)
        left[0] -= 1
        if left[0] > 0:
            batcher.submit(row(left[0]), again)
        else:
            done.set()
        depth.now -= 1

    with DynamicBatcher(noted, SHORT, times(1e-5)) as batcher:
        batcher.submit(row(0), again)
        assert done.wait(20)
    assert deepest[0] <= SHORT.instances + 1


def test_many_threads_lose_nothing(noted, row, gathered):
    room = replace(SHORT, max_queue=1800)  # on a loaded machine all of them may wait at one time
    with DynamicBatcher(noted, room, times(1e-5)) as batcher:

        def work(start):
            for value in range(start, start + 300):
                batcher.submit(row(value), gathered)

        threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = gathered.wait(1800)
        wait_idle(batcher, 2)
        assert batcher._waking == 0
    wanted = sorted(2 * (1000 * i + j) for i in range(6) for j in range(300))
    assert sorted(int(r.outputs["y"][0, 0]) for r in found) == wanted


def test_closing_waits_for_what_runs_here(session, row, gathered):
    entered, free = threading.Event(), threading.Event()

    def slow(feed):
        entered.set()
        assert free.wait(10)
        return {"y": feed["x"]}

    batcher = DynamicBatcher(session(slow), BatcherSettings(brief_s=1e-3), times_of_eight(1e-5))
    batcher.start()
    wait_idle(batcher, 1)
    caller = threading.Thread(target=batcher.submit, args=(row(1), gathered))
    caller.start()
    assert entered.wait(10)
    closer = threading.Thread(target=batcher.close)
    closer.start()
    time.sleep(0.05)
    assert closer.is_alive()
    free.set()
    caller.join(10)
    closer.join(10)
    assert not closer.is_alive()
    assert gathered.requests[0].error is None


def times_of_eight(seconds):
    return BatchTimes(8, points={size: [seconds] * 5 for size in (1, 8)})


def test_a_negative_length_is_refused():
    with pytest.raises(BadInput, match="brief_s"):
        BatcherSettings(brief_s=-1)


def test_answers_in_order_and_a_callback_that_submits_again(noted, row):
    """The nested batch is over before ``submit`` returns, while its elder's callback still runs."""
    left, values, done = [50], [], threading.Event()

    def again(requests):
        values.extend(int(r.outputs["y"][0, 0]) for r in requests)
        left[0] -= 1
        if left[0] > 0:
            batcher.submit(row(len(values)), again)
        else:
            done.set()

    with DynamicBatcher(noted, replace(SHORT, preserve_ordering=True), times(1e-5)) as batcher:
        wait_idle(batcher, 2)
        first = threading.Thread(target=batcher.submit, args=(row(0), again), daemon=True)
        first.start()
        assert done.wait(20)
    assert values == [2 * n for n in range(50)]
