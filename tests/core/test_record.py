import json
import math
import string
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.core.errors import BadInput, StorageFailed
from assay.core.record import Figure, RawSamples, Record, RecordLog, read_records, withheld

NAMES = st.text(string.ascii_lowercase + "._0123456789", min_size=1, max_size=12)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
FIGURES = st.one_of(
    st.builds(Figure, FINITE, st.just("s"), FINITE, FINITE, st.just(0.95), st.integers(0, 10**6)),
    st.builds(withheld, st.just("s"), st.text(min_size=1, max_size=20), st.integers(0, 9) | st.none()),
)
RECORDS = st.builds(
    Record,
    kind=NAMES,
    subject=st.dictionaries(NAMES, PLAIN, max_size=3),
    figures=st.dictionaries(NAMES, FIGURES, max_size=3),
    conditions=st.dictionaries(NAMES, PLAIN, max_size=3),
    label=st.none() | NAMES,
    warnings=st.lists(st.text(max_size=30), max_size=2).map(tuple),
    raw=st.none() | st.builds(RawSamples, NAMES, NAMES, NAMES),
    details=st.dictionaries(NAMES, PLAIN, max_size=3),
)


@given(RECORDS)
def test_round_trip_through_json(record):
    assert Record.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False))) == record


@given(st.lists(RECORDS, min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_round_trip_through_a_file(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("log") / "records.jsonl"
    with RecordLog(path) as log:
        for record in records:
            log.append(record)
    found, notes = read_records(path)
    assert found == records
    assert notes == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), None])
def test_what_is_no_number_is_null_with_a_reason(value):
    data = Figure(value, "s", n=3).to_json()
    assert data["value"] is None
    assert data["reason"]
    assert data["n"] == 3


def test_bounds_that_are_no_numbers_are_left_out():
    data = Figure(1.0, "s", low=math.nan, high=np.float32("inf"), confidence=0.95).to_json()
    assert "low" not in data
    assert "high" not in data
    assert data["confidence"] == 0.95


def test_numpy_and_nan_in_details_are_written(tmp_path):
    record = Record(
        "verify",
        {"candidate": "c", "path": tmp_path},
        figures={"a": Figure(np.float32(1.5), "s", n=np.int64(3))},
        details={
            "nan": math.nan,
            "array": np.array([1.0, np.inf]),
            "count": np.int64(2),
            "flag": np.bool_(True),
            8: "k",
        },
    )
    with RecordLog(tmp_path / "r.jsonl") as log:
        log.append(record)
    (found,), _ = read_records(tmp_path / "r.jsonl")
    assert found.details == {"nan": "nan", "array": [1.0, "inf"], "count": 2, "flag": True, "8": "k"}
    assert found.figures["a"] == Figure(1.5, "s", n=3)


def test_a_record_that_is_not_ok_says_why():
    with pytest.raises(BadInput, match="says why"):
        Record("build", {}, status="skipped")
    with pytest.raises(BadInput, match="status is one of"):
        Record("build", {}, status="fine")


def test_value_of_absent_and_withheld_figures():
    record = Record("m", {}, figures={"a": Figure(2.0, "s"), "b": withheld("s", "too few")})
    assert (record.value("a"), record.value("b"), record.value("c")) == (2.0, None, None)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "records.jsonl"
    with RecordLog(path) as log:
        for kind in ("one", "two"):
            log.append(Record(kind, {}))
    return path


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_dropped_and_said(log, cut):
    whole = log.read_bytes()
    log.write_bytes(whole[: -cut - 1] if cut > 1 else whole[:-2])
    found, notes = read_records(log)
    assert [r.kind for r in found] == ["one"]
    assert "line 2" in notes[0]
    assert "torn" in notes[0]


def test_the_next_record_starts_on_a_line_of_its_own(log):
    log.write_bytes(log.read_bytes()[:-20])
    with RecordLog(log) as again:
        again.append(Record("three", {}))
    found, notes = read_records(log)
    assert [r.kind for r in found] == ["one", "three"]
    assert notes == []


def test_a_whole_line_that_only_lacks_its_end_is_kept(log):
    log.write_bytes(log.read_bytes()[:-1])
    assert [r.kind for r in read_records(log)[0]] == ["one", "two"]
    with RecordLog(log) as again:
        again.append(Record("three", {}))
    assert [r.kind for r in read_records(log)[0]] == ["one", "two", "three"]


@pytest.mark.parametrize("broken", ["{", "5", "[]", '{"schema": "assay.record/1"}'])
def test_a_broken_line_elsewhere_is_named(log, broken):
    lines = log.read_text().splitlines()
    log.write_text("\n".join([broken, *lines]) + "\n")
    with pytest.raises(BadInput, match=r"records\.jsonl:1"):
        read_records(log)


