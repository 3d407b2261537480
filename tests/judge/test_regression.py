"""A regression is shown by intervals; what cannot be compared is not passed over."""

from dataclasses import replace

import pytest

from assay.core.record import Figure, Record, withheld
from assay.judge.cases import case_of
from assay.judge.compare_runs import Asked, compare
from assay.judge.regression import Drop, judge_regression


def case(run, rate, width=0.01, engine="openvino", **conditions):
    ends = (rate * (1 - width), rate * (1 + width)) if width is not None else (None, None)
    figure = Figure(rate, "samples/s", *ends, 0.95, 500)
    conditions = {"scenario": "offline", "batch": 8, "data": "digits", **conditions}
    record = Record(
        "measure", {"model": "net", "engine": engine}, figures={"throughput": figure}, conditions=conditions
    )
    return case_of(run, record, "throughput", "")


def judged(*cases, drops=(), margin=0.05):
    return judge_regression(compare(cases, Asked(columns=("run",))), drops, margin)


@pytest.mark.parametrize(
    ("rate", "width", "state"),
    [
        (100.0, 0.01, "passed"),
        (80.0, 0.01, "failed"),
        (97.0, 0.001, "passed"),
        (90.0, 0.2, "passed"),
        (200.0, 0.01, "passed"),
    ],
)
def test_only_an_interval_wholly_below_the_margin_is_a_regression(rate, width, state):
    verdict = judged(case("base", 100.0), case("new", rate, width))
    assert verdict.state == state
    assert "×" in verdict.reasons[0].text and "limit 0.95" in verdict.reasons[0].text


def test_without_intervals_the_point_decides_and_that_is_said():
    verdict = judged(case("base", 100.0, None), case("new", 90.0, None))
    assert verdict.state == "failed" and "no interval" in verdict.reasons[0].text


def test_what_the_new_run_lost_or_measured_otherwise_is_not_shown():
    lost = judged(case("base", 100.0), case("base", 50.0, engine="torch"), case("new", 100.0))
    assert lost.state == "not_shown" and "does not have it" in lost.reasons[1].text
    unlike = judged(case("base", 100.0), case("new", 100.0, data="imagenet"))
    assert unlike.state == "not_shown" and "imagenet" in unlike.reasons[0].text


def test_what_only_the_new_run_has_is_listed():
    verdict = judged(case("base", 100.0), case("new", 100.0), case("new", 50.0, engine="torch"))
    assert verdict.passed
    assert any("the base has no such configuration" in text for text in verdict.not_checked)


def test_nothing_in_common_never_passes():
    assert judged(case("base", 100.0), case("new", 100.0, batch=1)).state == "not_shown"


@pytest.mark.parametrize(
    ("figure", "state"),
    [
        (Figure(0.02, "fraction", 0.01, 0.03), "failed"),
        (Figure(0.02, "fraction", -0.01, 0.05), "passed"),
        (Figure(-0.02, "fraction", -0.03, -0.01), "passed"),
        (Figure(0.001, "fraction"), "failed"),
        (withheld("fraction", "other samples"), "not_shown"),
    ],
)
def test_a_paired_drop_counts_once_its_interval_lies_above_zero(figure, state):
    verdict = judged(case("base", 100.0), case("new", 100.0), drops=[Drop("openvino fp32", figure)])
    assert verdict.state == state


def test_a_busy_machine_is_named_beside_the_figure():
    slow = case("new", 50.0)
    slow = replace(slow, record=replace(slow.record, warnings=("noisy neighbours: 1.3 of 2 cores",), label="drifting"))
    (reason,) = judged(case("base", 100.0), slow).reasons
    assert reason.state == "failed" and "drifting, noisy neighbours" in reason.text


def test_a_base_without_a_figure_is_listed_with_the_reason():
    nothing = replace(case("base", 50.0, engine="torch"), figure=withheld("samples/s", "numerics not checked"))
    verdict = judged(case("base", 100.0), nothing, case("new", 100.0), case("new", 50.0, engine="torch"))
    assert verdict.passed and len(verdict.reasons) == 1
    assert any("torch, batch 8: the base has no figure: numerics not checked" in t for t in verdict.not_checked)


def test_where_batch_sizes_may_differ_the_best_ones_are_held_together():
    def state(rate):
        cases = [case("base", 100.0), case("base", 90.0, batch=4), case("new", rate), case("new", rate, batch=16)]
        found = compare(cases, Asked(columns=("run",), allow=frozenset({"batch"})))
        return judge_regression(found, ()).state

    assert (state(100.0), state(50.0)) == ("passed", "failed")
