"""Rules between devices: read from TOML, judged on imported figures, and what their answers hide."""

from pathlib import Path

import pytest

from assay.core.errors import BadInput
from assay.judge.device_rules import judge_devices
from assay.judge.policy import Policy
from assay.judge.ratio_policy import SpeedRatio

from .test_compare_runs import imported

POLICIES = Path(__file__).parents[2] / "policies"
RATES = {
    "310": {1: 1055.488, 4: 2320.02, 8: 2692.828, 16: 2858.056, 32: 2732.352},
    "310P": {1: 624.486, 4: 2228.9, 8: 3495.03, 16: 3907.39, 32: 3655.45},
    "T4": {1: 231.086, 4: 736.148, 8: 1218.104, 16: 1465.5088, 32: 1889.4176},
}


@pytest.fixture
def cases():
    return [
        imported(device, batch, rate, **({"how": "extrapolated", "scope": "card"} if device == "310" else {}))
        for device, rates in RATES.items()
        for batch, rate in rates.items()
    ]


def rules(name):
    found = Policy.load(POLICIES / name).speed_ratio
    assert found
    return found


def test_the_best_batches_pass_and_the_verdict_says_what_that_hides(cases):
    verdict = judge_devices(cases, rules("310p-best-batch.toml"))
    assert verdict.passed
    first, second = verdict.reasons
    assert "1.367×" in first.text and "2.068×" in second.text
    assert "310P is slower than 310 at batch 1 (0.5917×), batch 4 (0.9607×)" in first.text
    assert "extrapolated" in first.text and "batch 16" in first.text and "batch 32" in second.text
    assert "hides" not in second.text


def test_every_batch_fails_where_the_best_one_passed(cases):
    verdict = judge_devices(cases, rules("310p-every-batch.toml"))
    assert [r.state for r in verdict.reasons] == ["failed", "passed"]
    assert "batch 1 0.5917×, batch 4 0.9607×" in verdict.reasons[0].text


def test_a_device_without_figures_leaves_the_rule_not_shown(cases):
    without = [c for c in cases if c.device != "310P"]
    verdict = judge_devices(without, rules("310p-best-batch.toml"))
    assert verdict.state == "not_shown"
    assert all("there are no figures of 310P" in r.text for r in verdict.reasons)
    assert judge_devices([], rules("310p-best-batch.toml")).state == "not_shown"


def test_a_model_on_one_device_alone_is_listed_not_judged(cases):
    other = imported("T4", 1, 99.0, model="another")
    verdict = judge_devices([*cases, other], rules("310p-best-batch.toml"))
    assert verdict.passed and "another" in verdict.not_checked[0]


def test_a_table_without_a_log_never_passes_a_rule():
    claims = [imported(d, b, v, evidence="table") for d, v in (("310", 10.0), ("310P", 20.0)) for b in (1, 8)]
    for batch in ("best", "every", 8):
        rule = SpeedRatio("r", "310P", "310", 1.2, batch)
        verdict = judge_devices(claims, [rule])
        assert verdict.state == "not_shown" and "without a log" in verdict.reasons[0].text
    assert judge_devices(claims, [SpeedRatio("r", "310P", "310", 3.0)]).state == "failed"


def test_one_die_is_not_a_card():
    figures = [imported("310", 1, 100.0, scope="die"), imported("310", 1, 400.0, how="extrapolated", scope="card")]
    verdict = judge_devices([*figures, imported("310P", 1, 300.0)], [SpeedRatio("r", "310P", "310", 1.0)])
    assert verdict.state == "failed" and "0.75×" in verdict.reasons[0].text


def test_unlike_conditions_are_not_judged_unless_the_rule_allows_them():
    pair = [imported("310", 1, 100.0), imported("310P", 1, 300.0, basis="end to end")]
    assert judge_devices(pair, [SpeedRatio("r", "310P", "310", 1.2)]).state == "not_shown"
    allowed = judge_devices(pair, [SpeedRatio("r", "310P", "310", 1.2, allow=("basis",))])
    assert allowed.passed and "allowed: basis" in allowed.reasons[0].text


def test_by_interval_a_figure_without_one_is_not_shown(cases):
    rule = SpeedRatio("r", "310P", "310", 1.2, judge_by="interval")
    assert judge_devices(cases, [rule]).state == "not_shown"


def test_devices_whose_names_have_blanks_and_whose_engines_differ():
    pair = [imported("NVIDIA L4", 1, 100.0, engine="tensorrt"), imported("Ascend 310P", 1, 300.0)]
    verdict = judge_devices(pair, [SpeedRatio("r", "Ascend 310P", "NVIDIA L4", 1.2, 1)])
    assert verdict.passed and "3×" in verdict.reasons[0].text


def test_every_batch_size_of_a_rule_that_lets_them_differ_shows_nothing(cases):
    verdict = judge_devices(cases, [SpeedRatio("r", "310P", "310", 1.2, "every", allow=("batch",))])
    assert verdict.state == "not_shown" and "no batch size stands for itself" in verdict.reasons[0].text


def test_at_a_batch_size_of_its_own(cases):
    assert judge_devices(cases, [SpeedRatio("r", "310P", "310", 1.2, 8)]).passed
    assert judge_devices(cases, [SpeedRatio("r", "310P", "310", 1.2, 1)]).state == "failed"
    assert judge_devices(cases, [SpeedRatio("r", "310P", "310", 1.2, 128)]).state == "not_shown"


def test_no_rule_is_an_error(cases):
    with pytest.raises(BadInput, match="no rule"):
        judge_devices(cases, ())


@pytest.mark.parametrize("path", sorted(POLICIES.glob("*.toml")), ids=lambda p: p.stem)
def test_every_shipped_policy_is_read(path):
    assert Policy.load(path).source == str(path)


RULE = '[[speed_ratio]]\ndevice = "310P"\nover = "310"\nat_least = 1.2\n'


def test_a_rule_names_itself():
    (rule,) = Policy.parse(RULE, "p.toml").speed_ratio
    assert rule == SpeedRatio("310P ≥ 1.2 × 310", "310P", "310", 1.2)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (RULE.replace("over", "ovr"), "ovr"),
        (RULE.replace('device = "310P"\n', ""), "needs device"),
        (RULE.replace('"310P"', '"310"'), "another device"),
        (RULE.replace('"310P"', "310"), "device must be"),
        (RULE.replace("at_least = 1.2\n", ""), "needs at_least"),
        (RULE.replace("1.2", '"fast"'), "at_least"),
        (RULE + 'batch = "evry"', "batch"),
        (RULE + 'judge_by = "eye"', "judge_by"),
        (RULE + 'allow = "basis"', "allow"),
        (RULE + 'allow = ["colour"]', "allow"),
        ("[speed_ratio]\ndevice = 'a'", "list of tables"),
        ("speed_ratio = [1]", "table"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_key(text, match):
    with pytest.raises(BadInput, match=match) as caught:
        Policy.parse(text, "p.toml")
    assert "p.toml" in caught.value.message
