"""perf_analyzer, LoadGen, benchmark_app and onnxruntime_perf_test."""

import pytest

from assay.core.errors import BadInput


def kinds(imported):
    return {f.kind for f in imported.findings}


def test_perf_analyzer_csv(load):
    imported = load("perf_analyzer.csv")
    assert [r.conditions["clients"] for r in imported.records] == [1, 4, 2]
    first = imported.records[0]
    assert first.value("throughput") == 69.2
    assert first.value("latency.p99") == pytest.approx(21018e-6)
    assert first.value("latency.queue") == pytest.approx(64e-6)
    assert first.conditions["basis"] == "end to end"
    assert first.conditions["source_log"]["lines"] == [2, 2]
    assert imported.findings == ()  # Little's law holds in all three rows


def test_little_law_is_broken(load_text, fixture_file):
    text = fixture_file("perf_analyzer.csv").read_text().replace("1,69.2,", "1,690,")
    (finding,) = load_text(text, "p.csv").findings
    assert (finding.kind, finding.where.rsplit(":", 1)[1]) == ("littles-law", "2")
    assert finding.figures["in_flight"] == pytest.approx(9.97, rel=1e-3)
    idle = fixture_file("perf_analyzer.csv").read_text().replace("1,69.2,", "4,69.2,")
    assert kinds(load_text(idle, "q.csv")) == {"idle-clients"}


def test_perf_analyzer_csv_by_rate_with_gpus(load):
    (record,) = load("perf_analyzer_rate.csv").records
    assert record.conditions["load"] == {"request_rate": 100}
    assert record.subject["batch"] == 8
    assert record.value("throughput.requests") == 100
    assert record.details["gpus"] == {"GPU Utilization": {"GPU-aa": 0.5, "GPU-bb": 0.25}}
    assert record.figures["latency.p99"].n == 300


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("69.2", "fast", r"\.csv:2: Inferences"),
        (",21018", "", r"\.csv:2: the row has 12 cells"),
        ("1,69", "1.5,69", "whole"),
    ],
)
def test_malformed_perf_analyzer_csv(load_text, fixture_file, old, new, error):
    with pytest.raises(BadInput, match=error):
        load_text(fixture_file("perf_analyzer.csv").read_text().replace(old, new, 1), "p.csv")


def test_perf_analyzer_json(load):
    imported = load("profile_export.json", batch=2)
    (record,) = imported.records
    assert (record.conditions["queries"], record.conditions["unanswered"]) == (40, 1)
    assert record.value("latency.mean") == pytest.approx(8.2e-3)
    assert record.value("latency.max") == pytest.approx(8.4e-3)
    assert record.value("throughput") == pytest.approx(2 * 40 / 0.3984, rel=1e-6)
    assert record.conditions["clients"] == 1
    assert record.subject["engine"] == "triton"
    assert kinds(imported) == {"percentile-from-too-few"}
    assert load("profile_export.json").records[0].figures["throughput"].value is None


def test_a_response_before_its_request(load_text, fixture_file):
    text = (
        fixture_file("profile_export.json")
        .read_text()
        .replace('"timestamp": 1700000000000000000', '"timestamp": 1800000000000000000')
    )
    with pytest.raises(BadInput, match="before its request"):
        load_text(text, "p.json")


@pytest.mark.parametrize(
    ("scenario", "rate", "queries"), [("single", 3273.55, 801), ("srv", 476.36, 300), ("off", 3492.22, 1)]
)
def test_loadgen_summary_and_detail_agree(load, scenario, rate, queries):
    detail = load(f"loadgen_detail_{scenario}.txt").records[0]
    summary = load(f"loadgen_summary_{scenario}.txt").records[0]
    for record in (detail, summary):
        assert record.value("throughput") == pytest.approx(rate, rel=1e-5)
        assert record.conditions["result"] == "INVALID"
        assert record.warnings[0] == "LoadGen calls this run INVALID"
    assert detail.conditions["queries"] == queries
    assert detail.value("latency.p99.9") == pytest.approx(summary.value("latency.p99.9"))
    assert detail.conditions["protocol"] == summary.conditions["protocol"]
    assert detail.subject["engine_version"] == "6.0.17"


def test_loadgen_findings(load):
    found = load("loadgen_detail_srv.txt")
    assert kinds(found) == {"percentile-from-too-few", "invalid-run"}
    multi = load("loadgen_summary_multi.txt").records[0]
    assert multi.figures["throughput"].value is None
    assert multi.conditions["samples_per_query"] == 8
    assert any("own error" in w for w in load("loadgen_detail_single.txt").warnings)


def test_a_valid_loadgen_run(load_text, fixture_file):
    text = fixture_file("loadgen_summary_srv.txt").read_text().replace("INVALID", "VALID")
    assert "invalid-run" not in kinds(load_text(text))


