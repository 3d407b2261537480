"""Accuracy rules: read from TOML, judged on imported figures, with the interval of independent proportions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.core.record import Figure, Record
from assay.judge.accuracy_rule import AccuracyDrop
from assay.judge.accuracy_rules import judge_accuracies
from assay.judge.policy import Policy

POLICIES = Path(__file__).parents[2] / "policies"
LOG = {"file": "seed.txt", "sha256": "1" * 64, "lines": [1, 1]}


def scored(device, batch, value, *, model="RegNetY-1.6GF", n=50_000, figure="accuracy.top1", **conditions):
    return Record(
        "evaluate",
        {"model": model, "device": "npu", "device_name": device},
        figures={figure: Figure(value, "fraction", n=n)},
        conditions={"imported": True, "batch": batch, "source_log": LOG, **conditions},
    )


def published(value=0.77862, model="regnety_016", log=LOG, figure="accuracy.top1"):
    return scored(None, None, value, model=model, n=None, figure=figure, published=True, source_log=log)


def speed(device, batch, model="RegNetY-1.6GF"):
    return Record("measure", {"model": model, "device_name": device}, conditions={"batch": batch})


def test_the_seeds_text_gives_the_seeds_verdict_and_what_nobody_scored():
    records = [scored("310", 1, 0.7785), scored("310", 16, 0.7783), scored("310P", 1, 0.7785), published()]
    records += [speed("310", b) for b in (1, 4, 16)]
    verdict = judge_accuracies(records, Policy.load(POLICIES / "published-accuracy.toml").accuracy_drop)
    assert verdict.passed and len(verdict.reasons) == 3
    assert "drop 0.03 points, limit 1.00 points" in verdict.reasons[1].text
    assert "published for regnety_016, the only figure the same document quotes" in verdict.reasons[1].text
    assert verdict.not_checked == ("accuracy.top1 of RegNetY-1.6GF on 310 at batch 4",)


def test_a_policy_file_may_ask_for_both_accuracy_and_speed():
    policy = Policy.load(POLICIES / "310p-acceptance.toml")
    assert [r.device for r in policy.accuracy_drop] == ["310P"] and len(policy.speed_ratio) == 2


@pytest.mark.parametrize(
    ("value", "kind", "state"),
    [(0.77, "absolute", "passed"), (0.7685, "absolute", "failed"), (0.77, "relative", "failed")],
)
def test_points_and_shares_are_not_the_same(value, kind, state):
    rule = AccuracyDrop("r", 0.01, kind=kind)
    (reason,) = judge_accuracies([scored("310", 1, value), published()], [rule]).reasons
    assert reason.state == state


def test_by_interval_a_small_sample_shows_nothing():
    rule = AccuracyDrop("r", 0.01, judge_by="interval")
    states = [
        judge_accuracies([scored("310", 1, 0.78, n=n), published()], [rule]).reasons[0].state
        for n in (100, 50_000, None)
    ]
    assert states == ["not_shown", "passed", "not_shown"]


def test_errors_count_the_other_way_round():
    rule = AccuracyDrop("r", 0.01, over="T4", figure="error@1")
    worse = [scored("310", 1, 0.08, figure="error@1"), scored("T4", 1, 0.06, figure="error@1")]
    (reason,) = judge_accuracies(worse, [rule]).reasons
    assert reason.state == "failed" and "2.00 points" in reason.text and "T4's at batch 1" in reason.text


def test_every_candidate_of_a_run_is_judged_by_itself():
    def own(engine, value):
        subject = {"model": "regnety_016", "candidate": engine, "engine": engine, "precision": "fp32", "device": "cpu"}
        return Record("evaluate", subject, figures={"accuracy.top1": Figure(value, "fraction", n=1000)})

    verdict = judge_accuracies([own("torch", 0.778), own("openvino", 0.7), published()], [AccuracyDrop("r", 0.01)])
    assert [r.state for r in verdict.reasons] == ["passed", "failed"]
    assert "openvino fp32" in verdict.reasons[1].text


def test_which_published_figure_is_meant():
    rule = AccuracyDrop("r", 0.01)
    mine = scored("310", 1, 0.77)
    other = published(0.9, "resnet50")

    def said(*records):
        (reason,) = judge_accuracies([mine, *records], [rule]).reasons
        return reason.state, reason.text

    assert said()[0] == "not_shown" and "import the table" in said()[1]
    assert said(published(), other) == said(other, published())
    assert said(published(), other)[0] == "not_shown" and "of 2 models" in said(published(), other)[1]
    state, text = said(published(0.771, "RegNetY_1.6gf"), other)
    assert state == "passed" and "published for RegNetY_1.6gf:" not in text and "RegNetY_1.6gf" in text
    assert said(published(log={**LOG, "sha256": "2" * 64}))[0] == "not_shown"


def test_nothing_evaluated_is_not_shown():
    verdict = judge_accuracies([published(), speed("310", 1)], [AccuracyDrop("r", 0.01, device="310")])
    assert verdict.state == "not_shown" and "on 310" in verdict.reasons[0].text


def test_the_interval_holds_the_truth():
    """Two independent samples: Newcombe's interval covers the difference in about 95 of 100."""
    rng = np.random.default_rng(0)
    rule, truth, n, held = AccuracyDrop("r", 0.5, over="T4", judge_by="interval"), 0.03, 300, 0
    for _ in range(400):
        a, b = rng.binomial(n, 0.9) / n, rng.binomial(n, 0.9 - truth) / n
        text = judge_accuracies([scored("310", 1, b, n=n), scored("T4", 1, a, n=n)], [rule]).reasons[0].text
        low, high = (float(t.split()[-1]) for t in text.partition("interval ")[2].split(" points")[:2])
        held += low <= 100 * truth <= high
    assert held >= 0.92 * 400


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[accuracy_drop]\nmax_drop = 1", "is a list of tables"),
        ("[[accuracy_drop]]\nover = 'T4'", "needs max_drop"),
        ("[[accuracy_drop]]\nmax_drop = '1 %x'", "max_drop must be"),
        ("[[accuracy_drop]]\nmax_drop = 0.01\nkind = 'paired'", "kind must be one of absolute, relative"),
        ("[[accuracy_drop]]\nmax_drop = 0.01\ndevise = 'T4'", "no key in [accuracy_drop] named 'devise'"),
        ("[[accuracy_drop]]\nmax_drop = 0.01\ndevice = 'T4'\nover = 'T4'", "another device"),
        ("[[accuracy_drop]]\nmax_drop = 0.01\nfigure = 3", "figure must be a text"),
    ],
)
def test_rules_that_are_not_right(text, said):
    with pytest.raises(BadInput) as caught:
        Policy.parse(text, "policy.toml")
    assert said in caught.value.message and "policy.toml" in caught.value.message


def test_a_metric_that_is_no_fraction_keeps_its_unit():
    def psnr(device, value, **conditions):
        record = scored(device, None, value, model="srcnn", n=None, figure="psnr", **conditions)
        return replace(record, figures={"psnr": Figure(value, "dB")})

    rules = Policy.parse('[[accuracy_drop]]\nmax_drop = 0.5\nfigure = "psnr"', "p.toml").accuracy_drop
    (reason,) = judge_accuracies([psnr("310", 30.1), psnr(None, 30.5, published=True)], rules).reasons
    assert reason.state == "passed"
    assert "drop 0.4 dB, limit 0.5 dB: 30.1 dB against 30.5 dB" in reason.text
    assert reason.limit == "every device: psnr within 0.5 of published"
