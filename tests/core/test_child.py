import os
import time
from pathlib import Path

import pytest

from assay.core import child
from assay.core.child import Limits
from assay.core.errors import BadInput, ChildFailed

TARGETS = {"PYTHONPATH": str(Path(__file__).parent / "targets")}


def run(name, arguments=None, **limits):
    env = {**TARGETS, **limits.pop("env", {})}
    return child.run(f"child_targets:{name}", arguments or {}, Limits(env=env, **limits))


def gone(pid):
    """Whether a process has ended (a zombie that nobody reaps counts)."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def test_value_output_and_memory_come_back():
    outcome = run("add", {"a": 2, "b": 3})
    assert outcome.value == 5
    assert "adding" in outcome.output
    assert outcome.peak_rss_bytes > 1_000_000


def test_environment_is_added():
    assert run("variable", {"name": "ASSAY_TEST"}, env={"ASSAY_TEST": "yes"}).value == "yes"


def test_a_file_in_the_current_folder_is_no_library(tmp_path, monkeypatch):
    """``python -m`` would look there first, where the tool itself does not look at all."""
    for name in ("pickle", "numpy", "runpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger was run')")
    monkeypatch.chdir(tmp_path)
    assert run("add", {"a": 2, "b": 3}).value == 5


def test_modules_are_found_where_this_process_finds_them(tmp_path, monkeypatch):
    (tmp_path / "found_by_path.py").write_text("def answer(): return 42")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert child.run("found_by_path:answer", {}).value == 42


def test_errors_of_ours_cross_with_their_remedy():
    with pytest.raises(BadInput, match="cannot be right") as caught:
        run("refuse")
    assert caught.value.remedy == "do it otherwise"


def test_other_errors_name_what_was_said_last():
    with pytest.raises(ChildFailed, match=r"exit code 1.*something unexpected"):
        run("stumble")


def test_a_crash_names_the_signal_and_the_last_words(tmp_path):
    with pytest.raises(ChildFailed, match=r"SIGSEGV.*last words") as caught:
        run("crash", log=tmp_path / "log")
    assert caught.value.log == str(tmp_path / "log")
    assert "last words" in (tmp_path / "log").read_text()


def test_timeout():
    with pytest.raises(ChildFailed, match=r"longer than 500 ms"):
        run("sleep", {"seconds": 60}, timeout_s=0.5)


def test_memory_limit():
    with pytest.raises(ChildFailed, match=r"the limit is 100 MiB"):
        run("grow", {"size_bytes": 200 * 2**20}, memory_bytes=100 * 2**20)


def test_grandchildren_are_ended_with_a_child_that_hangs(tmp_path):
    note = tmp_path / "pid"
    with pytest.raises(ChildFailed, match="longer than"):
        run("leave_a_grandchild", {"note": str(note), "linger": 60}, timeout_s=2.0)
    assert gone(int(note.read_text()))


def test_grandchildren_are_ended_with_a_child_that_returned(tmp_path):
    outcome = run("leave_a_grandchild", {"note": str(tmp_path / "pid"), "linger": 0})
    assert gone(outcome.value)


def test_a_result_that_cannot_travel():
    with pytest.raises(ChildFailed, match="pickle"):
        run("unpicklable")


def test_tree_rss_counts_descendants(tmp_path):
    assert child.tree_rss(os.getpid()) > 1_000_000
    assert child.tree_rss(2**22 + 1) == 0


def test_without_a_limit_given_a_child_may_take_most_of_what_is_available():
    limit = child.Limits().memory_bytes
    assert limit is not None
    assert 0 < limit < 2**50
