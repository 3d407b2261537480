"""The texts of ``assay bench``: what becomes which load, and what is refused before anything is opened."""

import pytest

from assay.cli.bench_load import counts, press_of
from assay.cli.main import run_cli
from assay.core.errors import BadInput

GIVEN = {
    "scenario": "clients", "clients": None, "total": None, "request_batch": None, "threads_per_client": False,
    "rate": None, "arrivals": None, "find_rate": False, "p99": None, "max_batch": None, "delay": None,
    "instances": None, "policy": None, "duration": None, "seed": 0,
}  # fmt: skip


def press(**values):
    return press_of({**GIVEN, **values})


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("10", (10,)),
        ("1,2,8", (1, 2, 8)),
        ("1:32:x2", (1, 2, 4, 8, 16, 32)),
        ("1:10:4", (1, 5, 9)),
        ("3:5", (3, 4, 5)),
        ("3:20:x3", (3, 9)),
    ],
)
def test_ranges(text, numbers):
    assert counts(text, "clients", "--clients 10") == numbers


@pytest.mark.parametrize("text", ["0", "-1", "x", "1:", "4:1", "1:8:x1", "1:8:0", "1:8:-2", "0:8", "1:2:3:4", ""])
def test_no_ranges(text):
    with pytest.raises(BadInput, match="clients"):
        counts(text, "clients", "--clients 10")


def test_defaults_are_torchpipes():
    (load,) = press().loads
    assert (load.clients, load.total, load.request_batch, load.threads) == (10, 10_000, 1, False)
    assert press_of({**GIVEN, "scenario": "latency"}) is None


def test_the_batcher():
    through = press(max_batch=4, delay="5ms", instances=2).through
    assert (through.max_batch, through.delay_s, through.instances) == (4, 0.005, 2)
    assert through.settings(1).policy == "delay"
    assert press(max_batch=4).through.settings(1).policy == "adaptive"


def test_a_trace_file(tmp_path):
    file = tmp_path / "trace.txt"
    file.write_text("10.0\n10.5\n12.0\n")
    found = press(scenario="server", arrivals=str(file))
    assert found.trace_s == (0.0, 0.5, 2.0)
    assert (found.loads[0].kind, found.loads[0].rate, found.loads[0].duration_s) == ("trace", 1.0, 2.0)
    file.write_text("[0, 1, 0.5]")
    with pytest.raises(BadInput, match="earlier than the one before"):
        press(scenario="server", arrivals=str(file))
    file.write_bytes(b"\xff\xfe\x00 a model, say")
    with pytest.raises(BadInput, match="does not hold arrival times"):
        press(scenario="server", arrivals=str(file))
    file.write_text("soon")
    with pytest.raises(BadInput, match="does not hold arrival times"):
        press(scenario="server", arrivals=str(file))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--scenario clients --clients 0", "'0' is not a list of clients"),
        ("--scenario clients --clients 10 --total 9", "do not give each of 10 clients one"),
        ("--scenario clients --total -1", "do not give each"),
        ("--scenario clients --delay 2ms", "belong to the batcher"),
        ("--scenario clients --max-batch 0", "max_batch must be at least 1"),
        ("--scenario clients --max-batch 4 --instances 0", "instances must be at least 1"),
        ("--scenario clients --max-batch 4 --policy fast", "no batching policy named 'fast'"),
        ("--scenario clients --max-batch 4 --delay soon", "'soon' is not a number, or a number with a unit"),
        ("--scenario clients --batch 4", "--batch means nothing in scenario clients"),
        ("--batch 1:999999999", "is not a range of batch sizes"),
        ("--scenario clients --clients 1:999999999:7", "is not a range of clients"),
        ("--scenario server", "arrivals need a rate"),
        ("--scenario server --rate 0", "rate above zero, not 0"),
        ("--scenario server --rate -3", "rate above zero, not -3"),
        ("--scenario server --rate nan", "rate above zero, not nan"),
        ("--scenario server --rate 5 --duration 0", "longer than 0 s"),
        ("--scenario server --rate 5 --arrivals sometimes", "neither a kind of arrivals nor a file"),
        ("--scenario server --find-rate", "a rate is searched for a limit"),
        ("--scenario server --find-rate --p99 0ms", "no limit to hold"),
        ("--scenario server --find-rate --p99 5ms --rate 3", "chooses the rate itself"),
        ("--scenario server --rate 5 --p99 5ms", "is what --find-rate holds"),
        ("--rate 5", "--rate means nothing in scenario latency"),
        ("--loadgen --scenario clients", "LoadGen has no scenario like clients"),
        ("--loadgen --scenario server", "arrivals need a rate"),
        ("--loadgen --batch 4", "--batch means nothing to LoadGen"),
        ("--format torchpipe", "torchpipe's table is about clients"),
        ("--scenario offline --batch 0", "is not a list of batch sizes"),
        ("--against-engine openvino", "is about the other model"),
        ("--against b.onnx --noise-floor", "two different measurements"),
        ("--against b.onnx --against-precision fp23", "no precision named 'fp23'"),
        ("--against b.onnx --scenario offline", "--against means nothing in scenario offline"),
        ("other.onnx --against b.onnx", "compares one MODEL with another one"),
    ],
)
def test_refused_before_anything_is_opened(arguments, said, capsys):
    assert run_cli(["bench", "this-file-is-never-looked-for.onnx", *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "this-file" not in error.replace("assay bench this-file-is-never-looked-for.onnx", "")
    assert "Traceback" not in error
