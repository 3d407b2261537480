"""Nothing is lost, nothing is done twice, memory is bounded, a kill changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import WEIGHTS, Small, evaluate

from assay.core import clock
from assay.core.errors import AssayError, BadInput
from assay.pipeline import Flow, ShardStore, run

SMALL = Path(__file__).with_name("small.py")


def go(small: Small, folder: Path, **flow: Any) -> tuple[Any, ShardStore]:
    store = ShardStore(folder, {"test": 1}, "jsonl")
    settings = {"total": small.count, "batch": 8, "workers": 3, "cores": 2, "parallelism": 2, "shard_size": 24, **flow}
    return run(small.stages(), Flow(**settings), store), store


def rows(store: ShardStore) -> list[Any]:
    return [dict(s.row) for s in store.rows()]


@pytest.mark.parametrize("batch", ["batch", 8])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_sample_once_in_order_and_right(batch: Any, workers: int, tmp_path: Path) -> None:
    small = Small(101, batch)
    outcome, store = go(small, tmp_path, workers=workers)
    assert (outcome.read, outcome.scored, outcome.failures, outcome.done_now) == (101, 101, (), 101)
    found = rows(store)
    assert [r["id"] for r in found] == [f"s{i:04d}" for i in range(101)]
    for i in (0, 50, 100):
        expected = np.random.default_rng(i).standard_normal(6).astype(np.float32) @ WEIGHTS
        np.testing.assert_allclose(found[i]["y"], expected, rtol=1e-5)
    assert sorted(small.batches) == [8] * 13 if batch == 8 else [5] + [8] * 12
    assert small.most_running <= workers


def test_reading_stays_a_bounded_way_ahead(tmp_path: Path) -> None:
    small = Small(400, delay_s=0.002)
    go(small, tmp_path, workers=2, batch=4)
    # A queue of three batches, one that the reader holds, and one in each worker's hands.
    assert small.most_ahead <= 4 * (3 + 1 + 2)


def test_no_more_preprocess_at_a_time_than_there_are_cores(tmp_path: Path) -> None:
    small = Small(300, delay_s=0.001)
    go(small, tmp_path, workers=6, cores=2, shared=False)
    assert small.most_preparing <= 2
    assert small.most_running > 1


@pytest.mark.parametrize("workers", [1, 3])
def test_what_fails_is_named_and_counts_add_up(workers: int, tmp_path: Path) -> None:
    small = Small(60)
    small.broken, small.odd, small.refused = {0, 17, 59}, {3, 18}, {20, 41}
    outcome, store = go(small, tmp_path, workers=workers, max_failures=7)
    assert (outcome.read, outcome.scored, len(outcome.failures)) == (60, 53, 7)
    assert dict(outcome.failures) == {
        "item 0": "file0 cannot be read",
        "item 17": "file17 cannot be read",
        "item 59": "file59 cannot be read",
        "s0003": "not a whole image",
        "s0018": "not a whole image",
        "s0020": "the engine refuses NaN",
        "s0041": "the engine refuses NaN",
    }
    bad = {0, 17, 59, 3, 18, 20, 41}
    assert [r["id"] for r in rows(store)] == [f"s{i:04d}" for i in range(60) if i not in bad]


@pytest.mark.parametrize("kind", ["broken", "odd"])
def test_the_first_failure_stops_by_default(kind: str, tmp_path: Path) -> None:
    small = Small(500)
    setattr(small, kind, {120})
    with pytest.raises(BadInput, match="1 samples failed, more than the 0 allowed: ") as caught:
        go(small, tmp_path)
    assert "120" in caught.value.message
    assert "--max-failures" in (caught.value.remedy or "")
    assert small.prepared < 500
    finished = ShardStore(tmp_path, {"test": 1}).finished
    assert 0 < len(finished) < 21
    small.broken, small.odd = set(), set()
    outcome, _ = go(small, tmp_path)
    assert outcome.scored == 500
    assert outcome.done_now == 500 - 24 * len(finished)


def test_an_error_that_is_the_same_for_all_is_told_as_it_is(tmp_path: Path) -> None:
    small = Small(50)
    small.refused = set(range(50))
    with pytest.raises(BadInput, match="the engine refuses NaN"):
        go(small, tmp_path, max_failures=None)
    assert len(small.batches) < 50


def test_data_that_end_early_are_failures(tmp_path: Path) -> None:
    small = Small(50)
    outcome, _ = go(small, tmp_path, total=53, max_failures=3)
    assert outcome.scored == 50
    assert outcome.failures[0] == ("item 50", "the data ended before it")


def test_an_id_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    small = Small(20)
    honest = small.read
    small.read = lambda a, b: (type(i)("same", i.content, i.target) for i in honest(a, b))  # type: ignore[method-assign]
    with pytest.raises(BadInput, match="occur more than once"):
        go(small, tmp_path)


def test_a_task_that_loses_a_sample_is_refused(tmp_path: Path) -> None:
    small = Small(20)
    honest = small.score
    small.score = lambda ids, outputs, targets: honest(ids, outputs, targets)[:-1]  # type: ignore[method-assign]
    with pytest.raises(AssayError, match="the task gave 0 results for 1 samples"):
        go(small, tmp_path)


def test_a_bug_in_a_stage_is_not_swallowed(tmp_path: Path) -> None:
    small = Small(20)

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError("a bug")

    small.read = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        go(small, tmp_path / "a")
    other = Small(20)
    other.infer = broken  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        go(other, tmp_path / "b")


def test_killed_and_restarted_gives_the_same(tmp_path: Path) -> None:
    _, whole = evaluate(tmp_path / "whole")
    expected = rows(whole)
    folder = tmp_path / "killed"
    for round in range(2):
        process = subprocess.Popen([sys.executable, str(SMALL), str(folder), "0.05"])
        deadline = clock.now() + 60
        while len(list(folder.glob("shard-*"))) < 2 * (round + 1) and clock.now() < deadline:
            assert process.poll() is None, "it ended before it could be killed"
            clock.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("shard-*")}
    assert 4 <= len(before) < 13
    outcome, store = evaluate(folder)
    assert rows(store) == expected
    assert outcome.scored == 200
    assert outcome.done_now <= 200 - 16 * (len(before) - 1)  # the last may have been renamed and not yet noted
    after = {p.name: p.stat().st_mtime_ns for p in folder.glob("shard-*")}
    assert sum(after[name] != before[name] for name in before) <= 1
    again, _ = evaluate(folder)
    assert (again.done_now, again.scored) == (0, 200)


@pytest.mark.parametrize("wrong", ["total", "batch", "workers"])
def test_settings_that_cannot_be_right(wrong: str) -> None:
    with pytest.raises(BadInput, match=f"the pipeline's {wrong} must be at least 1"):
        Flow(**{"total": 5, wrong: 0})


def test_an_interrupt_before_all_threads_are_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends the run is the interrupt, not a thread that was never started."""
    start, started = threading.Thread.start, []

    def interrupted(thread: threading.Thread) -> None:
        if len(started) == 2:  # the reader and the first of three workers
            raise KeyboardInterrupt
        started.append(thread)
        start(thread)

    small, store = Small(100), ShardStore(tmp_path, {"test": 1}, "jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(small.stages(), Flow(100, batch=8, workers=3), store)
    assert not any(thread.is_alive() for thread in started)


def test_no_thread_is_left_where_a_batch_does_not_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(signature: Any, batch: int) -> Any:
        raise MemoryError

    monkeypatch.setattr("assay.pipeline.batch_work.make_slot", too_large)
    small, store = Small(100), ShardStore(tmp_path, {"test": 1}, "jsonl")
    with pytest.raises(MemoryError):
        run(small.stages(), Flow(100, batch=8, workers=3), store)
    assert not any(thread.name == "assay-read" for thread in threading.enumerate())
