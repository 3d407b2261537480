import numpy as np
import pytest

from assay.core.record import Record
from assay.core.workload import Clients
from assay.measure.torchpipe import ROWS, closed_loop_row
from assay.present.torchpipe import torchpipe_markdown


def record(model, seconds, clients=10, **conditions):
    row = closed_loop_row(seconds, 2.0, Clients(clients, len(seconds)), 3.0)
    return Record(
        "measure",
        {"model": model, "engine": "openvino", "engine_version": "2026.4", "device_name": "a | chip",
         "precision": "bf16"},
        conditions={"scenario": "clients", "clients": clients, "data": "drawn", **conditions},
        label="stable",
        details={"torchpipe": row, "opset": 17, "inputs": ["x:batchx3x224x224:float32"]},
    )  # fmt: skip


@pytest.fixture
def timings():
    """1, 2, … n times a step, in seconds, in no order."""
    return lambda n, step_s=1e-3: np.random.default_rng(0).permutation(np.arange(1, n + 1)) * step_s


def cells(text):
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return {row[0].strip(): [c.strip() for c in row[1:]] for row in lines}


def test_models_are_columns_and_the_conditions_stand_above(timings):
    text = torchpipe_markdown([record("resnet18", timings(100)), record("resnet50", timings(100, 3e-3))], "1.2.3")
    assert text.startswith("assay 1.2.3\n")
    table = cells(text)
    assert tuple(name for name in table if name not in ("", "---")) == ROWS
    assert table[""] == ["resnet18", "resnet50"]
    assert table["num_clients"] == ["10", "10"]
    assert table["total_number"] == ["100", "100"]
    assert table["throughput::qps"] == ["50.00", "50.00"]
    assert table["-1"] == ["100.00", "300.00"]
    assert table["cpu_usage"] == ["150.0", "150.0"]
    assert table["gpu_usage"] == ["-", "-"]
    head = text[: text.index("\n| ")]
    for said in ("openvino 2026.4", "a \\| chip", "bf16", "opset: 17", "3x224x224", "run alone", "data: drawn"):
        assert said in head


def test_what_differs_between_columns_is_said_for_each(timings):
    batched = {"max_batch": 4, "max_delay_s": 0.005, "policy": "delay", "batcher_instances": 2}
    text = torchpipe_markdown([record("a", timings(60)), record("b", timings(60), **batched)], "1")
    assert "a none: every request is run alone; b delay, up to 4, 5 ms, 2 instances" in text


def test_one_model_under_several_loads(timings):
    table = cells(torchpipe_markdown([record("a", timings(60), 1), record("a", timings(60), 4)], "1"))
    assert table[""] == ["a (1 clients)", "a (4 clients)"]


def test_what_has_no_figure_is_a_dash_and_what_failed_is_said(timings):
    failed = Record("measure", {"model": "broken"}, status="failed", reason="no such file")
    text = torchpipe_markdown([record("a", timings(12)), failed], "1")
    table = cells(text)
    assert (table["-50"], table["-20"], table["-10"]) == (["-"], ["-"], ["3.00"])
    assert "- broken has no figures: no such file" in text
    assert torchpipe_markdown([failed], "1").count("|") == 0
    assert "No model was measured." in torchpipe_markdown([failed], "1")
