"""Recognition by content, bad files, and: whatever a log looks like, no traceback but an AssayError."""

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay.core.errors import AssayError, BadInput, UnknownName
from assay.core.record import RecordLog, read_records
from assay.core.table import resolve
from assay.importers import IMPORTERS, Hints, detect, import_file, import_files
from assay.importers.devices import canonical, dies_per_card, mentions, named

FIXTURES = sorted((Path(__file__).parent / "fixtures").iterdir())
EXPECTED = {
    "PureInfer": "ascend-pure-inference",
    "pure_console": "ascend-pure-inference",
    "ais_bench": "ais-bench",
    "run_summary": "ais-bench-summary",
    "benchmark-infer": "timm-benchmark",
    "timm_benchmark": "timm-benchmark",
    "benchmark_app_report": "benchmark-app-report",
    "benchmark_app": "benchmark-app",
    "document": "markdown",
    "loadgen_detail": "loadgen-detail",
    "loadgen_summary": "loadgen-summary",
    "onnxruntime": "onnxruntime-perf-test",
    "output": "trtexec-output",
    "perf_analyzer": "perf-analyzer-csv",
    "profile_export": "perf-analyzer-json",
    "profile": "trtexec-profile",
    "perf_vision": "ascend-benchmark",
    "result_bs": "ascend-accuracy",
    "results": "timm-results",
    "times": "trtexec-times",
    "torchpipe": "torchpipe-dict",
    "trtexec": "trtexec",
}
ODD = ("", "nan", "-1", "0", "1e999", "9" * 400, "x", "١٢", "1,2,3", '"', "{", "|", "\ufeff", "12.5.3", "[I]", "```\n")


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.name)
def test_every_fixture_is_recognised_by_content_alone(path, tmp_path):
    expected = next(name for prefix, name in EXPECTED.items() if path.name.startswith(prefix))
    renamed = tmp_path / "unnamed"
    renamed.write_bytes(path.read_bytes())
    found = detect(renamed)
    assert found[0].name == expected
    assert [d.name for d in found if d.confidence >= 0.9] == [expected]


def test_every_importer_has_a_fixture():
    assert {d.name for path in FIXTURES for d in detect(path)} == set(IMPORTERS)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.name)
def test_records_are_stored_and_read_back_with_their_source(path, tmp_path):
    imported = import_file(path)
    with RecordLog(tmp_path / "records.jsonl") as log:
        for record in imported.records:
            log.append(record)
    if not imported.records:
        assert imported.warnings
        return
    records, notes = read_records(tmp_path / "records.jsonl")
    assert notes == []
    total = len(path.read_text().split("\n"))
    for record in records:
        source = record.conditions["source_log"]
        assert source["file"] == str(path)
        assert len(source["sha256"]) == 64
        assert 1 <= source["lines"][0] <= source["lines"][1] <= total
        rates = [name for name, f in record.figures.items() if f.unit.endswith("/s")]
        for name in rates:
            basis = record.conditions["rates"][name]
            assert basis["basis"] in ("device-only", "with copies", "end to end", "not stated")
            assert basis["per"] in ("sample", "batch")
            assert basis["how"] in ("measured", "computed", "extrapolated")
            assert basis["measured"] == (basis["how"] == "measured")
    json.dumps([f.to_json() for f in imported.findings], allow_nan=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"  \n", "empty"), (b"\x00\x01\x02", "binary"), (b"hello world\n", "no tool that assay knows")],
)
def test_files_that_are_no_logs(tmp_path, content, message):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        import_file(path)


def test_missing_files_folders_and_names(tmp_path):
    with pytest.raises(BadInput, match="no file"):
        import_file(tmp_path / "none")
    with pytest.raises(BadInput, match="folder"):
        import_file(tmp_path)
    with pytest.raises(BadInput, match="no file to import"):
        import_files([])
    with pytest.raises(UnknownName, match="trtexek"):
        import_file(FIXTURES[0], importer="trtexek")


def test_a_named_importer_that_does_not_fit(fixture_file):
    with pytest.raises(BadInput, match=r"perf_analyzer\.csv:"):
        import_file(fixture_file("perf_analyzer.csv"), importer="trtexec")


def test_every_table_entry_resolves():
    for name in IMPORTERS:
        made = resolve(IMPORTERS, name, "importer")()
        assert callable(made.confidence)
        assert callable(made.read)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("the 310P and the 310, against a Tesla T4", ["310P", "310", "T4"]),
        ("Ascend710", ["310P"]),
        ("710的吞吐率", ["310P"]),
        ("310 images at 310.5 ms", []),
        ("1310 3100 v310.bin a_310", []),
        ("RTX 4090 Ti, rtx3090", ["RTX4090Ti", "RTX3090"]),
        ("on the CPU of the A100 machine", ["A100"]),
        ("on a Xeon", ["CPU"]),
    ],
)
def test_devices_in_words(text, names):
    assert named(text) == names


def test_aliases_are_one_device():
    assert {canonical(n) for n in ("710", "Ascend710", "310P3", "Ascend 310P", "310p")} == {"310P"}
    assert (dies_per_card("310"), dies_per_card("310P"), dies_per_card("T4"), dies_per_card("mine")) == (4, 1, 1, 1)
    assert canonical("my card") == "my card"
    assert mentions("310", numeric=False) == []


@st.composite
def mutated(draw):
    """A fixture with a few of its characters, words or lines changed."""
    path = draw(st.sampled_from(FIXTURES))
    text = path.read_text(encoding="utf-8")
    if len(text) > 12000:
        start = draw(st.integers(0, len(text) - 6000))
        text = text[:3000] + text[start : start + 6000]
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(text) - 1)))
        end = min(len(text), at + draw(st.integers(0, 40)))
        text = text[:at] + draw(st.sampled_from(ODD)) + text[end:]
    if draw(st.booleans()):
        lines = text.split("\n")
        at = draw(st.integers(0, len(lines) - 1))
        other = lines.pop(at)
        if draw(st.booleans()):
            lines.insert(draw(st.integers(0, len(lines))), other + other)
        text = "\n".join(lines)
    numbers = draw(st.sampled_from(("", *ODD)))
    if numbers and draw(st.booleans()):
        digit = draw(st.sampled_from("0123456789"))
        text = text.replace(digit, numbers, 3)
    return path, text


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(), st.booleans())
def test_a_mutated_log_gives_records_or_an_error_that_is_ours(case, named_tool):
    path, text = case
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / path.name
        changed.write_text(text, encoding="utf-8", errors="surrogatepass")
        tool = detect(path)[0].name if named_tool else None
        with contextlib.suppress(AssayError):
            imported = import_file(changed, Hints(device="310"), importer=tool)
            for record in imported.records:
                json.dumps(record.to_json()["figures"], allow_nan=False)
            json.dumps([f.to_json() for f in imported.findings], allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.sampled_from(sorted(IMPORTERS)))
def test_any_text_at_all(text, name):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        with contextlib.suppress(AssayError):
            imported = import_file(path, importer=name)
            assert imported.records or imported.warnings


@pytest.mark.parametrize("value", ["1e300", "1e-300", "9" * 400])
def test_figures_beyond_any_benchmark(load_text, fixture_file, value):
    text = fixture_file("perf_analyzer.csv").read_text().replace("69.2", value)
    with pytest.raises(BadInput, match=r"p\.csv:2: Inferences/Second is "):
        load_text(text, "p.csv")
