"""The Ascend tools: benchmark in both label variants, pure inference, ais_bench, accuracies."""

import pytest

from assay.core.errors import BadInput
from assay.importers import import_files


def kinds(imported):
    return {f.kind for f in imported.findings}


def test_benchmark_on_a_die_of_a_310_card(load):
    imported = load("perf_vision_batchsize_16_device_1.txt", device="Ascend310")
    die, card, pipeline = imported.records
    assert die.subject["device_name"] == "310"
    assert [r.subject["batch"] for r in imported.records] == [16, 16, 16]
    assert (die.value("throughput"), die.conditions["scope"], die.conditions["measured"]) == (714.514, "die", True)
    assert card.value("throughput") == pytest.approx(2858.056)
    assert (card.conditions["how"], card.conditions["measured"]) == ("extrapolated", False)
    assert "not measured" in card.warnings[0]
    assert card.details["derived"][0]["inputs"] == {"rate": 714.514, "dies": 4.0}
    assert (pipeline.value("throughput"), pipeline.conditions["basis"]) == (255.635, "end to end")
    assert pipeline.conditions["rates"]["throughput.post"]["per"] == "batch"
    assert pipeline.conditions["samples_done"] == pytest.approx(50000, rel=1e-4)
    assert kinds(imported) == {"interface-is-not-end-to-end", "extrapolated"}


@pytest.mark.parametrize("device", ["310P", "Ascend710", "710", None])
def test_other_devices_have_one_die(load, device):
    interface, _ = load("perf_vision_inference.txt", device=device).records
    assert interface.value("throughput") == 809.813
    assert interface.conditions["scope"] == "device"
    assert interface.conditions["labels"] == "inference/postprocess"
    assert interface.subject["device_name"] == ("310P" if device else None)
    assert interface.subject["batch"] == 1  # the ratio of its own rates says so


def test_a_wrong_batch_is_contradicted_by_the_log(load):
    found = load("perf_vision_batchsize_16_device_1.txt", batch=8).findings
    (finding,) = [f for f in found if f.kind == "batch-contradicted"]
    assert finding.figures == {"called": 8.0, "log": 16.0}


def test_module_latency_that_is_no_reciprocal(load_text, fixture_file):
    text = fixture_file("perf_vision_inference.txt").read_text().replace("7.44429", "9.44429")
    (finding,) = [f for f in load_text(text).findings if f.kind == "arithmetic"]
    assert finding.where.endswith(":1")
    assert finding.figures["said"] == 134.331


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("[infer] throughputRate: 256.689", "[infer] throughputRate: fast", r":4: \[infer\] throughputRate"),
        ("Interface throughputRate: 714.514, ", "", ":4: .infer. has no Interface throughputRate"),
        ("[post] throughputRate: 16.0426, moduleLatency: 62.3341", "", r": there is no \[post\] line"),
        ("latency: 195592", "latency: 0", ":1: .*above zero"),
        ("[preprocess]", "[data read]", ":3: a second"),
    ],
)
def test_malformed_benchmark_files(load_text, fixture_file, old, new, error):
    text = fixture_file("perf_vision_batchsize_16_device_1.txt").read_text()
    assert old in text
    with pytest.raises(BadInput, match=error):
        load_text(text.replace(old, new))


def test_pure_inference_in_both_spellings(load):
    (equals,) = load("PureInfer_perf_of_net_bs4_in_device_0.txt").records
    assert (equals.value("throughput"), equals.subject["batch"], equals.subject["model"]) == (974.27, 4, "net")
    assert equals.conditions["data"] == "random"
    die, card = load("pure_console.txt", device="310").records
    assert (die.value("throughput"), die.subject["batch"], die.conditions["queries"]) == (323.826, 16, 100)
    assert card.value("throughput") == pytest.approx(1295.304)
    with pytest.raises(BadInput, match="at least one"):
        load("PureInfer_perf_of_net_bs4_in_device_0.txt", batch=0)


def test_a_broken_pure_inference_line(load_text):
    with pytest.raises(BadInput, match=r"log\.txt:2: "):
        load_text("[INFO] ok\nave_throughputRate = fast, ave_latency = slow\n")


