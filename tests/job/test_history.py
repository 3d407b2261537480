"""The index of past runs: it follows the folders, survives damage, and can be thrown away at any time."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.core.errors import BadInput, UnknownName
from assay.core.record import Figure, Record
from assay.job.history import INDEX, History, Wanted
from assay.job.history_diff import differences
from assay.job.loaded import load_folder

Make = Callable[..., Path]


def write_run(folder: Path, model: str = "net", day: str = "2026-01-02", **more: object) -> Path:
    """A run folder with three Records of two engines; ``more``: verdict, engine, rate."""
    folder.mkdir(parents=True, exist_ok=True)
    engine, rate = str(more.get("engine", "openvino")), float(str(more.get("rate", 100.0)))
    subject = {"model": model, "candidate": "c", "engine": engine, "precision": "fp32", "device": "cpu"}
    figures = {"throughput": Figure(rate, "samples/s", 0.9 * rate, 1.1 * rate, 0.95, 50)}
    created = f"{day}T10:00:00+00:00"
    records = [
        Record("verify", subject, details={"class": "equal"}, created=created),
        Record("measure", subject, figures=figures, conditions={"batch": 8, "scenario": "offline"}, created=created),
        Record("build", {**subject, "engine": "tensorrt"}, status="skipped", reason="no GPU", created=created),
    ]
    lines = [json.dumps(r.to_json()) + "\n" for r in records]
    (folder / "records.jsonl").write_text("".join(lines))
    best = {
        "candidate": "c",
        "label": f"{engine} fp32",
        "batch": 8,
        "figures": {"offline.throughput": figures["throughput"].to_json()},
    }
    about = {"model": model, "best": best, "records": [r.id for r in records], "command": "assay run"}
    (folder / "run.json").write_text(json.dumps(about))
    verdict = more.get("verdict", "passed")
    if verdict:
        content = {"state": verdict, "reasons": [], "not_checked": []}
        (folder / "verdict.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_run(tmp_path / "a", "resnet18", "2026-01-01")
    write_run(tmp_path / "deeper" / "b", "resnet50", "2026-02-01", verdict="failed", engine="onnxruntime")
    write_run(tmp_path / "c", "convnext", "2026-03-01", verdict=None)
    write_run(tmp_path / "a" / "bundle", "inside", "2026-04-01")
    return tmp_path


def names(root: Path, **wanted: str) -> list[str]:
    with History(root) as history:
        return [run.name for run in history.runs(Wanted(**wanted))]


def test_runs_are_listed_newest_first_and_a_bundle_inside_one_is_no_run(root: Path) -> None:
    with History(root) as history:
        runs = history.runs()
    assert [run.name for run in runs] == ["c", "b", "a"]
    first = runs[2]
    assert (first.model, first.engines, first.verdict) == ("resnet18", ("openvino",), "passed")
    assert (first.best, first.batch, first.throughput, first.records) == ("openvino fp32", 8, 100.0, 3)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"model": "resnet"}, ["b", "a"]),
        ({"model": "RESNET*0"}, ["b"]),
        ({"model": "resnet"[:3], "engine": "openvino"}, ["a"]),
        ({"engine": "OnnxRuntime"}, ["b"]),
        ({"engine": "tensorrt"}, []),
        ({"verdict": "failed"}, ["b"]),
        ({"verdict": "none"}, ["c"]),
        ({"since": "2026-02-01"}, ["c", "b"]),
        ({"until": "2026-02-01"}, ["b", "a"]),
        ({"since": "2026-01-15", "until": "2026-02-15"}, ["b"]),
        ({"model": "[a-z]"}, []),
        ({"model": "x' OR '1'='1"}, []),
    ],
)
def test_filters(root: Path, wanted: dict[str, str], expected: list[str]) -> None:
    assert names(root, **wanted) == expected


def test_records_are_listed_and_filtered_too(root: Path) -> None:
    with History(root) as history:
        every = history.records()
        assert len(every) == 9
        measured = [r for r in every if r.kind == "measure"]
        assert {r.throughput for r in measured} == {100.0}
        assert {r.engine for r in history.records(Wanted(engine="onnxruntime"))} == {"onnxruntime"}
        assert len(history.records(Wanted(verdict="failed"))) == 3


def test_a_wrong_filter_is_an_error_with_its_remedy(root: Path) -> None:
    with History(root) as history:
        with pytest.raises(BadInput, match="not a date"):
            history.runs(Wanted(since="January"))
        with pytest.raises(UnknownName) as caught:
            history.runs(Wanted(verdict="pased"))
    assert "passed" in (caught.value.remedy or "")


def test_the_index_follows_the_folders(root: Path) -> None:
    assert names(root) == ["c", "b", "a"]
    write_run(root / "new", day="2026-05-01")
    (root / "c" / "run.json").unlink()
    (root / "c" / "records.jsonl").unlink()
    write_run(root / "a", "renamed", "2026-01-01")
    assert names(root) == ["new", "b", "a"]
    assert names(root, model="renamed") == ["a"]


def test_a_second_look_reads_no_folder_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = names(root)
    monkeypatch.setattr("assay.job.history.load_folder", lambda path: pytest.fail(f"{path} was read again"))
    assert names(root) == before


def test_the_index_can_be_thrown_away_or_damaged_at_any_time(root: Path) -> None:
    before = names(root)
    (root / INDEX).unlink()
    assert names(root) == before
    (root / INDEX).write_bytes(b"this is no database, however long it may be " * 50)
    with History(root) as history:
        assert [run.name for run in history.runs()] == before
        assert any("made anew" in note for note in history.notes)
    db = sqlite3.connect(root / INDEX)
    db.executescript("DELETE FROM runs; PRAGMA user_version = 99")
    db.close()
    assert names(root) == before
    db = sqlite3.connect(root / INDEX)
    db.execute("UPDATE runs SET model = 'lies'")
    db.commit()
    db.close()
    with History(root, rebuild=True) as history:
        assert not history.runs(Wanted(model="lies"))


def test_an_index_that_cannot_be_written_is_made_in_memory(root: Path) -> None:
    (root / INDEX).mkdir()
    with History(root) as history:
        assert len(history.runs()) == 3
        assert any("in memory" in note for note in history.notes)


def test_a_locked_index_is_left_alone(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names(root)
    write_run(root / "new", day="2026-05-01")
    other = sqlite3.connect(root / INDEX, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    connect = sqlite3.connect
    monkeypatch.setattr("assay.job.history.sqlite3.connect", lambda place, timeout: connect(place, timeout=0.05))
    try:
        assert names(root) == ["new", "c", "b", "a"]
    finally:
        other.close()
    assert (root / INDEX).stat().st_size > 0


def test_a_folder_that_cannot_be_read_is_listed_with_its_reason(root: Path) -> None:
    (root / "c" / "records.jsonl").write_text('{"schema": "assay.record/99"}\n')
    with History(root) as history:
        broken = next(run for run in history.runs() if run.name == "c")
    assert "assay.record/99" in (broken.problem or "")


def test_no_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no folder"), History(tmp_path / "none"):
        pass


def test_a_run_is_found_by_name_and_by_path(root: Path) -> None:
    with History(root) as history:
        assert history.find("b") == (root / "deeper" / "b").resolve()
        assert history.find(str(root / "a")) == (root / "a").resolve()
        with pytest.raises(UnknownName):
            history.find("nothing")
    write_run(root / "other" / "b")
    with History(root) as history, pytest.raises(BadInput, match="2 runs are named b"):
        history.find("b")


def test_what_changed_between_two_runs(root: Path) -> None:
    write_run(root / "a2", "resnet18", rate=150.0, verdict="failed")
    found = {
        (d.group, d.name): (d.first, d.second) for d in differences(load_folder(root / "a"), load_folder(root / "a2"))
    }
    assert found["verdict", "state"] == ("passed", "failed")
    first, second = found["openvino fp32 batch 8", "throughput"]
    assert "100" in str(first) and "150" in str(second)
    assert not differences(load_folder(root / "a"), load_folder(root / "a"))


def test_imported_records_without_a_run_file_are_a_run_too(root: Path) -> None:
    folder = root / "seeds"
    folder.mkdir()
    record = Record("measure", {"model": "m", "engine": "ascend"}, created="2027-01-01T00:00:00+00:00")
    (folder / "records.jsonl").write_text(json.dumps(record.to_json()))
    with History(root) as history:
        entry = history.runs()[0]
    assert (entry.name, entry.model, entry.engines, entry.verdict) == ("seeds", "m", ("ascend",), None)


def test_listing_imports_none_of_the_heavy_libraries(tmp_path):
    """The start of Python is most of the time that ``assay runs`` takes."""
    code = (
        "import sys; from assay.cli.main import run_cli; code = run_cli(sys.argv[1:]);"
        "print(code, sorted({'numpy', 'torch', 'onnx', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "runs", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_names_that_are_no_utf8_and_numbers_beyond_64_bits_are_listed(root: Path) -> None:
    """``assay run --data $'\\xff'`` leaves half a surrogate pair in run.json: it must not hide every run there is."""
    odd = write_run(root / "a\udcff", "odd", "2026-06-01")
    about = json.loads((odd / "run.json").read_text())
    about["command"] = "assay run m.onnx --data \udcff"
    about["best"]["batch"] = 2**70
    (odd / "run.json").write_text(json.dumps(about))
    for _ in range(2):
        with History(root) as history:
            first = history.runs()[0]
            assert first.model == "odd" and first.batch == 2**70
            assert first.command == "assay run m.onnx --data \\udcff"
            assert len(history.runs()) == 4
            assert history.find(str(odd)) == odd.resolve()


def test_settings_of_one_engine_are_told_apart(root: Path) -> None:
    """A tuned run has many rows of one engine, precision and batch size."""
    records = []
    for threads in (1, 2):
        subject = {
            "model": "m",
            "candidate": f"c{threads}",
            "engine": "openvino",
            "precision": "fp32",
            "threads": threads,
        }
        figures = {"throughput": Figure(100.0 * threads, "samples/s")}
        records.append(Record("measure", subject, figures=figures, conditions={"batch": 8, "scenario": "offline"}))
    folder = root / "tuned"
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(json.dumps(r.to_json()) + "\n" for r in records))
    found = {d.group for d in differences(load_folder(folder), load_folder(root / "a"))}
    assert {"openvino fp32 batch 8 1 threads", "openvino fp32 batch 8 2 threads"} <= found
