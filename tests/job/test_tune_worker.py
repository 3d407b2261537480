"""The process that stays: answers, errors, crashes, hangs, and nothing left behind."""

import os
import time

import pytest

from assay.core.errors import BadInput, ChildFailed, EngineFailed
from assay.job.tune.worker import Worker


@pytest.fixture
def worker(tmp_path):
    with Worker(tmp_path / "logs" / "worker.log") as made:
        yield made


def test_one_process_answers_many_calls(worker):
    pids = {worker.call("os:getpid", {}) for _ in range(3)}
    assert len(pids) == 1 and os.getpid() not in pids
    assert worker.call("posixpath:join", {"a": "x"}) == "x"
    assert worker.starts == 1


def test_an_error_comes_back_and_the_process_stays(worker):
    pid = worker.call("os:getpid", {})
    with pytest.raises(BadInput, match="soon"):
        worker.call("assay.search.objective:parse_objective", {"text": "throughput where p99 < soon and"})
    with pytest.raises(EngineFailed, match="FileNotFoundError"):
        worker.call("os:listdir", {"path": "/no/such/folder"})
    assert worker.call("os:getpid", {}) == pid


def test_a_crash_is_said_and_the_next_call_starts_another(worker):
    first = worker.call("os:getpid", {})
    with pytest.raises(ChildFailed, match=r"abort died.*SIGABRT"):
        worker.call("os:abort", {})
    second = worker.call("os:getpid", {})
    assert second != first and worker.starts == 2


def test_a_hang_is_ended(worker):
    pid = worker.call("os:getpid", {})
    with pytest.raises(ChildFailed, match="longer than"):
        worker.call("signal:pause", {}, 0.3)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_something_else_goes_on_while_it_works(worker):
    worker.send("os:getpid", {})
    assert worker.answer("os:getpid") > 0


def test_it_leaves_with_its_owner(tmp_path):
    with Worker(tmp_path / "log") as made:
        pid = made.call("os:getpid", {})
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the process is still there")


def test_it_prepares_itself(tmp_path):
    with Worker(tmp_path / "log", ("assay.job.tune.press:ready", "null")) as made:
        assert made.call("os:getpid", {}) > 0
    with Worker(tmp_path / "log", ("assay.job.tune.press:ready", "no-such-engine")) as made:
        assert made.call("os:getpid", {}) > 0
