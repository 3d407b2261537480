from dataclasses import dataclass, field

import numpy as np
import pytest

from assay.core.compare import compare
from assay.judge.classes import EQUAL, SAFETY, SUSPICIOUS, WITHIN_COST, WRONG, classify
from assay.judge.tolerance import elementwise, tolerance

ROWS = np.random.default_rng(0).normal(size=(64, 10))
NOISE = np.random.default_rng(1).normal(size=(64, 10))


@dataclass(frozen=True)
class Result:
    outputs: dict
    failures: tuple = ()


@dataclass(frozen=True)
class Cost:
    floor: float
    floor_row: float
    format: float
    format_row: float


@dataclass(frozen=True)
class Split:
    precision: str
    candidate: dict
    costs: dict
    missing: str | None = None
    quantised: object = None


@dataclass(frozen=True)
class Case:
    error: float
    precision: str = "bf16"
    cost: float = 1e-2
    rows: tuple = ()
    extra: dict = field(default_factory=dict)

    def judged(self):
        noise = NOISE * self.error
        for index, size in self.rows:
            noise[index] += size
        against_reference = compare({"y": ROWS}, {"y": ROWS + noise})
        cost = Cost(1e-7, 2e-7, self.cost, 1.5 * self.cost)
        split = Split(self.precision, {4: against_reference}, {"y": cost}, **self.extra)
        return classify(Result({4: against_reference}), tolerance(self.precision, 10), split)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (Case(1e-2), WITHIN_COST),
        (Case(2.5e-2), WITHIN_COST),
        (Case(5e-2), SUSPICIOUS),
        (Case(0.2), WRONG),
        (Case(1e-6, "fp32", 3e-7), WITHIN_COST),
        (Case(5e-6, "fp32", 3e-7), SUSPICIOUS),
        (Case(1e-3, "fp32", 3e-7), WRONG),
        (Case(0.6, "int8", 0.3), WRONG),
    ],
)
def test_the_error_beyond_what_the_format_costs_decides(case, name):
    judged = case.judged()
    assert judged.name == name, judged.reason.text
    assert judged.accepted == (judged.reason.state == "passed") == (name == WITHIN_COST)
    (share,) = judged.shares
    assert share.due == pytest.approx(min(0.5, SAFETY[case.precision] * case.cost))
    assert judged.detectable == share.due
    assert share.rest == (0.0 if name == WITHIN_COST else pytest.approx((share.error**2 - share.due**2) ** 0.5))
    assert "float64 truth" in judged.reason.text


def test_one_bad_row_does_not_hide_among_good_ones():
    judged = Case(1e-2, rows=((17, 0.5),)).judged()
    assert judged.name != WITHIN_COST
    assert "worst row 17" in judged.reason.text


def test_nan_is_wrong_and_the_row_is_named():
    damaged = ROWS.copy()
    damaged[41, 3] = np.nan
    judged = classify(Result({8: compare({"y": ROWS}, {"y": damaged})}), tolerance("bf16", 3))
    assert judged.name == WRONG
    assert judged.reason.text.endswith("in row 41")


def test_equal_means_every_value():
    assert classify(Result({1: compare({"y": ROWS}, {"y": ROWS.copy()})}), tolerance("fp32", 1)).name == EQUAL


@pytest.mark.parametrize(
    "result", [Result({}), Result({1: {}}), Result({1: compare({"y": ROWS}, {"y": ROWS})}, ("no",))]
)
def test_nothing_passes_vacuously(result):
    judged = classify(result, tolerance("fp32", 1))
    assert (judged.name, judged.reason.state) == (WRONG, "failed")


def test_the_users_own_limits_decide_alone():
    found = Result({1: compare({"y": ROWS}, {"y": ROWS + 1e-3})})
    assert classify(found, elementwise(1e-2, 0.0)).name == WITHIN_COST
    assert classify(found, elementwise(1e-4, 0.0)).name == WRONG


def test_without_a_cost_the_bound_stands_in_and_says_so():
    limit = tolerance("bf16", 10)
    near = compare({"y": ROWS}, {"y": ROWS * (1 + limit.max_relative_rms / 2)})
    far = compare({"y": ROWS}, {"y": ROWS * (1 + limit.max_relative_rms * 2)})
    assert classify(Result({1: near}), limit).name == WITHIN_COST
    judged = classify(Result({1: far}), limit, Split("bf16", {}, {}, "no exact run"))
    assert judged.name == SUSPICIOUS
    assert "no exact run" in judged.reason.text
    assert judged.detectable == limit.max_relative_rms


@dataclass(frozen=True)
class PartCost:
    rounding: float
    rounding_row: float
    cutting: float = 0.0
    cutting_row: float = 0.0


@dataclass(frozen=True)
class Quantised:
    engine: dict
    engine_costs: dict
    file: dict
    file_costs: dict
    narrow: tuple = ()


def judged_parts(engine_error, file_error, narrow=(), cutting=0.0):
    engine, file = (compare({"y": ROWS}, {"y": ROWS + NOISE * e}) for e in (engine_error, file_error))
    found = Quantised(
        {4: engine}, {"y": PartCost(1e-3, 2e-3)}, file, {"y": PartCost(1e-2, 2e-2, cutting, 2 * cutting)}, narrow
    )
    split = Split("int8", {4: file}, {}, quantised=found)
    return classify(Result({4: file}), tolerance("int8", 10), split)


def test_a_quantised_file_and_its_engine_have_limits_of_their_own():
    healthy = judged_parts(2e-3, 2e-2)
    assert healthy.name == WITHIN_COST, healthy.reason.text
    assert {s.part for s in healthy.shares} == {"engine", "file"}
    assert healthy.detectable == pytest.approx(max(s.due for s in healthy.shares))
    astray = judged_parts(2e-2, 2e-2)
    assert astray.name == WRONG
    assert "the engine's result" in astray.reason.text
    rounded = judged_parts(1e-3, 0.2)
    assert rounded.name == WRONG
    assert "the quantised file lies 0.19" in rounded.reason.text


def test_what_healthy_ranges_cut_off_is_due_and_a_narrow_quantiser_is_named():
    assert judged_parts(1e-3, 0.1, cutting=0.1).name == WITHIN_COST
    bad = judged_parts(1e-3, 0.1, narrow=("conv1 holds 1/8 of what these samples reach and cuts off 60.0%",))
    assert not bad.accepted
    assert "conv1 holds 1/8" in bad.reason.text


def test_an_output_whose_engine_was_not_looked_at_is_held_to_the_bound():
    apart = Quantised({}, {"y": PartCost(1e-3, 2e-3)}, {}, {})
    result = Result({4: compare({"y": ROWS}, {"y": ROWS + 1e-3 * NOISE})})
    judged = classify(result, tolerance("int8", 3), Split("int8", {4: {}}, {}, quantised=apart))
    assert judged.name == WITHIN_COST and [s.part for s in judged.shares] == ["whole"]
