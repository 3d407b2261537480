"""trtexec's JSON exports: swapped fields, warm-ups, invalid JSON."""

import pytest

from assay.core.errors import BadInput


@pytest.mark.parametrize(
    ("name", "format", "dropped"),
    [
        ("times_7_0.json", "7", 40),
        ("times_7_2.json", "7.1-7.2", 40),
        ("times_8_2.json", "8.0-8.2", 40),
        ("times_8_6_batch4.json", "8.4+", 0),
    ],
)
def test_times_of_every_version(load, name, format, dropped):
    whole, compute = load(name, batch=4).records
    assert whole.conditions["log_format"] == format
    assert whole.conditions["warmup_dropped"] == dropped
    assert whole.conditions["queries"] == 100 - dropped
    # The same numbers whatever the fields are called, and however they are swapped.
    assert whole.value("latency.enqueue.mean") == pytest.approx(0.5e-3)
    assert whole.value("latency.h2d.mean") == pytest.approx(0.1e-3)
    assert whole.value("latency.p50") == pytest.approx(4.13e-3, rel=0.02)
    assert whole.conditions["swap_undone"] == (format == "7.1-7.2")
    assert whole.value("throughput") == pytest.approx(4 * 200, rel=0.02)  # a query every 5 ms
    assert compute.conditions["how"] == "computed"
    assert compute.value("throughput") == pytest.approx(4 / 4.0e-3, rel=0.02)


def test_another_warmup_time(load):
    assert load("times_8_2.json", warmup_ms=400).records[0].conditions["queries"] == 20
    with pytest.raises(BadInput, match="all 100 queries are warm-up"):
        load("times_8_2.json", warmup_ms=1e6)


def test_profile_with_names_that_break_json(load, fixture_file):
    (record,) = load("profile.json").records
    layers = record.details["layers"]
    assert [layer["name"] for layer in layers] == ["conv1 + relu", 'a "quoted" layer\\odd']
    assert layers[1]["median_s"] == pytest.approx(2.98e-3)
    assert record.value("latency.layers.mean") == pytest.approx(4e-3)
    assert record.figures["latency.layers.mean"].n == 300
    assert "median_s" not in load("profile_8_2.json").records[0].details["layers"][0]


def test_output_with_nan_and_inf(load):
    imported = load("output.json")
    (record,) = imported.records
    assert record.value("outputs.not_finite") == 2
    first = record.details["outputs"][0]
    assert (first["shape"], first["min"], first["max"]) == ([1, 4], 0.1, 0.25)
    assert any("nan or inf" in w for w in imported.warnings)


@pytest.mark.parametrize(
    ("name", "old", "new", "error"),
    [
        ("times_8_2.json", '"computeMs" : 4', '"computeMs" : "x"', r"\.json:2: computeMs"),
        ("times_8_2.json", '"latencyMs" : 4.12, ', "", r"\.json:2: query 0 has no latencyMs"),
        ("times_8_2.json", "]", "", r"\.json:\d+: broken JSON"),
        ("profile.json", '"averageMs" : 3', '"averageMs" : none', r"\.json:4: averageMs"),
        ("profile.json", '"timeMs" : 300', '"time" : 300', r"\.json:3: "),
        ("output.json", '"1x4"', '"1x5"', "has 4 values"),
        ("output.json", '"2x2"', '"two"', "are not like"),
    ],
)
def test_malformed_exports(load_text, fixture_file, name, old, new, error):
    text = fixture_file(name).read_text()
    assert old in text
    with pytest.raises(BadInput, match=error):
        load_text(text.replace(old, new, 1), name)


def test_no_warmup_at_all(load):
    assert load("times_8_2.json", warmup_ms=0).records[0].conditions["queries"] == 100