def test_ais_bench(load):
    imported = load("ais_bench.log")
    (record,) = imported.records
    assert (record.value("throughput"), record.subject["batch"], record.subject["model"]) == (1600.0, 4, "net")
    assert record.value("latency.p99") == pytest.approx(3e-3)
    assert record.value("latency.h2d.mean") == pytest.approx(0.2e-3)
    assert record.conditions["data"] == "random bytes"
    assert (record.conditions["basis"], record.conditions["how"]) == ("device-only", "computed")
    assert imported.findings == ()


def test_ais_bench_on_several_devices(load, load_text, fixture_file):
    imported = load("ais_bench_devices.log")
    total = imported.records[2]
    assert (total.value("throughput"), total.conditions["scope"]) == (557.9376, "all devices")
    assert imported.findings == ()
    text = fixture_file("ais_bench_devices.log").read_text().replace("557.9376", "600")
    assert kinds(load_text(text)) == {"arithmetic"}


def test_an_ais_bench_rate_that_its_mean_does_not_make(load_text, fixture_file):
    text = fixture_file("ais_bench.log").read_text().replace(": 1600.0", ": 1800.0")
    (finding,) = load_text(text).findings
    assert (finding.kind, finding.figures) == ("arithmetic", {"said": 1800.0, "derived": 1600.0})


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("mean = 2.5,", "mean = ?,", r":5: "),
        ("mean(2.5): 1600.0", "", r":7: "),
        ("[INFO] throughput 1000*batchsize.mean(4)/NPU_compute_time.mean(2.5): 1600.0\n", "", "without its throughput"),
    ],
)
def test_malformed_ais_bench_logs(load_text, fixture_file, old, new, error):
    with pytest.raises(BadInput, match=error):
        load_text(fixture_file("ais_bench.log").read_text().replace(old, new))


def test_ais_bench_summary(load):
    imported = load("run_summary.json")
    (record,) = imported.records
    assert (record.value("throughput"), record.subject["batch"]) == (2500.0, 2)
    assert record.figures["latency.mean"].n == 2
    assert record.conditions["data"] == "files"
    assert any("overwrite" in w for w in imported.warnings)
    assert kinds(imported) == {"percentile-from-too-few"}


def test_a_summary_whose_list_says_otherwise(load_text, fixture_file):
    text = fixture_file("run_summary.json").read_text()
    found = load_text(text.replace("[\n  0.6,", "[\n  3.6,"), "x_summary.json")
    assert "arithmetic" in kinds(found)


def test_accuracies(load):
    (record,) = load("result_bs1.json").records
    assert record.kind == "evaluate"
    assert record.value("accuracy.top1") == pytest.approx(0.7785)
    assert record.value("accuracy.top2") == pytest.approx(0.875)
    assert record.figures["accuracy.top1"].n == 50000
    assert (record.subject["batch"], record.conditions["classes"]) == (1, 1000)


def test_equal_accuracies_of_two_batch_sizes(fixture_file):
    found = import_files([fixture_file("result_bs1.json"), fixture_file("result_bs16.json")]).findings
    (finding,) = [f for f in found if f.kind == "identical-accuracy"]
    assert finding.severity == "note"  # nothing shows that one folder was scored for both


def test_samples_that_do_not_add_up(tmp_path, fixture_file):
    result = tmp_path / "result_bs16.json"
    result.write_text(fixture_file("result_bs16.json").read_text().replace("50000", "10000"))
    found = import_files([fixture_file("perf_vision_batchsize_16_device_1.txt"), result]).findings
    (finding,) = [f for f in found if f.kind == "samples-do-not-add-up"]
    assert finding.figures["counted"] == 10000
    assert finding.figures["rate_x_duration"] == pytest.approx(50000, rel=1e-4)


@pytest.mark.parametrize("value", ["177.85%", "many", "-3%", "NaN"])
def test_impossible_accuracies(load_text, fixture_file, value):
    with pytest.raises(BadInput, match=r"\.json:1: Top1 accuracy"):
        load_text(fixture_file("result_bs1.json").read_text().replace("77.85%", value), "result.json")
