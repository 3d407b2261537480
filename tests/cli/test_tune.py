"""The texts of ``assay tune``: what is refused before any model is opened, and what the lines say."""

import pytest

from assay.cli.main import run_cli
from assay.cli.tune import budget_of, lines, tuning_of
from assay.core.errors import BadInput

GIVEN = {"objective": "throughput", "budget": "3m", "batch": None, "threads": None, "streams": None}


def test_budgets():
    assert budget_of("3m") == 180
    assert budget_of("45s") == budget_of("45") == 45
    for text in ("soon", "-3m", "0", "5s", "3 weeks"):
        with pytest.raises(BadInput, match="--budget"):
            budget_of(text)


def test_longer_budgets_measure_longer():
    short, long = (tuning_of({**GIVEN, "budget": b}) for b in ("1m", "10m"))
    assert short.rules.full_s < long.rules.full_s <= 3.0
    assert short.rules.short_s < short.rules.full_s


def test_axes():
    found = tuning_of({**GIVEN, "batch": "8,4", "threads": "1", "streams": "2", "no_graph_options": True})
    assert (found.axes.batches, found.axes.threads, found.axes.streams, found.axes.forms) == ((8, 4), (1,), (2,), False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--objective throughputt", "throughput"),
        ("--objective 'throughput where p99 < 15'", "unit is missing"),
        ("--objective 'throughput where p99 > 15ms'", "limited the other way"),
        ("--budget soon", "--budget soon"),
        ("--budget 1s", "less than 10 s"),
        ("--batch 0", "--batch 0: these are no whole numbers"),
        ("--precision int3", "int3"),
        ("--max-drop lots", "--max-drop 0.5%"),
        ("--engine openvin", "openvino"),
        ("--streams x", "--streams x: these are no whole numbers"),
    ],
)
def test_what_cannot_be_is_refused_at_once(arguments, said, tmp_path, capsys, monkeypatch):
    import shlex

    monkeypatch.chdir(tmp_path)
    assert run_cli(["tune", "timm:resnet18", *shlex.split(arguments)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("records.jsonl"))


def test_the_lines_name_the_setting_and_what_was_left_out():
    tuned = {
        "tried": 12, "configurations": 144, "trials": 17, "spent_s": 61.0, "budget_s": 180.0, "complete": True,
        "gains": {"torch_compile": None, "eager": {"value": 13.8, "unit": "ratio", "low": 13.0, "high": 14.5}},
        "left": [{"family": "torch fp32", "points": 17, "reason": "after scouting its best had 9, the leader 120"}],
        "refused": ["torch bf16, batch 8: numeric: wrong"],
    }  # fmt: skip
    best = {
        "engine": "openvino", "precision": "bf16", "batch": 8,
        "options": {"threads": 2, "streams": 2, "instances": 1, "buckets": [8], "provider_options": {"K": "v"}},
    }  # fmt: skip
    text = "\n".join(lines(tuned, best))
    assert "12 of 144 configurations tried in 17 trials, 61 s of 3 min 0 s" in text
    assert "openvino bf16, batch 8, 2 threads, 2 streams, static shapes, K=v" in text
    assert "gain over torch.compile: not measured" in text
    assert "gain over eager: 13.8×" in text
    assert "not tried: 17 of torch fp32: after scouting" in text
    assert "may not win: torch bf16" in text
    assert "chosen" not in "\n".join(lines(tuned, None))
