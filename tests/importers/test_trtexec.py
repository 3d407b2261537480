"""trtexec's console log in every version's format."""

import pytest

from assay.core.errors import BadInput


def kinds(imported):
    return {f.kind for f in imported.findings}


def test_7_explicit_batch_prints_no_rate(load):
    whole, compute = load("trtexec_7.txt").records
    assert whole.figures["throughput.queries"].value is None
    assert "0 qps" in whole.figures["throughput"].reason
    assert whole.value("latency.mean") == pytest.approx(3.31e-3)
    assert whole.value("latency.end_to_end.p99") == pytest.approx(5.5e-3)
    assert whole.value("latency.enqueue.p50") == pytest.approx(0.6e-3)
    assert whole.conditions["queries"] == 900
    assert whole.conditions["format_versions"] == ["7.0", "8.0"]
    assert whole.conditions["protocol"] == "trtexec"
    assert compute.value("latency.p99") == pytest.approx(4.1e-3)
    assert whole.subject["precision"] == "fp16"


def test_7_rate_is_counted_where_the_batch_is_known(load):
    whole, compute = load("trtexec_7.txt", batch=2).records
    assert whole.value("throughput") == pytest.approx(900 * 2 / 3.00151)
    assert compute.value("throughput") == pytest.approx(2 / 3.11e-3)
    assert (whole.conditions["how"], compute.conditions["how"]) == ("measured", "computed")


def test_7_implicit_batch_counts_samples(load):
    (whole,) = load("trtexec_7_implicit.txt").records
    assert whole.value("throughput") == 800
    assert "throughput.queries" not in whole.figures
    assert whole.subject["batch"] == 8
    assert whole.conditions["queries"] == 300
    assert whole.figures["latency.p99"].reason  # 300 queries do not bound a p99


@pytest.mark.parametrize(
    ("name", "version", "format", "batch", "precision"),
    [
        ("trtexec_8_2.txt", "8.2.3", "8.0-8.2", 4, "fp16"),
        ("trtexec_8_4.txt", "8.4.1", "8.4+", 1, "best"),
        ("trtexec_8_6.txt", "8.6.1", "8.4+", 16, None),
        ("trtexec_10.txt", "10.2.0", "8.4+", 2, "fp16+int8"),
        ("trtexec_11.txt", "11.1.0", "8.4+", 8, "fp32"),
    ],
)
def test_the_summary_of_8_and_later(load, name, version, format, batch, precision):
    imported = load(name)
    whole, compute = imported.records
    assert whole.subject["engine_version"] == version
    assert whole.conditions["log_format"] == format
    assert whole.subject["batch"] == batch
    assert whole.subject["precision"] == precision
    queries = whole.value("throughput.queries")
    assert whole.value("throughput") == pytest.approx(queries * batch)
    assert whole.conditions["rates"]["throughput.queries"]["per"] == "batch"
    assert whole.conditions["rates"]["throughput"]["per"] == "sample"
    assert compute.conditions["basis"] == "device-only"
    assert compute.value("throughput") == pytest.approx(batch / 4.2e-3)
    assert ("latency.end_to_end.mean" in whole.figures) == (format == "8.0-8.2")
    assert "version-contradicts-format" not in kinds(imported)
    assert "arithmetic" not in kinds(imported)


def test_11_is_another_protocol_without_copies(load):
    whole = load("trtexec_11.txt").records[0]
    assert (whole.conditions["protocol"], whole.conditions["basis"]) == ("trtexec-11", "device-only")
    before = load("trtexec_10.txt").records[0]
    assert (before.conditions["protocol"], before.conditions["basis"]) == ("trtexec", "with copies")


def test_the_tools_own_warnings_and_streams_are_kept(load):
    assert "bound by Enqueue Time" in load("trtexec_10.txt").records[0].warnings[0]
    found = load("trtexec_8_6.txt")
    assert "several-streams" in kinds(found)
    assert "percentile-from-too-few" in kinds(found)  # 180 queries


def test_a_failed_run_is_a_record_with_its_reason(load):
    (record,) = load("trtexec_failed.txt").records
    assert record.status == "failed"
    assert "NoSuchOp" in record.reason


