"""``assay import`` replaces what it imported before, and nothing that was measured here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assay.core.errors import BadInput, StorageFailed
from assay.core.record import Record, RecordLog, read_records
from assay.importers import Hints
from assay.job.importing import import_run

LOG = """\
[I] === Performance summary ===
[I] Throughput: 231.086 qps
[I] Latency: min = 3.29 ms, max = 9.36 ms, mean = 4.41 ms, median = 4.42 ms, percentile(99%) = 5.4 ms
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "t4.log"
    path.write_text(LOG)
    return path


def test_the_records_of_a_bench_are_not_replaced(log: Path, tmp_path: Path) -> None:
    """``assay bench --out`` leaves Records alone: no run.json says that they were measured here."""
    out = tmp_path / "bench"
    with RecordLog(out / "records.jsonl") as records:
        mine = records.append(Record("measure", {"model": "m"}))
    with pytest.raises(BadInput, match="measured here"):
        import_run([log], out, Hints(batch=1), "assay import")
    assert [r.id for r in read_records(out / "records.jsonl")[0]] == [mine.id]


def test_an_import_that_was_killed_is_begun_anew(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = import_run([log], out, Hints(batch=1), "assay import")
    (out / "run.json").unlink()
    again = import_run([log], out, Hints(batch=1), "assay import")
    assert len(read_records(out / "records.jsonl")[0]) == len(again.records) == len(first.records) > 0


def test_a_run_file_that_is_damaged_is_told(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "run.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="is damaged"):
        import_run([log], out, Hints(batch=1), "assay import")
    (out / "run.json").write_text(json.dumps({"model": '"imported": true'}))
    with pytest.raises(BadInput, match="measured here"):
        import_run([log], out, Hints(batch=1), "assay import")


def test_a_file_is_no_folder(log: Path) -> None:
    with pytest.raises(StorageFailed, match="cannot write"):
        import_run([log], log, Hints(batch=1), "assay import")
