"""What is left of a run that did not outlive a stage, in real processes that crash and are killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from assay.job.folder import RunFolder
from assay.job.last_words import BEGUN, Ended, read_ended

ENDINGS = {
    "crash": "signal.raise_signal(signal.SIGSEGV)",
    "abort": "os.abort()",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "well": "word.end()",
}
RUN = """
import os, signal, sys
from pathlib import Path
from assay.job.folder import RunFolder

stage, candidates, places = sys.argv[2], sys.argv[3].split(","), [int(p) for p in sys.argv[4].split(",") if p]
with RunFolder(Path(sys.argv[1])) as folder:
    word = folder.begin(stage, "verify this", candidates)
    for slot, place in enumerate(places):
        word.at(slot, (place, place + 31))
    if places:
        word.at(len(places), (5, 6))
        word.at(len(places), None)
"""


def run(
    path: Path, ending: str, stage: str = "verify-a", candidates: str = "a,ref", places: str = ""
) -> dict[str, Ended]:
    """One run that ends so; what the next one finds."""
    code = RUN + f"    {ENDINGS[ending]}\n"
    subprocess.run([sys.executable, "-c", code, str(path), stage, candidates, places], capture_output=True, timeout=60)
    return {ended.stage: ended for ended in read_ended(path / "stages")}


def test_a_crash_says_what_of_and_where(tmp_path):
    found = run(tmp_path / "r", "crash", places="64,0")
    assert found == {
        "verify-a": Ended("verify-a", "verify this", ("a", "ref"), 1, "Segmentation fault", ((0, 31), (64, 95)))
    }
    assert run(tmp_path / "r", "abort")["verify-a"].fault == "Aborted"
    with RunFolder(tmp_path / "r") as folder:
        assert "ended during: verify this. It crashed there (Aborted)" in folder.notes[0]


def test_crashes_on_end_are_counted_and_kills_are_not(tmp_path):
    counts = []
    for ending in ("kill", "kill", "crash", "kill", "crash", "crash"):
        found = run(tmp_path / "r", ending)["verify-a"]
        counts.append((found.crashes, found.fault is not None))
        assert found.candidates == ("a", "ref")
    assert counts == [(0, False), (0, False), (1, True), (1, False), (2, True), (3, True)]
    assert run(tmp_path / "r", "well") == {}
    assert [p.name for p in (tmp_path / "r" / "stages").iterdir()] == []


def test_the_crashes_of_two_precisions_with_one_reference_do_not_add_up(tmp_path):
    run(tmp_path / "r", "crash")
    run(tmp_path / "r", "crash")
    found = run(tmp_path / "r", "crash", "verify-b", "b,ref")
    assert {stage: ended.crashes for stage, ended in found.items()} == {"verify-a": 2, "verify-b": 1}
    found = run(tmp_path / "r", "crash", "verify-ref", "ref,a")  # the same two, the other way round
    assert found["verify-ref"].crashes == 3


def test_places_of_an_earlier_stage_that_ended_well_are_forgotten(tmp_path):
    run(tmp_path / "r", "kill", places="32")
    assert run(tmp_path / "r", "kill")["verify-a"].at == ((32, 63),)  # it came to nothing: the place is still the one
    assert run(tmp_path / "r", "well", places="32") == {}
    (tmp_path / "r" / "stages" / "verify-a.at").write_text("          32           63\n")  # killed while it tidied up
    assert run(tmp_path / "r", "kill")["verify-a"].at == ()
    assert run(tmp_path / "r", "kill", places="96")["verify-a"].at == ((96, 127),)


def test_where_nobody_listened_it_counts(tmp_path):
    """What an earlier version left, and what a process with a fault handler of its own leaves."""
    (tmp_path / "verify-a.begun").write_text(json.dumps({"what": "verify a", "candidates": ["a"], "times": 2}))
    assert read_ended(tmp_path) == [Ended("verify-a", "verify a", ("a",), 2)]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"what": 1}', '{"what": "x", "times": 1, "candidates": [1]}', "\0"]
)
def test_of_a_damaged_file_the_name_is_told(content, tmp_path):
    (tmp_path / f"verify-a{BEGUN}").write_text(content)
    (tmp_path / "verify-a.at").write_bytes(b"\xff\xfe 1 2 3\n  7")
    assert read_ended(tmp_path) == [Ended("verify-a", "verify-a")]