def test_a_file_with_two_runs(load_text, fixture_file):
    text = fixture_file("trtexec_8_2.txt").read_text() + fixture_file("trtexec_10.txt").read_text()
    records = load_text(text).records
    assert [r.subject["engine_version"] for r in records] == ["8.2.3", "8.2.3", "10.2.0", "10.2.0"]
    first, last = records[0].conditions["source_log"]["lines"], records[2].conditions["source_log"]["lines"]
    assert first[1] < last[0]
    assert records[0].conditions["source_log"]["sha256"] == records[2].conditions["source_log"]["sha256"]


def test_the_lines_are_those_of_the_summary(load, fixture_file):
    log = load("trtexec_8_2.txt").records[0].conditions["source_log"]
    lines = fixture_file("trtexec_8_2.txt").read_text().split("\n")
    assert "Throughput" in lines[log["lines"][0] - 1]
    assert "Total GPU Compute Time" in lines[log["lines"][1] - 1]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("Throughput: 231.0000 qps", "Throughput: much qps", 5),
        ("Throughput: 231.0000 qps", "Throughput:", 5),
        ("mean = 4.40000 ms", "mean = inf ms", 6),
        ("H2D Latency: min = 0.09900 ms", "H2D Latency: min = -0.1 ms", 9),
    ],
)
def test_a_malformed_line_is_named(load_text, fixture_file, old, new, line):
    text = fixture_file("trtexec_8_2.txt").read_text()
    assert old in text
    with pytest.raises(BadInput, match=rf"log\.txt:{line}: "):
        load_text(text.replace(old, new))


def test_a_malformed_line_of_7_is_named(load_text, fixture_file):
    text = fixture_file("trtexec_7.txt").read_text().replace("median: 3.3 ms (end", "median: ? (end")
    with pytest.raises(BadInput, match=r"log\.txt:10: "):
        load_text(text)


def test_windows_line_ends_colours_and_utf16(tmp_path, fixture_file):
    from assay.importers import import_file

    text = fixture_file("trtexec_10.txt").read_text().replace("\n", "\r\n").replace("[I]", "\x1b[32m[I]\x1b[0m")
    path = tmp_path / "log.txt"
    path.write_bytes(text.encode("utf-16"))
    assert import_file(path).records[0].value("throughput") == pytest.approx(462.0)


VERBOSE = """[03/04/2024-09:00:03] [V]
[03/04/2024-09:00:03] [V] === Explanations of the performance metrics ===
[03/04/2024-09:00:03] [V] Total Host Walltime: from the first query to the end of the last
[03/04/2024-09:00:03] [V] Throughput: queries over the walltime
[03/04/2024-09:00:03] [V] Latency: the sum of the three below
"""


def test_the_explanations_of_a_verbose_log_are_no_figures(load_text, fixture_file):
    text = fixture_file("trtexec_10.txt").read_text()
    whole = load_text(text.replace("&&&& PASSED", VERBOSE + "&&&& PASSED")).records[0]
    assert whole.value("throughput") == pytest.approx(462.0)


def test_two_summaries_of_one_run(load_text, fixture_file):
    text = fixture_file("trtexec_10.txt").read_text()
    start, end = text.index("[03/04/2024-09:00:00] [I] Timing"), text.index("[03/04/2024-09:00:03] [W]")
    again = text[start:end].replace("231.0000", "115.5000").replace("693 queries", "346 queries")
    both = text[:end].replace("summary ===", "summary w/o profiler ===") + again.replace(
        "summary ===", "summary w/ profiler ==="
    )
    records = [r for r in load_text(both + text[end:]).records if r.conditions["how"] == "measured"]
    assert [(r.value("throughput.queries"), r.conditions["profiled"], r.conditions["queries"]) for r in records] == [
        (231.0, False, 693),
        (115.5, True, 346),
    ]
    assert {r.subject["engine_version"] for r in records} == {"10.2.0"}


def test_a_run_without_a_summary_is_said(load_text, fixture_file):
    text = fixture_file("trtexec_10.txt").read_text()
    built = "&&&& RUNNING TensorRT.trtexec [TensorRT v100200] # trtexec --skipInference\n&&&& PASSED TensorRT.trtexec\n"
    imported = load_text(built + text)
    assert len(imported.records) == 2
    assert any("1 of the runs" in w for w in imported.warnings)
    with pytest.raises(BadInput, match="no performance summary"):
        load_text(built)
