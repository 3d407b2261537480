from __future__ import annotations

import pytest

from assay.batching.direct import Direct
from assay.batching.errors import Closed
from assay.core.errors import EngineFailed


def test_every_request_is_run_alone(plus_one, row, gathered):
    with Direct(plus_one, instances=2) as direct:
        direct.submit_many([row(i) for i in range(20)], gathered, range(20))
        direct.submit(row(20), gathered, 20)
        done = gathered.wait(21)
    assert {r.context: float(r.result()["y"][0, 0]) for r in done} == {i: i + 1 for i in range(21)}
    assert {len(f["x"]) for f in plus_one.seen} == {1}
    assert all(r.enqueued_s <= r.started_s <= r.finished_s for r in done)


def test_one_failure_is_one_failure(session, row, gathered):
    def fussy(feed):
        if feed["x"][0, 0] == 3:
            raise ValueError("three")
        return {"y": feed["x"]}

    with Direct(session(fussy), instances=1) as direct:
        direct.submit_many([row(i) for i in range(6)], gathered, range(6))
        done = gathered.wait(6)
    assert [r.context for r in done if r.error is not None] == [3]
    with pytest.raises(EngineFailed, match="three"):
        done[3].result()


def test_a_callback_that_raises_does_not_end_the_thread(plus_one, row, gathered):
    def bad(requests):
        raise RuntimeError("mine")

    with Direct(plus_one, instances=1) as direct:
        direct.submit(row(0), bad)
        direct.submit(row(1), gathered)
        gathered.wait(1)
        assert direct.callback_errors == 1


def test_close_finishes_what_waits_then_refuses(plus_one, row, gathered):
    direct = Direct(plus_one, instances=1)
    direct.submit_many([row(i) for i in range(5)], gathered)
    direct.start()
    direct.close()
    direct.close()
    assert len(gathered.requests) == 5
    with pytest.raises(Closed):
        direct.submit(row(1), gathered)
