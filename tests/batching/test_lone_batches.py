"""A second session for batches that have the machine to themselves."""

import numpy as np
import pytest

from assay.batching.batcher import DynamicBatcher
from assay.batching.settings import BatcherSettings
from assay.core.errors import BadInput
from assay.core.tensors import Signature, TensorSpec


def test_lone_requests_go_there_and_company_does_not(session, held, row, gathered):
    lone, busy = session(lambda feed: {"y": -feed["x"]}), session(held)
    settings = BatcherSettings(max_batch=2, instances=2, policy="eager")
    with DynamicBatcher(busy, settings, alone=lone) as batcher:
        for value in (1, 2):
            batcher.submit(row(value), gathered)
            gathered.wait(value)
        assert [r.outputs["y"][0, 0] for r in gathered.requests] == [-1, -2]
        assert busy.seen == []
        batcher.submit_many([row(3), row(4), row(5)], gathered)  # two batches: neither is alone when it starts
        assert held.entered.acquire(timeout=10)
        assert held.entered.acquire(timeout=10)
        held.release()
        held.release()
        gathered.wait(5)
        assert [len(feed["x"]) for feed in lone.seen] == [1, 1]
        assert sorted(len(feed["x"]) for feed in busy.seen) == [1, 2]
        said = batcher.statistics
    assert said.executions == 4
    assert said.completed == 5


def test_their_durations_say_nothing_about_the_load(session, row, gathered):
    def double(feed):
        return {"y": 2 * feed["x"]}

    with DynamicBatcher(session(double), BatcherSettings(policy="eager"), alone=session(double)) as batcher:
        for value in range(5):
            batcher.submit(row(value), gathered)
            gathered.wait(value + 1)
        assert batcher.statistics.executions == 5
        assert sum(t.count for t in batcher.statistics.times) == 0


def test_it_must_be_the_same_model(session):
    other = Signature((TensorSpec("x", "float32", ("n", 5)),), (TensorSpec("y", "float32", ("n", 5)),))
    with pytest.raises(BadInput, match="another model"):
        DynamicBatcher(session(lambda feed: feed), alone=session(lambda feed: feed, other))


def test_rows_are_the_callers_own_in_both(session, row, gathered):
    def same(feed):
        return {"y": np.array(feed["x"])}

    with DynamicBatcher(session(same), BatcherSettings(max_batch=4, instances=2), alone=session(same)) as batcher:
        for value in range(200):
            batcher.submit(row(value), gathered)
        found = gathered.wait(200)
    assert sorted(r.outputs["y"][0, 0] for r in found) == list(range(200))
    assert all(r.outputs["y"][0, 0] == r.feed["x"][0, 0] for r in found)