@pytest.mark.parametrize("value", ["1" + "0" * 400, "-1" + "0" * 400, "1e999", "NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["value", "low", "confidence"])
def test_numbers_that_no_float_holds_are_named_where_they_are_read(log, name, value):
    """JSON has integers of any length; one of them as a figure ended whatever wrote it down."""
    made = Record("measure", {}, figures={"throughput": Figure(1.0, "samples/s", 0.5, 2.0, 0.95)})
    line = json.dumps(made.to_json())
    number = json.dumps(made.to_json()["figures"]["throughput"][name])
    log.write_text(line.replace(f'"{name}": {number}', f'"{name}": {value}', 1) + "\n")
    with pytest.raises(BadInput, match=r"records\.jsonl:1: not a record"):
        read_records(log)


@pytest.mark.parametrize("name", ["model", "engine", "candidate", "artifact", "precision", "device_name"])
@pytest.mark.parametrize("value", [["x"], {}, 3, True])
def test_names_that_records_are_joined_by_are_texts(log, name, value):
    """A list for a name ended reports and lists, which look names up."""
    log.write_text(json.dumps({**Record("measure", {}).to_json(), "subject": {name: value}}) + "\n")
    with pytest.raises(BadInput, match=f"not a record .*{name}"):
        read_records(log)


@pytest.mark.parametrize(
    "parts",
    [
        {"subject": {"threads": {}}},
        {"subject": {"streams": "x"}},
        {"conditions": {"samples": []}},
        {"conditions": {"available": "x"}},
        {"conditions": {"scenario": ["latency"]}},
        {"conditions": {"data": {}}},
        {"details": {"class": []}},
        {"details": {"self_check": [{"": None}]}},
        {"details": {"self_check": {}}},
        {"details": {"flipped": "x"}},
        {"details": {"outputs": []}},
        {"details": {"counts": [1]}},
    ],
)
def test_what_verdicts_and_reports_read_is_of_its_kind(log, parts):
    """A value of another one ended gate, compare or report, wherever it was used first."""
    log.write_text(json.dumps({**Record("verify", {}).to_json(), **parts}) + "\n")
    with pytest.raises(BadInput, match="not a record"):
        read_records(log)


def test_what_is_nested_too_deeply_is_no_record(log):
    deep = "[" * 200 + "]" * 200
    log.write_text(json.dumps(Record("measure", {}).to_json()).replace('"details": {}', f'"details": {{"a": {deep}}}'))
    log.write_text(log.read_text() + "\n")
    with pytest.raises(BadInput, match="100 levels deep"):
        read_records(log)
    log.write_text(log.read_text().replace(deep, "[" * 90 + "]" * 90))
    assert read_records(log)[0][0].details["a"]


def test_whole_numbers_are_figures_too():
    assert Figure.from_json({"value": 3, "unit": "s", "low": 2}) == Figure(3.0, "s", 2.0)


def test_a_newer_schema_is_refused(log):
    log.write_text(log.read_text().replace("assay.record/1", "assay.record/9"))
    with pytest.raises(BadInput, match=r"assay\.record/9") as caught:
        read_records(log)
    assert caught.value.remedy == "upgrade assay"


def test_no_file(tmp_path):
    with pytest.raises(BadInput, match="no record file"):
        read_records(tmp_path / "none.jsonl")


def test_one_writer_at_a_time(log):
    code = (
        "import sys; from pathlib import Path; from assay.core.record import RecordLog\n"
        "from assay.core.errors import StorageFailed\n"
        "try:\n    RecordLog(Path(sys.argv[1])).__enter__()\n"
        "except StorageFailed as e:\n    print(e.message)\n"
    )
    with RecordLog(log):
        said = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True, check=True).stdout
    assert "another assay process is writing" in said
    with RecordLog(log) as free_again:
        free_again.append(Record("three", {}))


def test_writing_needs_the_lock(tmp_path):
    with pytest.raises(StorageFailed, match="not open"):
        RecordLog(tmp_path / "r.jsonl").append(Record("a", {}))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot write"), RecordLog(tmp_path / "file" / "r.jsonl"):
        pass


def test_a_full_disk_is_said(monkeypatch, log):
    with RecordLog(log) as open_log:
        open_log.path = log.parent / "link.jsonl"
        open_log.path.symlink_to("/dev/full")
        with pytest.raises(StorageFailed, match="No space left"):
            open_log.append(Record("a", {}))


def test_a_record_that_does_not_fit_leaves_nothing_of_itself(log):
    """A disk that is full half-way through: the next record must not go on in the middle of a torn line."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RecordLog(log) as open_log:
        size = log.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, before[1]))
        try:
            with pytest.raises(StorageFailed, match="too large"):
                open_log.append(Record("lost", {}))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert log.stat().st_size == size
        open_log.append(Record("three", {}))
    assert [r.kind for r in read_records(log)[0]] == ["one", "two", "three"]


def test_a_file_that_cannot_be_read_is_told_and_its_lock_let_go(log):
    log.unlink()
    log.mkdir()
    with pytest.raises(StorageFailed, match="cannot write"):
        RecordLog(log).__enter__()
    log.rmdir()
    with RecordLog(log) as free_again:
        free_again.append(Record("one", {}))


@pytest.mark.parametrize(
    ("names", "details", "expected"),
    [
        (["accuracy.top5", "accuracy.top1"], {}, "accuracy.top1"),
        (["dice", "accuracy.top1"], {"primary": "dice"}, "dice"),
        (["psnr", "accuracy.f1"], {"primary": "f1"}, "accuracy.f1"),
        (["accuracy.drop", "psnr"], {"primary": "gone"}, "psnr"),
        (["accuracy.drop"], {}, None),
    ],
)
def test_what_an_evaluation_is_about(names, details, expected):
    record = Record("evaluate", {}, figures={name: Figure(0.5, "fraction") for name in names}, details=details)
    assert record.primary() == expected
