"""Engines that crash, hang, leak or give no numbers: the run says so, and does without them."""

import json
import signal
import time
from pathlib import Path

import pytest
from tests.hardening.faults import arguments, assay, kill, records, start


def test_a_crash_is_told_by_the_next_run_which_does_without_that_engine(model: Path, tmp_path: Path) -> None:
    given = arguments(model, tmp_path / "run")
    first = assay(given, breaks="crash:2")
    assert first.code == -signal.SIGSEGV
    kept = [r["id"] for r in records(tmp_path / "run")]
    again = assay(given, breaks="crash:2")
    assert "a run in this folder ended during: verify onnxruntime fp32 against broken fp32" in again.err
    assert "Traceback" not in again.err
    found = records(tmp_path / "run")
    assert [r["id"] for r in found[: len(kept)]] == kept
    dead = next(r for r in found if r["kind"] == "verify" and r["subject"]["engine"] == "broken")
    assert dead["status"] == "failed"
    assert "SIGSEGV" in dead["reason"]
    assert any(r["kind"] == "measure" and r["status"] == "ok" for r in found)
    assert again.code in (0, 1), again.err
    assert json.loads((tmp_path / "run" / "verdict.json").read_text())
    well = assay(given)  # the engine was repaired: it is compared as ever, and nothing is held against it
    assert well.code == 0, well.err
    assert not list((tmp_path / "run" / "stages").glob("*.begun"))
    assert "a run in this folder ended" not in assay(given).err


def test_one_that_crashes_only_where_it_is_compared_is_given_up_after_three_runs(model: Path, tmp_path: Path) -> None:
    given = arguments(model, tmp_path / "run")
    for _ in range(3):
        ended = assay(given, breaks="crash-in-the-parent")
        assert ended.code == -signal.SIGSEGV, ended.err
    last = assay(given, breaks="crash-in-the-parent")
    assert last.code in (0, 1), last.err
    assert any(r["kind"] == "measure" and r["status"] == "ok" for r in records(tmp_path / "run"))
    assert "3 runs ended without a word while it ran" in json.dumps(records(tmp_path / "run"))


def test_one_that_crashes_while_it_is_measured_is_a_record(model: Path, tmp_path: Path) -> None:
    done = assay(arguments(model, tmp_path / "run"), breaks="crash:400")
    assert "Traceback" not in done.err
    measured = [r for r in records(tmp_path / "run") if r["kind"] == "measure"]
    broken = [r for r in measured if r["subject"]["engine"] == "broken"]
    assert broken
    assert {r["status"] for r in broken} == {"failed"}
    assert all("SIGSEGV" in r["reason"] for r in broken)
    assert any(r["status"] == "ok" for r in measured)


def test_one_that_gives_no_numbers_never_wins(model: Path, tmp_path: Path) -> None:
    done = assay(arguments(model, tmp_path / "run"), breaks="nan")
    assert "Traceback" not in done.err
    found = records(tmp_path / "run")
    verified = next(r for r in found if r["kind"] == "verify" and r["subject"]["engine"] == "broken")
    assert "NaN" in json.dumps(verified)
    assert verified["details"].get("class") not in ("equal", "within format cost")
    best = json.loads((tmp_path / "run" / "run.json").read_text())["best"]
    assert best is None or "broken" not in best["label"]


def test_one_that_leaks_is_stopped_before_the_machine_stands_still(tmp_path: Path) -> None:
    from assay.core import child
    from assay.core.errors import ChildFailed

    limits = child.Limits(memory_bytes=400 * 2**20)
    with pytest.raises(ChildFailed, match=r"it used .*the limit is 400 MiB"):
        child.run("tests.core.targets.child_targets:grow", {"size_bytes": 2**30}, limits)


def test_a_hang_that_was_interrupted_is_told_by_the_next_run(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = arguments(model, out)
    process = start(given, breaks="hang:2")
    deadline = time.monotonic() + 120
    try:
        while not list((out / "stages").glob("verify-*.begun")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    except BaseException:
        kill(process)
        raise
    time.sleep(1.0)
    kill(process)
    again = assay(given)  # the engine is well again
    assert "a run in this folder ended during: verify" in again.err
    assert again.code == 0, again.err
    assert not list((out / "stages").glob("*.begun"))
