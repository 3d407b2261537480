"""Rates and the bottleneck, from times that are set by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from small import Small

from assay.importers import import_file
from assay.pipeline import Flow, Outcome, ShardStore, bottleneck, rates, run, vendor_lines
from assay.pipeline.stopwatch import Stopwatch


def outcome(preprocess_s: float, infer_s: float, *, starved_s: float = 0.0, seconds: float = 10.0) -> Outcome:
    watch = Stopwatch()
    watch.stages["read"].add(0.0, 0.5, 1000)
    watch.stages["read"].last_s = 9.0
    for name, busy in (("preprocess", preprocess_s), ("infer", infer_s)):
        watch.stages[name].add(0.0, busy, 1000)
        watch.stages[name].last_s = 10.0
    for _ in range(125):
        watch.stages["post"].add(1.0, 1.001, 8)
    watch.stages["post"].last_s = 10.0
    watch.starved_s = starved_s
    return Outcome(1000, 1000, (), 1000, seconds, watch)


SHARED = Flow(1000, batch=8, workers=2, cores=2, parallelism=2)
DEVICE = Flow(1000, batch=8, workers=4, cores=2, parallelism=2, shared=False)


def test_rates_are_what_the_clock_says() -> None:
    found = rates(outcome(8.0, 12.0), SHARED)
    assert found is not None
    assert found.e2e == 100
    assert found.stages["read"].rate == pytest.approx(1000 / 9)
    assert found.stages["preprocess"].module_s == pytest.approx(0.008)
    assert found.stages["preprocess"].utilisation == pytest.approx(0.4)
    assert found.stages["infer"].interface_rate == pytest.approx(2 * 1000 / 12)
    assert found.stages["post"].rate == pytest.approx(125 / 9)
    assert found.stages["post"].module_s == pytest.approx(0.001)


def test_on_shared_cores_the_larger_cost_holds_back() -> None:
    found = rates(outcome(5.0, 15.0), SHARED)
    assert found is not None
    told = bottleneck(found, SHARED)
    assert told is not None
    assert told.stage == "infer"
    assert "75%" in told.why
    assert told.if_halved == pytest.approx(100 * 20 / 12.5)
    assert told.at_most == pytest.approx(400)
    other = rates(outcome(15.0, 5.0), SHARED)
    assert other is not None
    again = bottleneck(other, SHARED)
    assert again is not None
    assert again.stage == "preprocess"


def test_waiting_for_data_is_told() -> None:
    found = rates(outcome(3.0, 3.0, starved_s=10.0), SHARED)
    assert found is not None
    told = bottleneck(found, SHARED)
    assert told is not None
    assert told.stage == "read"
    assert told.at_most == pytest.approx(200)


def test_with_an_accelerator_the_idle_side_is_told() -> None:
    busy = rates(outcome(4.0, 19.0), DEVICE)
    idle = rates(outcome(20.0, 4.0), DEVICE)
    assert busy is not None
    assert idle is not None
    first, second = bottleneck(busy, DEVICE), bottleneck(idle, DEVICE)
    assert first is not None
    assert second is not None
    assert (first.stage, second.stage) == ("infer", "preprocess")
    assert first.at_most == pytest.approx(500)
    assert second.at_most == pytest.approx(500)


def test_nothing_done_gives_no_rates(tmp_path: Path) -> None:
    small = Small(16)
    flow = Flow(16, batch=8, shard_size=8)
    store = ShardStore(tmp_path, {}, "jsonl")
    assert rates(run(small.stages(), flow, store), flow) is not None
    assert rates(run(small.stages(), flow, store), flow) is None


def test_the_vendor_form() -> None:
    found = rates(outcome(8.0, 12.0), SHARED)
    assert found is not None
    assert vendor_lines(found) == [
        "[e2e] throughputRate: 100, latency: 10000",
        "[data read] throughputRate: 111.111, moduleLatency: 0.5",
        "[preprocess] throughputRate: 100, moduleLatency: 8",
        "[infer] throughputRate: 100, Interface throughputRate: 166.667, moduleLatency: 12",
        "[post] throughputRate: 13.8889, moduleLatency: 1",
    ]


def test_the_vendor_form_is_read_back(tmp_path: Path) -> None:
    """The seeds' own parser of such files is an importer here."""
    found = rates(outcome(8.0, 12.0), SHARED)
    assert found is not None
    path = tmp_path / "perf_vision_batchsize_8_device_0.txt"
    path.write_text("\n".join(vendor_lines(found)) + "\n")
    records = import_file(path).records
    assert 166.667 in [f.value for r in records for f in r.figures.values()]
    assert {r.subject["batch"] for r in records} == {8}
