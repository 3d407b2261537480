"""torchpipe's tables and dicts, timm's CSV files."""

import pytest

from assay.core.errors import BadInput


def kinds(imported):
    return {f.kind for f in imported.findings}


def table(fixture_file):
    lines = fixture_file("document_backbones.md").read_text().split("\n")
    return "\n".join(line for line in lines if line.startswith("|")) + "\n"


def test_torchpipe_table_alone(load_text, fixture_file):
    imported = load_text(table(fixture_file))
    first = imported.records[0]
    assert [r.subject["model"] for r in imported.records][:2] == ["resnet18", "resnet50"]
    assert first.value("throughput") == 4201.44
    assert first.value("latency.slowest_40") == pytest.approx(6.69e-3)
    assert "latency.slowest_50" not in first.figures
    assert first.value("latency.max") == pytest.approx(7.04e-3)
    assert (first.conditions["clients"], first.conditions["samples"]) == (10, 10000)
    assert first.subject["engine_version"] == "20230602"
    assert "littles-law" not in kinds(imported)


def test_torchpipe_dicts(load):
    imported = load("torchpipe_dict.txt")
    assert [r.conditions["clients"] for r in imported.records] == [1, 40, 10, 90]
    assert [r.value("throughput") for r in imported.records] == [381.0, 1500.5, 1777.48, 4253.68]
    assert imported.records[0].details["gpu_usage"] == 55
    assert imported.records[2].details["cpu_usage"] is None
    assert imported.records[2].subject["model"] == "net"
    assert kinds(imported) == {"mislabelled-row"}


def test_a_gpu_that_did_nothing(load_text, fixture_file):
    text = fixture_file("torchpipe_dict.txt").read_text().replace("'gpu_usage': 91", "'gpu_usage': 0")
    assert "gpu-usage-0" in kinds(load_text(text))


def test_malformed_torchpipe(load_text, fixture_file):
    with pytest.raises(BadInput, match=r"log\.txt:6: throughput::qps"):
        load_text(table(fixture_file).replace("4201.44", "many"))
    text = fixture_file("torchpipe_dict.txt").read_text()
    with pytest.raises(BadInput, match=r"log\.txt:2: not a printed dict"):
        load_text(text.replace("'TP50': 2.6", "'TP50': open('x')"))
    with pytest.raises(BadInput, match=r"log\.txt:5: a dict that does not end"):
        load_text(text.rstrip().rstrip("}"))


def test_timm_results_of_both_generations(load):
    big, small = load("results-imagenet.csv").records
    (old,) = load("results-imagenet-2021.csv").records
    assert big.value("parameters") == pytest.approx(1013.01e6)
    assert small.value("accuracy.top1") == pytest.approx(0.7788)
    assert old.value("accuracy.top1") == pytest.approx(0.77862)
    assert old.conditions["crop_pct"] == small.conditions["crop_pct"] == 0.875
    assert (old.conditions["generation"], small.conditions["generation"]) == ("2021 (cropt_pct)", "current")
    assert load("results-ood.csv").records[0].conditions["shift.rank_diff"] == -3


def test_a_top1_that_its_error_contradicts(load_text, fixture_file):
    text = fixture_file("results-imagenet-2021.csv").read_text().replace("22.138", "23.138")
    assert kinds(load_text(text, "r.csv")) == {"arithmetic"}


@pytest.mark.parametrize(("old", "new"), [("77.862", "777.862"), ("77.862", ""), (",bicubic", "")])
def test_malformed_timm_results(load_text, fixture_file, old, new):
    with pytest.raises(BadInput, match=r"r\.csv:2: "):
        load_text(fixture_file("results-imagenet-2021.csv").read_text().replace(old, new), "r.csv")


def test_timm_benchmark(load):
    (record,) = load("benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv").records
    assert (record.value("throughput"), record.subject["batch"]) == (5793.0, 512)
    assert (record.subject["device_name"], record.subject["precision"]) == ("RTX4090", "amp")
    assert record.conditions["layout"] == "nhwc"
    assert record.value("macs") == pytest.approx(1.63e9)
    (printed,) = load("timm_benchmark_stdout.txt").records
    assert (printed.value("throughput"), printed.subject["batch"]) == (100.0, 8)


def test_a_benchmark_rate_its_step_time_contradicts(load_text, fixture_file):
    text = (
        fixture_file("timm_benchmark_stdout.txt")
        .read_text()
        .replace('"infer_step_time": 80.0', '"infer_step_time": 40.0')
    )
    assert kinds(load_text(text)) == {"arithmetic"}


@pytest.mark.parametrize(
    ("name", "device", "precision", "engine"),
    [
        ("benchmark-infer-amp_bf16-nchw-pt291-cu130-pro6000maxq-dynamo.csv", "pro6000maxq", "amp_bf16", "torch-dynamo"),
        ("benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv", "CPU", "fp32", "torch-dynamo"),
        ("benchmark-infer-amp-nchw-pt291-cu128-4090.csv", "RTX4090", "amp", "torch"),
        ("benchmark-infer-amp-nhwc-pt113-cu117-rtx3090.csv", "RTX3090", "amp", "torch"),
    ],
)
def test_what_a_benchmark_files_name_says(load_text, fixture_file, name, device, precision, engine):
    text = fixture_file("benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv").read_text()
    (record,) = load_text(text, name).records
    assert [record.subject[k] for k in ("device_name", "precision", "engine")] == [device, precision, engine]
