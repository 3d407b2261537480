"""Engines that crash while they are evaluated, in the tool's own process: the next run finds out on the samples it was
at, and does without them or says that it cannot."""

import json
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from tests.hardening.faults import arguments, assay, kill, records, start

COUNT, POISONED = 300, slice(290, 300)
"""More than `--quick` scores, so that some of the poisoned ones, which the comparison never sees, are drawn."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.npz"
    rng = np.random.default_rng(0)
    x = rng.normal(size=(COUNT, 3, 16, 16)).astype(np.float32)
    x[POISONED, 0, 0, 0] = 2e6
    np.savez(path, x=x, target=rng.integers(0, 5, COUNT))
    return path


def given(model: Path, data: Path, out: Path) -> list[str]:
    """A run with an accuracy."""
    words = arguments(model, out)
    words[words.index("synthetic")] = f"npz:{data}"
    return [*words, "--precision", "fp32", "--batch", "1"]


def evaluated(out: Path, engine: str) -> list[dict]:
    return [r for r in records(out) if r["kind"] == "evaluate" and r["subject"]["engine"] == engine]


def test_a_reference_that_crashes_is_found_out_and_nothing_is_lost(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = given(model, data, out)
    first = assay(words, breaks="onnxruntime=poison")
    assert first.code == -signal.SIGSEGV, first.err
    kept = [r["id"] for r in records(out)]
    assert kept
    for _ in range(2):  # the second knows it from a run that did not crash itself
        again = assay(words, breaks="onnxruntime=poison")
        assert again.code == 4, again.err
        assert "It crashed there (Segmentation fault)" in again.err
        assert "onnxruntime fp32, which every accuracy of this run is compared with" in again.err
        assert re.search(r"with samples .*225 to 256 in inference", again.err)  # the last ones of those that are scored
        assert "signal SIGSEGV" in again.err
        assert "the PyTorch model" in again.err
        assert "Traceback" not in again.err
        assert [r["id"] for r in records(out)] == kept
    well = assay(words)
    assert well.code == 0, well.err
    assert [r["id"] for r in records(out)][: len(kept)] == kept
    assert evaluated(out, "onnxruntime")[-1]["status"] == "ok"
    assert sorted(p.suffix for p in (out / "stages").iterdir() if p.suffix != ".json") == []


def test_one_crash_is_enough_to_try_a_candidate_apart(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = given(model, data, out)
    first = assay(words, breaks="poison")
    assert first.code == -signal.SIGSEGV, first.err
    again = assay(words, breaks="poison")
    assert again.code in (0, 1), again.err
    (dead,) = evaluated(out, "broken")
    assert dead["status"] == "failed"
    assert re.search(r"with samples .*225 to 256 in inference", dead["reason"])
    assert "SIGSEGV" in dead["reason"]
    assert evaluated(out, "onnxruntime")[-1]["status"] == "ok"
    assert json.loads((out / "run.json").read_text())["best"]["engine"] == "onnxruntime"
    well = assay(words)
    assert well.code == 0, well.err
    assert evaluated(out, "broken")[-1]["status"] == "ok"
    assert "a run in this folder ended" not in assay(words).err


def test_a_crash_that_no_child_has_ends_after_three_runs(model: Path, data: Path, tmp_path: Path) -> None:
    words = given(model, data, tmp_path / "run")
    for _ in range(3):
        assert assay(words, breaks="onnxruntime=poison-in-the-parent").code == -signal.SIGSEGV
    last = assay(words, breaks="onnxruntime=poison-in-the-parent")
    assert last.code == 4, last.err
    assert "3 runs ended without a word while it ran (Segmentation fault)" in last.err


def test_one_that_was_only_killed_is_never_given_up(model: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = given(model, data, out)
    for _ in range(3):  # as often as one that crashes
        process = start(words, breaks="onnxruntime=stall")
        deadline = time.monotonic() + 120
        try:
            while not in_inference(out / "stages" / "evaluate-reference.at"):
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            kill(process)
    well = assay(words, breaks="onnxruntime=slow")
    assert "It was killed there" in well.err
    assert well.code == 0, well.err
    assert evaluated(out, "onnxruntime")[-1]["status"] == "ok"


def in_inference(file: Path) -> bool:
    """The last of the samples are: the poisoned ones."""
    return file.exists() and any(int(p[-1]) == 255 for line in file.read_text().splitlines() if (p := line.split()))
