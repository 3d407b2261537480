"""``assay bench`` below the command line: real child processes, ONNX Runtime, a model of one MatMul."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.cli.main import run_cli
from assay.core.errors import BadInput, NotAvailable
from assay.core.record import Record, read_records
from assay.core.workload import Arrivals, Clients
from assay.job.bench.load_trial import Through
from assay.job.bench.loadgen import loadgen_settings
from assay.job.bench.many import ThroughputTable, bench_many, expand, throughput
from assay.job.bench.one import NO_RATE, Bench, Press, bench_one
from assay.job.bench.pair import Against
from assay.job.folder import RunFolder
from assay.job.progress import Silent
from assay.measure.raw import load_raw
from assay.measure.server import Limit
from assay.sources import SourceOptions


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weights],
    )
    path = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


class Notes(Silent):
    def __init__(self):
        self.said = []

    def done(self, text):
        self.said.append(text)


def source():
    return SourceOptions(out_dir=Path())


def clients(*counts, total=300, **more):
    return tuple(Clients(n, total, warmup_s=0.05, **more) for n in counts)


def test_clients_direct_and_through_the_batcher(model, tmp_path):
    press = Press(clients(1, 4), Through(max_batch=4, delay_s=0.001))
    found = bench_one(Bench(str(model), scenario="clients", press=press), source(), Silent(), tmp_path)
    assert [r.status for r in found] == ["ok", "ok"]
    assert [r.conditions["clients"] for r in found] == [1, 4]
    first = found[0]
    assert (first.conditions["max_batch"], first.conditions["policy"]) == (4, "delay")
    assert first.details["torchpipe"]["total_number"] == 300
    assert first.details["opset"] == 17
    assert first.details["inputs"] == ["x:batchx16:float32"]
    assert first.figures["harness.request"].value > 0
    assert first.figures["memory.peak"].value > 0
    assert "ran on the processor" in first.figures["gpu.usage"].reason
    values, warmup = load_raw(tmp_path, first.raw)
    assert len(values) == len(warmup) >= 300
    assert json.loads(json.dumps(first.to_json()))["conditions"]["total"] == 300


def test_server_and_the_highest_rate(model):
    asked = Bench(str(model), scenario="server", press=Press((Arrivals(200, 1.0, warmup_s=0.1),)))
    (found,) = bench_one(asked, source(), Silent())
    assert found.status == "ok", found.reason
    assert found.figures["requests.unanswered"].value == 0
    assert found.conditions["arrivals"] == "poisson"
    search = Press((Arrivals(1.0, 0.5, "constant", warmup_s=0.05),), Through(8), Limit(0.1))
    (best,) = bench_one(replace(asked, press=search), source(), Silent())
    assert best.status == "ok", best.reason
    assert best.figures["rate.highest"].value > 100
    assert best.details["within_limit"] >= 0.99
    assert best.details["confirmed"][-1]["rate"] == best.figures["rate.highest"].value
    impossible = replace(asked, press=replace(search, find=Limit(1e-7)))
    (none,) = bench_one(impossible, source(), Silent())
    assert (none.status, none.label) == ("ok", NO_RATE)
    answer = none.figures["rate.highest"]
    assert answer.value is None and "no rate holds the limit" in answer.reason
    assert none.details["search"] and not any(trial["holds"] for trial in none.details["search"])


def test_a_trace_is_replayed(model):
    times = tuple(float(t) for t in np.linspace(0, 0.5, 100) ** 1.5)
    load = Arrivals(99 / times[-1], times[-1], "trace", warmup_s=0.0)
    (found,) = bench_one(Bench(str(model), scenario="server", press=Press((load,), trace_s=times)), source(), Silent())
    assert found.status == "ok", found.reason
    assert found.figures["latency.p50"].n <= 100


def test_the_noise_floor(model):
    (found,) = bench_one(Bench(str(model), batches=(2,), noise_floor=True), source(), Silent())
    ratio = found.figures["paired.ratio"]
    assert ratio.low < ratio.value < ratio.high
    assert found.conditions["order"] == "A B B A"
    assert found.label in ("same", "different")


def test_one_model_against_another(model, tmp_path):
    asked = Bench(str(model), batches=(1, 4), against=Against(str(model), "openvino", max_s=1.0))
    found = bench_one(asked, source(), Silent(), tmp_path)
    assert [r.conditions["batch"] for r in found] == [1, 4]
    for record in found:
        ratio = record.figures["paired.ratio"]
        assert ratio.low < ratio.value < ratio.high
        assert (record.subject["engine"], record.details["against"]["engine"]) == ("onnxruntime", "openvino")
        assert record.conditions["order"] == "A B B A"
        assert len(record.details["log_ratios"]) == record.details["rounds"] >= 6
        with np.load(tmp_path / record.raw.path) as kept:
            assert len(kept["values"]) + len(kept["against"]) == record.details["calls"]
            assert np.exp(np.mean(kept["quads"])) == pytest.approx(ratio.value)


def test_models_with_other_inputs_are_not_timed(model, tmp_path):
    import onnx

    other = onnx.load(str(model))
    other.graph.input[0].name = other.graph.node[0].input[0] = "z"
    onnx.save(other, tmp_path / "other.onnx")
    asked = Bench(str(model), against=Against(str(tmp_path / "other.onnx")))
    with pytest.raises(BadInput, match="do not take the same inputs"):
        bench_one(asked, source(), Silent())


def test_loadgen(model):
    pytest.importorskip("mlperf_loadgen")
    asked = Bench(str(model), loadgen=loadgen_settings("latency", 0.3, None))
    (found,) = bench_one(asked, source(), Silent())
    assert found.conditions["scenario"] == "loadgen-SingleStream"
    assert found.figures["latency.p50"].value > 0
    assert found.subject["engine"] == "onnxruntime"


def test_an_offline_curve(model, tmp_path):
    asked = Bench(str(model), scenario="offline", batches=(1, 2, 4), duration_s=0.3)
    found = bench_one(asked, source(), Silent(), tmp_path)
    assert [r.conditions["batch"] for r in found] == [1, 2, 4]
    assert all(r.figures["throughput"].value > 0 for r in found)
    for record in found:
        load_raw(tmp_path, record.raw)


def test_many_models_one_table_resumed(model, tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes())
    specs = [str(model), str(other), str(tmp_path / "missing.onnx")]
    asked = Bench("", scenario="clients", press=Press(clients(2)))
    out, notes = tmp_path / "out", Notes()
    first = bench_many(specs, asked, source(), notes, out)
    assert [r.status for r in first] == ["ok", "ok", "failed"]
    assert "no file" in first[2].reason
    assert not any("before" in text for text in notes.said)
    for record in first[:2]:
        load_raw(out, record.raw)
    again = Notes()
    second = bench_many(specs, asked, source(), again, out)
    assert [text == "measured before" for text in again.said] == [True, True, False]
    assert [r.id for r in second[:2]] == [r.id for r in first[:2]]
    assert len(read_records(out / "records.jsonl")[0]) == 4
    os.utime(other, (1, 1))
    changed = Notes()
    bench_many(specs[:2], asked, source(), changed, out)
    assert [text == "measured before" for text in changed.said] == [True, False]
    table = ThroughputTable(tuple(second), "9.9")
    assert set(table.rows) == {"small", "other"}
    assert table.to_markdown().startswith("assay 9.9\n")
    assert "missing.onnx has no figures" in str(table)


def test_a_folder_of_speeds_alone_is_reported_and_a_run_that_broke_off_is_not(model, tmp_path, capsys):
    """Nothing judges what ``bench --out`` wrote, so that there is no verdict says nothing about how it ended."""
    out = tmp_path / "out"
    bench_many([str(model)], Bench("", batches=(1,), duration_s=0.05), source(), Notes(), out)
    assert run_cli(["report", str(out)]) == 0
    assert "small" in (out / "report.md").read_text()
    records = read_records(out / "records.jsonl")[0]
    with RunFolder(tmp_path / "broken") as folder:
        for record in (*records, Record("build", {"model": "small"}, "skipped", reason="not here")):
            folder.append(record)
    capsys.readouterr()
    assert run_cli(["report", str(tmp_path / "broken")]) == 2
    assert "did not finish" in capsys.readouterr().err


def test_throughput_in_python(model):
    table = throughput(str(model), clients=2, total=200, max_batch=2, delay="1ms", threads_per_client=True)
    row = table.rows["small"]
    assert (row["num_clients"], row["total_number"]) == (2, 200)
    assert "| throughput::qps |" in table.to_markdown()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"clients": 0}, "at least one client"),
        ({"clients": 10, "total": 3}, "do not give each"),
        ({"delay": 0.01}, "belong to the batcher"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
        ({"speed": "high"}, "no setting speed"),
    ],
)
def test_what_cannot_be_is_refused_before_any_load(arguments, said):
    with pytest.raises(BadInput, match=said):
        throughput("nothing-is-opened.onnx", **arguments)


def test_a_lone_model_that_fails_is_an_error():
    with pytest.raises(BadInput, match=r"no model could be measured: nothing\.onnx: there is no file"):
        throughput("nothing.onnx", clients=1, total=10)


def test_patterns():
    assert expand(["a.onnx", "b.onnx", "a.onnx"]) == ["a.onnx", "b.onnx"]
    from assay.sources.timm import import_timm

    try:
        import_timm()
    except NotAvailable as error:
        pytest.skip(error.message)
    assert "timm:convnextv2_atto" in expand(["timm:convnextv2_*"])
    with pytest.raises(BadInput, match="no model name matches"):
        expand(["timm:nothing_like_this_*"])
    with pytest.raises(BadInput, match="no model to measure"):
        expand([])