def test_malformed_loadgen_logs(load_text, fixture_file):
    summary = fixture_file("loadgen_summary_srv.txt").read_text()
    with pytest.raises(BadInput, match=r"log\.txt:7: Completed"):
        load_text(summary.replace("476.36", "quick"))
    detail = fixture_file("loadgen_detail_srv.txt").read_text()
    with pytest.raises(BadInput, match=r"log\.txt:2: not an entry"):
        load_text("\n".join([detail.split("\n")[0], ':::MLLOG {"key": 1', ""]))
    with pytest.raises(BadInput, match="did not end"):
        load_text(detail.split("\n")[0])


@pytest.mark.parametrize(
    ("name", "clients", "rate", "p50"),
    [("benchmark_app_sync.txt", 1, 25483.3, 32.14e-6), ("benchmark_app_async.txt", 2, 77186.35, 78.24e-6)],
)
def test_benchmark_app_console(load, name, clients, rate, p50):
    imported = load(name)
    (record,) = imported.records
    assert (record.value("throughput"), record.conditions["clients"]) == (rate, clients)
    assert record.value("latency.p50") == pytest.approx(p50)
    assert (record.subject["batch"], record.subject["precision"], record.subject["device"]) == (4, "bf16", "cpu")
    assert record.subject["threads"] == 2
    assert record.conditions["basis"] == "device-only"
    assert "arithmetic" not in kinds(imported)


def test_benchmark_app_of_2021_prints_milliseconds(load):
    (record,) = load("benchmark_app_2021.txt").records
    assert record.value("latency.p90") == pytest.approx(25e-3)
    assert record.value("latency.mean") == pytest.approx(19.9e-3)
    assert record.conditions["basis"] == "with copies"
    assert record.conditions["clients"] == 4


def test_a_rate_that_count_and_duration_do_not_make(load_text, fixture_file):
    text = fixture_file("benchmark_app_sync.txt").read_text().replace("25483.30 FPS", "30000.00 FPS")
    (finding,) = [f for f in load_text(text).findings if f.kind == "arithmetic"]
    assert finding.figures["derived"] == pytest.approx(25483.25, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "rate"), [("benchmark_app_report.csv", 25483.3), ("benchmark_app_report.json", 42179.39)]
)
def test_benchmark_app_reports(load, name, rate):
    imported = load(name)
    (record,) = imported.records
    assert (record.value("throughput"), record.subject["batch"], record.subject["model"]) == (rate, 4, "m")
    assert record.conditions["api"] == "sync"
    assert imported.findings == ()


def test_malformed_benchmark_app(load_text, fixture_file):
    with pytest.raises(BadInput, match=r"\.csv:31: throughput"):
        load_text(fixture_file("benchmark_app_report.csv").read_text().replace("25483.30", "x"), "r.csv")
    with pytest.raises(BadInput, match="2 Throughput lines"):
        load_text(fixture_file("benchmark_app_sync.txt").read_text() * 2)


def test_onnxruntime_perf_test(load):
    imported = load("onnxruntime_perf_test.txt", batch=2)
    (record,) = imported.records
    assert record.value("throughput") == pytest.approx(2 * 137.434)
    assert record.value("throughput.requests") == 137.434
    assert record.value("latency.mean") == pytest.approx(7.270205e-3)
    assert record.value("latency.p99.9") == pytest.approx(7.90163e-3)
    assert record.value("memory.peak") == 91336704
    assert record.subject["model"] == "net"
    assert record.subject["threads"] == 2
    assert "batch size" in load("onnxruntime_perf_test.txt").warnings[0]


def test_onnxruntime_perf_test_of_2019(load):
    (record,) = load("onnxruntime_perf_test_2019.txt").records
    assert record.value("latency.min") == pytest.approx(55.9777e-3)
    assert record.value("throughput") == pytest.approx(1000 / 58.8102)


def test_onnxruntime_in_a_unit_that_is_none(load_text, fixture_file):
    text = "Total inference requests: 10\nAverage inference time cost: 5 %\n"
    with pytest.raises(BadInput, match=r"log\.txt:2: a time is given in %"):
        load_text(text)


@pytest.mark.parametrize("shown", ["195,31", "5,12", "1,95,000"])
def test_a_decimal_comma_is_not_taken_for_thousands(load_text, shown):
    text = f"[Step 11/11]\n[ INFO ] Count: 100 iterations\n[ INFO ] Throughput: {shown} FPS\n"
    with pytest.raises(BadInput, match=r"log\.txt:3: Throughput is .* not a number"):
        load_text(text)
    (record,) = load_text(text.replace(shown, "1,195.31")).records
    assert record.value("throughput") == 1195.31


def test_benchmark_app_of_a_model_too_fast_for_its_clock(load_text):
    text = "[Step 11/11]\n[ INFO ] Count: 9 iterations\n[ INFO ]    Min: 0.00 ms\n[ INFO ] Throughput: 9 FPS\n"
    (record,) = load_text(text).records
    assert record.value("latency.min") == 0
