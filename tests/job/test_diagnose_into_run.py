"""A diagnosis kept with its run: the Record, the report, the manifest."""

import pytest

from assay.bundle.manifest import verify_manifest, write_manifest
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.core.verdict import Reason, combine
from assay.job.diagnose.into_run import append_to_run
from assay.job.folder import RunFolder, load_run, write_json

FOUND = Record(
    "diagnose",
    {"model": "m", "engine": "openvino", "precision": "int8"},
    details={"stages": [], "guilty_stage": "openvino int8", "guilty": [], "pieces": [], "mapping": [], "notes": []},
)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    with RunFolder(folder) as made:
        first = made.append(Record("export", {"model": "m"}))
    write_json(folder / "run.json", {"model": "m", "records": [first.id]})
    write_json(folder / "verdict.json", combine([Reason("numeric", "passed", "fine")], (), "c").to_json())
    write_manifest(folder, {"schema": "assay.run/1", "command": "assay run m"})
    return folder


def test_the_record_is_one_of_the_run_and_its_files_still_add_up(run):
    append_to_run(run, FOUND)
    records, _ = load_run(run)
    assert [r.kind for r in records] == ["export", "diagnose"]
    assert records[1].details["guilty_stage"] == "openvino int8"
    assert verify_manifest(run) == []
    assert '"command": "assay run m"' in (run / "manifest.json").read_text()
    assert (run / "report.html").is_file()
    append_to_run(run, Record("diagnose", FOUND.subject, details=FOUND.details))
    assert [r.kind for r in load_run(run)[0]] == ["export", "diagnose", "diagnose"]


def test_a_run_that_was_changed_is_not_blessed_again(run):
    (run / "verdict.json").write_text("{}")
    with pytest.raises(BadInput, match="not as its run left it"):
        append_to_run(run, FOUND)
    assert [r.kind for r in load_run(run)[0]] == ["export"]


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(BadInput, match="not a run folder"):
        append_to_run(tmp_path, FOUND)
