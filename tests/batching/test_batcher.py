"""The batcher with real threads: every caller gets its own rows, and nobody's misfortune is another's."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from assay.batching.batcher import DynamicBatcher
from assay.batching.errors import Cancelled, Closed, Expired, QueueFull
from assay.batching.settings import BatcherSettings
from assay.core import clock
from assay.core.engine import OpenOptions
from assay.core.errors import BadInput, EngineFailed, SignatureMismatch, UnknownName
from assay.core.tensors import Signature, TensorSpec
from assay.engines.null import NullEngine, null_artifact


def test_many_threads_each_get_their_own_rows(tmp_path, start):
    signature = Signature((TensorSpec("x", "float32", ("n", 3)),), (TensorSpec("y", "float32", ("n", 2)),))
    artifact = null_artifact(signature, tmp_path / "null.json")
    with NullEngine().open(artifact, OpenOptions(instances=2)) as null:
        batcher = start(null, max_batch=8, instances=2, policy="adaptive")
        wrong: list[object] = []

        def caller(number: int) -> None:
            for i in range(100):
                rows = 1 + (number + i) % 3
                value = np.float32(1000 * number + i)
                marks = value + np.arange(rows, dtype=np.float32) / 8
                given = batcher.run({"x": np.repeat(marks[:, None], 3, axis=1)})["y"]
                if given.shape != (rows, 2) or not (given == marks[:, None]).all():
                    wrong.append((number, i, given))

        threads = [threading.Thread(target=caller, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        said = batcher.statistics
    assert said.completed == said.submitted == 600
    assert (
        sum(size * count for size, count in said.batches.items())
        == said.rows
        == sum(1 + (n + i) % 3 for n in range(6) for i in range(100))
    )
    assert max(said.batches) <= 8
    assert sum(t.count for t in said.times) == said.executions


def test_one_callback_per_batch(session, start, held, row, gathered):
    s = session(held)
    batcher = start(s, max_batch=4, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    batcher.submit_many([row(i) for i in range(1, 5)], gathered)
    held.release()
    gathered.wait(5)
    assert [len(call) for call in gathered.calls] == [1, 4]
    assert [float(r.result()["y"][0, 0]) for r in gathered.requests] == [1, 2, 3, 4, 5]
    assert gathered.requests[-1].batch_rows == 4


def test_callers_of_one_batch_with_different_callbacks_are_each_told_once(session, start, held, row, gathered):
    batcher = start(session(held), max_batch=4, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    other = type(gathered)()
    for i in range(4):
        batcher.submit(row(i), (gathered, other)[i % 2])
    held.release()
    gathered.wait(3)
    other.wait(2)
    assert [len(call) for call in gathered.calls] == [1, 2]
    assert [len(call) for call in other.calls] == [2]


def test_a_batch_of_one_is_passed_as_it_is(start, session, row):
    given = []
    s = session(lambda feed: given.append(feed["x"]) or {"y": feed["x"] + 1})
    feed = row(3)
    start(s, max_batch=4).run(feed)
    assert given[0] is feed["x"]


def test_outputs_belong_to_the_caller_for_ever(plus_one, start, held, session, row, gathered):
    """Written over by its owner, or kept through later batches: nobody sees the other's doing."""
    batcher = start(session(held), max_batch=4, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    batcher.submit_many([row(i) for i in range(1, 5)], gathered)
    held.release()
    outputs = [r.result()["y"] for r in gathered.wait(5)]
    outputs[1][:] = -1
    assert [float(o[0, 0]) for o in outputs] == [1, -1, 3, 4, 5]
    before = [o.copy() for o in outputs]
    for i in range(20):
        batcher.run(row(100 + i))
    assert all((a == b).all() for a, b in zip(outputs, before, strict=True))


def test_a_session_that_returns_its_own_feed_cannot_mix_rows(start, held, session, row, gathered):
    def identity(feed):
        held(feed)
        return {"y": feed["x"]}

    batcher = start(session(identity), max_batch=4, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    batcher.submit_many([row(i) for i in range(1, 9)], gathered)
    held.release()
    assert [float(r.result()["y"][0, 0]) for r in gathered.wait(9)] == list(range(9))


@pytest.mark.parametrize("writeable", [True, False])
def test_outputs_that_share_memory_among_rows_are_copied(start, held, session, row, gathered, writeable):
    def constant(feed):
        held(feed)
        seven = np.full(1, 7, np.float32)
        return {"y": np.lib.stride_tricks.as_strided(seven, feed["x"].shape, (0, 0), writeable=writeable)}

    batcher = start(session(constant), max_batch=4, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    batcher.submit_many([row(1), row(2)], gathered)
    held.release()
    first, second = (r.result()["y"] for r in gathered.wait(3)[1:])
    first[:] = 0
    assert float(second[0, 0]) == 7


def test_different_shapes_are_not_merged(session, start, held, row, gathered):
    s = session(held)
    batcher = start(s, max_batch=8, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    batcher.submit_many([row(i, width=1 + i % 2) for i in range(4)], gathered)
    held.release()
    for request in gathered.wait(5):
        assert request.feed is not None and request.result()["y"].shape == request.feed["x"].shape
    assert sorted(f["x"].shape for f in s.seen) == [(1, 1), (2, 1), (2, 2)]


def test_unbatched_inputs_are_shared_only_when_equal(start, held, session, gathered):
    signature = Signature(
        (TensorSpec("x", "float32", ("n",)), TensorSpec("scale", "float32", (1,), None)),
        (TensorSpec("y", "float32", ("n",)),),
    )

    def scaled(feed):
        held(feed)
        return {"y": feed["x"] * feed["scale"]}

    def feed(x, scale):
        return {"x": np.array([x], np.float32), "scale": np.array([scale], np.float32)}

    s = session(scaled, signature)
    batcher = start(s, max_batch=8, policy="eager")
    batcher.submit(feed(1, 1), gathered)
    assert held.entered.acquire(timeout=10)
    batcher.submit_many([feed(2, 10), feed(3, 100), feed(4, 10)], gathered, ["20", "300", "40"])
    held.release()
    got = {r.context: float(r.result()["y"][0]) for r in gathered.wait(4)[1:]}
    assert got == {"20": 20, "300": 300, "40": 40}
    assert sorted(len(f["x"]) for f in s.seen) == [1, 1, 2]


def test_a_model_with_an_unbatched_output_is_never_merged(start, held, session, gathered):
    signature = Signature(
        (TensorSpec("x", "float32", ("n",)),),
        (TensorSpec("y", "float32", ("n",)), TensorSpec("sum", "float32", (), None)),
    )

    def total(feed):
        held(feed)
        return {"y": feed["x"], "sum": np.asarray(feed["x"].sum())}

    s = session(total, signature)
    batcher = start(s, max_batch=2, policy="delay", max_delay_s=60.0)
    feeds = [{"x": np.arange(n, dtype=np.float32)} for n in (1, 2, 3, 4)]
    batcher.submit_many(feeds, gathered)
    held.release()
    sums = [float(r.result()["sum"]) for r in gathered.wait(4)]
    assert sums == [0, 1, 3, 6]
    assert [len(f["x"]) for f in s.seen] == [1, 2, 3, 4]


@pytest.mark.parametrize("axis", [0, 1])
def test_static_batch_pads_with_a_real_row_and_strips_it(start, session, gathered, axis):
    shape = (4, 2) if axis == 0 else (2, 4)
    signature = Signature((TensorSpec("x", "float32", shape, axis),), (TensorSpec("y", "float32", shape, axis),))
    s = session(lambda feed: {"y": feed["x"] * 2}, signature)
    batcher = start(s, max_batch=64, policy="eager")
    assert batcher.settings.buckets == (4,)
    x = np.moveaxis(np.array([[1, 2], [3, 4], [5, 6]], np.float32), 0, axis)
    given = batcher.run({"x": x})["y"]
    np.testing.assert_array_equal(given, x * 2)
    assert s.seen[0]["x"].shape == shape
    np.testing.assert_array_equal(s.seen[0]["x"].take(3, axis), x.take(2, axis))
    assert batcher.statistics.padded_rows == 1


def test_one_session_per_bucket(start, session, row):
    def of(size):
        signature = Signature((TensorSpec("x", "float32", (size, 1)),), (TensorSpec("y", "float32", (size, 1)),))
        return session(lambda feed: {"y": feed["x"] + size}, signature)

    sessions = {1: of(1), 4: of(4)}
    batcher = start(sessions, policy="eager")
    assert float(batcher.run(row(0))["y"][0, 0]) == 1
    assert batcher.run(row(0, rows=3))["y"].tolist() == [[4]] * 3
    assert [len(sessions[1].seen), len(sessions[4].seen)] == [1, 1]


def test_request_cancellation_harms_nobody_else(session, start, held, row, gathered):
    batcher = start(session(held), max_batch=4, policy="eager")
    running = batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    requests = batcher.submit_many([row(i) for i in range(1, 4)], gathered)
    assert requests[1].cancel() is True
    assert requests[1].done and isinstance(requests[1].error, Cancelled)
    assert requests[1].cancel() is False
    assert running.cancel() is False
    held.release()
    gathered.wait(4)
    assert [float(r.result()["y"][0, 0]) for r in (running, requests[0], requests[2])] == [1, 2, 4]
    with pytest.raises(Cancelled):
        requests[1].result()
    said = batcher.statistics
    assert (said.completed, said.dropped["cancelled"], said.pending) == (3, 1, 0)


def _poisoned(held, kind=ValueError):
    def function(feed):
        held(feed)
        if (feed["x"] == 13).any():
            raise kind("thirteen")
        return {"y": feed["x"] + 1}

    return function


def test_an_exception_in_the_model_reaches_only_the_guilty(session, start, held, row, gathered):
    batcher = start(session(_poisoned(held)), max_batch=4, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    requests = batcher.submit_many([row(12), row(13), row(14)], gathered)
    held.release()
    gathered.wait(4)
    assert [float(r.result()["y"][0, 0]) for r in (requests[0], requests[2])] == [13, 15]
    with pytest.raises(EngineFailed, match="ValueError: thirteen"):
        requests[1].result()
    said = batcher.statistics
    assert (said.completed, said.dropped["failed"], said.isolated_batches) == (3, 1, 1)
    assert float(batcher.run(row(20))["y"][0, 0]) == 21


@pytest.mark.parametrize("kind", [ValueError, EngineFailed])
def test_without_isolation_the_batch_fails_and_the_next_one_does_not(session, start, held, row, gathered, kind):
    batcher = start(session(_poisoned(held, kind)), max_batch=4, policy="eager", isolate_failures=False)
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    requests = batcher.submit_many([row(12), row(13)], gathered)
    held.release()
    gathered.wait(3)
    errors = [r.error for r in requests]
    assert all(isinstance(e, EngineFailed) for e in errors)
    assert errors[0] is not errors[1]
    assert float(batcher.run(row(20))["y"][0, 0]) == 21
    assert batcher.statistics.dropped["failed"] == 2


def test_even_a_systemexit_in_the_model_does_not_end_the_loop(session, start, row):
    def leave(feed):
        if feed["x"][0, 0] == 0:
            raise SystemExit(3)
        return {"y": feed["x"]}

    batcher = start(session(leave), policy="eager")
    with pytest.raises(EngineFailed, match="SystemExit"):
        batcher.run(row(0))
    assert float(batcher.run(row(5))["y"][0, 0]) == 5


@pytest.mark.parametrize("wrong", ["short", "long", "missing"])
def test_a_wrong_batch_length_is_an_error_and_no_mix_up(session, start, held, row, gathered, wrong):
    def function(feed):
        held(feed)
        x = feed["x"]
        if len(x) == 1:
            return {"y": x + 1}
        return {"short": {"y": x[:-1]}, "long": {"y": np.concatenate([x, x])}, "missing": {}}[wrong]

    batcher = start(session(function), max_batch=4, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    requests = batcher.submit_many([row(1), row(2), row(3)], gathered)
    held.release()
    gathered.wait(4)
    assert [float(r.result()["y"][0, 0]) for r in requests] == [2, 3, 4]  # each alone
    with pytest.raises(EngineFailed, match="no output 'y'" if wrong == "missing" else "was given 2 rows"):
        batcher.run(row(1, rows=2))


def test_a_callback_that_raises_harms_nobody_else(session, start, held, row, gathered):
    def bad(requests):
        raise RuntimeError("mine alone")

    batcher = start(session(held), max_batch=4, policy="eager")
    batcher.submit(row(0), bad)
    assert held.entered.acquire(timeout=10)
    for i in range(4):
        batcher.submit(row(i), (bad, gathered)[i % 2])
    held.release()
    gathered.wait(2)
    assert float(batcher.run(row(7))["y"][0, 0]) == 8
    assert batcher.statistics.callback_errors == 2
    assert batcher.statistics.completed == 6


def test_max_queue_size_refuses_at_once(session, start, held, row, gathered):
    batcher = start(session(held), max_batch=1, max_queue=2, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    many = batcher.submit_many([row(1), row(2), row(3)], gathered)
    assert [r.done for r in many] == [False, False, True]
    with pytest.raises(QueueFull, match="max_queue is 2"):
        batcher.submit(row(4), gathered)
    held.release()
    assert len(gathered.wait(3)) == 3
    assert batcher.statistics.dropped["rejected"] == 2


def test_a_deadline_that_passed_in_the_queue(session, start, held, row, gathered):
    batcher = start(session(held), max_batch=4, policy="eager")
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    late = batcher.submit(row(1), gathered, deadline_s=clock.now() + 0.001)
    fine = batcher.submit(row(2), gathered, deadline_s=clock.now() + 60)
    time.sleep(0.005)
    held.release()
    gathered.wait(3)
    assert isinstance(late.error, Expired)
    assert float(fine.result()["y"][0, 0]) == 3
    assert batcher.statistics.dropped["expired"] == 1


def test_the_delay_ends_by_itself(plus_one, start, row, gathered):
    batcher = start(plus_one, max_batch=8, policy="delay", max_delay_s=0.3, instances=2)
    batcher.submit(row(1), gathered)
    batcher.submit(row(2), gathered)
    first, second = gathered.wait(2)
    assert first.batch_rows == second.batch_rows == 2
    assert first.started_s - first.enqueued_s >= 0.3


def test_the_delay_is_watched_while_another_instance_runs(session, start, held, row, gathered):
    """The instance that was waiting for the delay went off with another batch: someone else must take over."""

    def function(feed):
        return held(feed) if feed["x"].shape[1] == 2 else {"y": feed["x"] + 1}

    batcher = start(session(function), max_batch=2, policy="delay", max_delay_s=0.03, instances=2)
    batcher.submit(row(1), gathered)
    batcher.submit_many([row(5, width=2), row(6, width=2)], gathered)
    assert held.entered.acquire(timeout=10)
    (done,) = gathered.wait(1)
    assert float(done.result()["y"][0, 0]) == 2


def test_preserve_ordering(session, start, row, gathered):
    """Two instances, the first batch slow: the second one's answer waits for it."""
    slow = threading.Event()
    entered = threading.Semaphore(0)

    def function(feed):
        entered.release()
        if feed["x"][0, 0] == 0:
            assert slow.wait(10)
        return {"y": feed["x"]}

    batcher = start(session(function), max_batch=1, policy="eager", instances=2, preserve_ordering=True)
    batcher.submit_many([row(0), row(1)], gathered)
    assert entered.acquire(timeout=10) and entered.acquire(timeout=10)
    time.sleep(0.02)
    assert gathered.calls == []
    slow.set()
    assert [float(r.result()["y"][0, 0]) for r in gathered.wait(2)] == [0, 1]


def test_close_drains_then_refuses(session, row, gathered, held):
    batcher = DynamicBatcher(session(held), BatcherSettings(max_batch=2, policy="delay", max_delay_s=60.0))
    batcher.start()
    batcher.submit_many([row(i) for i in range(5)], gathered)
    held.release()
    assert batcher.close(drain_s=10) is True
    assert [float(r.result()["y"][0, 0]) for r in gathered.requests] == [1, 2, 3, 4, 5]
    with pytest.raises(Closed):
        batcher.submit(row(1), gathered)
    with pytest.raises(Closed):
        batcher.start()
    assert batcher.close() is True


def test_close_answers_what_it_could_not_drain(session, row, gathered, held):
    batcher = DynamicBatcher(session(held), BatcherSettings(max_batch=1, policy="eager"))
    batcher.start()
    batcher.submit(row(0), gathered)
    assert held.entered.acquire(timeout=10)
    left = batcher.submit(row(1), gathered)
    assert batcher.close(drain_s=0.01) is False
    assert isinstance(left.error, Closed)
    held.release()
    assert float(gathered.wait(2)[1].result()["y"][0, 0]) == 1
    assert batcher.close() is True


def test_requests_wait_for_the_start(plus_one, row, gathered):
    batcher = DynamicBatcher(plus_one, BatcherSettings(max_batch=4))
    batcher.submit_many([row(i) for i in range(3)], gathered)
    with batcher:
        gathered.wait(3)
    assert [len(f["x"]) for f in plus_one.seen] == [3]


def test_run_is_a_session(plus_one, start, row):
    batcher = start(plus_one, max_batch=4)
    out = {"y": np.zeros((1, 1), np.float32)}
    spans: dict[str, float] = {}
    given = batcher.run(row(4), out, spans)
    assert given["y"] is out["y"] and out["y"][0, 0] == 5
    assert set(spans) == {"queue", "batch"} and min(spans.values()) >= 0
    assert batcher.signature == plus_one.signature
    assert batcher.parallelism == 8


@pytest.mark.parametrize(
    "feed",
    [
        {"z": np.zeros((1, 1), np.float32)},
        {"x": np.zeros((1, 1), np.float64)},
        {"x": np.zeros(1, np.float32)},
        {"x": np.zeros((1, 1), np.float32), "extra": np.zeros(1)},
        {"x": [[1.0]]},
    ],
)
def test_an_unfit_feed_is_refused_on_the_callers_thread(plus_one, start, row, feed):
    batcher = start(plus_one)
    batcher.run(row(1))  # the right shape is known by now
    with pytest.raises(SignatureMismatch):
        batcher.run(feed)
    assert batcher.statistics.submitted == 1


def test_no_rows_and_too_many_rows_are_refused(plus_one, start, row):
    batcher = start(plus_one, max_batch=4)
    with pytest.raises(BadInput, match="at least one row"):
        batcher.run(row(1, rows=0))
    with pytest.raises(BadInput, match="takes 1 to 4"):
        batcher.run(row(1, rows=5))


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"max_batch": 0}, BadInput, "max_batch"),
        ({"policy": "eagre"}, UnknownName, "eagre"),
        ({"max_delay_s": float("nan")}, BadInput, "max_delay_s"),
        ({"slo_s": 0.0}, BadInput, "slo_s"),
        ({"buckets": (4, 2), "max_batch": 4}, BadInput, "ascending"),
        ({"buckets": (1, 2), "max_batch": 4}, BadInput, "largest bucket"),
        ({"preferred": (9,)}, BadInput, "preferred"),
        ({"default_priority": 2}, BadInput, "default_priority"),
        ({"on_timeout": "retry"}, UnknownName, "retry"),
        ({"preserve_ordering": True, "priority_levels": 2}, BadInput, "preserve_ordering"),
    ],
)
def test_settings_that_cannot_be(settings, kind, said):
    with pytest.raises(kind, match=said):
        BatcherSettings(**settings)


def test_buckets_that_contradict_the_engine(session):
    signature = Signature((TensorSpec("x", "float32", (4, 1)),), (TensorSpec("y", "float32", (4, 1)),))
    with pytest.raises(BadInput, match="the engine's batch sizes"):
        DynamicBatcher(session(lambda feed: {"y": feed["x"]}, signature), BatcherSettings(buckets=(8,)))
