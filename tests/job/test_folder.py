"""The run folder: stages are saved as they end, and only unchanged ones are skipped."""

import json
from pathlib import Path

import pytest

from assay.cli.main import run_cli
from assay.core.artifact import file_artifact
from assay.core.errors import BadInput, StorageFailed
from assay.core.record import Record
from assay.job.folder import RunFolder, check_folder, default_folder, load_run, write_text


def record(kind: str = "measure") -> Record:
    return Record(kind, {"model": "m"})


def test_a_finished_stage_is_found_again_under_its_key_only(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "r") as folder:
        folder.save("measure", "key-1", {"x": 1}, [record()])
    with RunFolder(tmp_path / "r") as folder:
        assert folder.finished("measure", "key-2") is None
        saved = folder.finished("measure", "key-1")
        assert saved is not None
        assert saved.result == {"x": 1}
        assert [r.kind for r in folder.records_of(saved)] == ["measure"]


def test_records_of_a_superseded_stage_stay_but_are_not_current(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "r") as folder:
        folder.save("measure", "old", {}, [record()])
        new = record()
        folder.save("measure", "new", {}, [new])
        assert [r.id for r in folder.current()] == [new.id]
    assert len((tmp_path / "r" / "records.jsonl").read_text().splitlines()) == 2


def test_a_stage_whose_record_was_lost_is_run_again(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "r") as folder:
        folder.save("measure", "k", {}, [record()])
    (tmp_path / "r" / "records.jsonl").write_text("")
    with RunFolder(tmp_path / "r") as folder:
        assert folder.finished("measure", "k") is None


def test_a_stage_whose_artifact_changed_is_run_again(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "r") as folder:
        made = write_text(folder.artifacts / "model.onnx", "graph")
        artifact = file_artifact(made, "onnx")
        folder.save("export", "k", {"artifact": artifact.to_json(folder.path)}, [])
        assert folder.finished("export", "k") is not None
        made.write_text("another graph")
        assert folder.finished("export", "k") is None
        made.unlink()
        assert folder.finished("export", "k") is None


def test_a_half_written_stage_file_counts_as_not_finished(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "r") as folder:
        folder.save("export", "k", {}, [])
        (folder.path / "stages" / "export.json").write_text('{"key": "k", "resu')
        assert folder.finished("export", "k") is None


def test_a_torn_last_record_is_dropped_and_said(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "r") as folder:
        folder.append(record())
    with (tmp_path / "r" / "records.jsonl").open("a") as file:
        file.write('{"schema": "assay.rec')
    with RunFolder(tmp_path / "r") as folder:
        folder.append(record())
    lines = (tmp_path / "r" / "records.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert all(json.loads(line)["kind"] == "measure" for line in lines)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path / "r"),
        pytest.raises(StorageFailed, match="another assay process"),
        RunFolder(tmp_path / "r"),
    ):
        pass


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot write"), RunFolder(tmp_path / "file" / "r"):
        pass


def test_load_run_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a run folder"):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["a/b", "..", "résumé?x=1", ""])
def test_default_folder_is_a_plain_name_below_runs(name: str) -> None:
    path = default_folder(name)
    assert path.parent == Path("runs")
    assert path.name not in ("", ".", "..")
    assert "/" not in path.name


def test_a_folder_that_cannot_be_entered_is_not_kept_locked(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "r") as folder:
        folder.append(record())
    lines = (tmp_path / "r" / "records.jsonl").read_text()
    (tmp_path / "r" / "records.jsonl").write_text("no record\n" + lines)
    broken = RunFolder(tmp_path / "r")
    with pytest.raises(BadInput, match="not a record"):
        broken.__enter__()
    (tmp_path / "r" / "records.jsonl").write_text(lines)
    with RunFolder(tmp_path / "r") as folder:  # though ``broken`` is still there
        assert not folder.notes
    assert broken.path == folder.path


@pytest.mark.parametrize(
    "content", ['{"key": 3, "result": {}, "records": []}', '{"key": "k", "result": {}, "records": [[1]]}', "[1]"]
)
def test_a_stage_file_of_other_kinds_counts_as_not_finished(tmp_path: Path, content: str) -> None:
    with RunFolder(tmp_path / "r") as folder:
        folder.save("export", "k", {}, [])
        (folder.path / "stages" / "export.json").write_text(content)
        assert folder.finished("export", "k") is None
        assert folder.current() == []


def test_text_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot write"):
        write_text(tmp_path / "file" / "report.md", "text")


def test_half_of_a_surrogate_pair_is_written_as_a_question_mark(tmp_path: Path) -> None:
    """A command line with a file's name that is no UTF-8 has them; the report of a whole run was lost for it."""
    file = write_text(tmp_path / "report.md", "assay run \udcff\ud800.onnx\n")
    assert file.read_bytes() == b"assay run ??.onnx\n"


@pytest.mark.parametrize(
    "best",
    [{"": None}, {"candidate": "x"}, {"candidate": "x", "label": "y"}, {"candidate": 1, "label": "y", "batch": 1}, [1],
     {"candidate": "x", "label": "y", "batch": 1, "figures": {"": None}}],
)  # fmt: skip
def test_a_choice_of_another_kind_is_told_where_it_is_read(tmp_path: Path, best: object) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"best": best}))
    (tmp_path / "records.jsonl").write_text("")
    with pytest.raises(BadInput, match=r"run\.json is damaged"):
        load_run(tmp_path)


def test_where_a_file_is_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for wrong in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(BadInput, match="file is a file, not a folder"):
            check_folder(wrong)
    for right in (tmp_path, tmp_path / "new" / "er", Path("new")):
        check_folder(right)


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "{model}", "--engine", "onnxruntime", "-o", "{file}"),
        ("quantize", "{model}", "--precision", "fp16", "-o", "{file}/q"),
        ("evaluate", "{model}", "--data", "digits", "--out", "{file}"),
        ("evaluate", "{model}", "--data", "digits", "--out", "{file}/p.jsonl"),
        ("evaluate", "{model}", "--data", "digits", "--dumps", "{file}"),
        ("diagnose", "{model}", "{model}", "--out", "{file}"),
        ("predict", "{model}", "{model}", "-o", "{file}"),
    ],
)
def test_a_verb_that_is_given_a_file_for_its_folder_says_so(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("")
    assert run_cli([a.format(model=model, file=tmp_path / "file") for a in arguments]) == 2
    assert "file is a file, not a folder" in capsys.readouterr().err
