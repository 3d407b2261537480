"""Faults around a run: nothing that was said to be saved is lost, and the next run says what happened."""

import fcntl
import itertools
import math
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.hardening.faults import (
    arguments,
    assay,
    kill_at_random,
    records,
    remount,
    small_disk,
    start,
)

import assay as library
from assay.core import clock


def disk(folder: Path, size: str):
    try:
        made = small_disk(folder, size)
        return made.__enter__(), made
    except (OSError, FileNotFoundError) as error:
        pytest.skip(f"no file system of its own can be mounted here: {error}")


# Killed


def test_killed_at_random_moments_nothing_is_lost_and_the_next_run_goes_on(model: Path, tmp_path: Path) -> None:
    assert kill_at_random(model, tmp_path, rounds=2, seed=0) == []


# The disk


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(model: Path, tmp_path: Path) -> None:
    folder, mounted = disk(tmp_path / "disk", "48k")
    try:
        given = arguments(model, folder / "run")
        full = assay(given)
        assert full.code == 4, full.err
        assert "No space left" in full.err
        assert "Traceback" not in full.err
        kept = [r["id"] for r in records(folder / "run")]
        remount(folder, "size=64m")
        again = assay(given)
        assert again.code == 0, again.err
        assert [r["id"] for r in records(folder / "run")][: len(kept)] == kept
    finally:
        mounted.__exit__(None, None, None)


@pytest.mark.parametrize(
    "given",
    [
        ["run", "MODEL", "--data", "synthetic", "--quick", "--engine", "onnxruntime", "--out", "OUT/x"],
        ["bench", "MODEL", "--engine", "onnxruntime", "--duration", "1", "--out", "OUT/x"],
        ["build", "MODEL", "--engine", "onnxruntime", "--out", "OUT/x"],
        ["verify", "MODEL", "MODEL", "--json", "OUT/x.json"],
    ],
    ids=lambda given: given[0],
)
def test_a_read_only_folder_is_said(given: list[str], model: Path, tmp_path: Path) -> None:
    folder, mounted = disk(tmp_path / "disk", "1m")
    try:
        remount(folder, "ro")
        done = assay([g.replace("MODEL", str(model)).replace("OUT", str(folder)) for g in given])
        assert "Traceback" not in done.err
        assert "Read-only file system" in done.err, done.err
        assert done.code == 4, done.err
    finally:
        mounted.__exit__(None, None, None)


# Two at a time, and the clock


def test_two_runs_in_one_folder_the_second_is_refused(model: Path, tmp_path: Path) -> None:
    given = arguments(model, tmp_path / "run")
    first = start(given)
    deadline = time.monotonic() + 60
    while not held(tmp_path / "run" / "records.lock"):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    second = assay(given)
    _, err = first.communicate(timeout=240)
    assert second.code == 4
    assert "another assay process is writing" in second.err
    assert first.returncode == 0, err


def held(lock: Path) -> bool:
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def test_a_calendar_that_jumps_changes_no_duration(model: Path, tmp_path: Path) -> None:
    days = itertools.cycle([0, -400, 3, 9000, -1])
    jumping = replace(clock.REAL, wall=lambda: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=next(days)))
    began = time.perf_counter()
    with clock.use(jumping):
        result = library.run(str(model), data="synthetic", quick=True, engines=["onnxruntime"], out=tmp_path / "run")
    took_s = time.perf_counter() - began
    assert any(record.kind == "measure" and record.status == "ok" for record in result.records)
    for record in result.records:
        for name, figure in record.figures.items():
            if figure.unit == "s" and figure.value is not None:
                assert 0 <= figure.value <= took_s, (record.kind, name)
                assert math.isfinite(figure.value)
    kept = [r.id for r in result.records]
    with clock.use(jumping):
        again = library.run(str(model), data="synthetic", quick=True, engines=["onnxruntime"], out=tmp_path / "run")
    assert [r.id for r in again.records] == kept
