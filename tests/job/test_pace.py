"""A budget kept, by a clock that the tests move."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from tests.job.hand import Hand

from assay.job.pace import Pace
from assay.job.request import Effort
from assay.job.stages.in_time import SHARES, in_time, one_of_each_first, time_limit, why_not


def test_what_would_end_too_late_is_cut_and_said(now: Hand) -> None:
    pace = Pace(ends_s=130.0)
    assert pace.fits("a build", 30.0) and pace.cut == []
    assert not pace.fits("a build", 30.5)
    assert not pace.fits("a short one", 11.0, until_s=110.0)
    assert pace.cut[0].startswith("a build: about 30.5 s were needed, 30 s of the time")
    assert pace.cut[1].startswith("a short one: about 11 s were needed, 10 s")
    now.at_s = 131.0
    assert pace.left() == -1.0 and not pace.fits("anything", 0.0)


def test_the_last_time_is_what_is_known(now: Hand) -> None:
    pace = Pace()
    assert (pace.known("verify"), pace.known("verify", 7.0)) == (0.0, 7.0)
    for seconds in (9.0, 4.0):
        with pace.timed("verify"):
            now.at_s += seconds
    assert pace.known("verify") == 4.0
    pace.learn("open a", 2.0)
    pace.learn("open b", 3.0)
    assert pace.longest("open ") == 3.0 and pace.longest("row ", 1.5) == 1.5
    with pytest.raises(ZeroDivisionError), pace.timed("verify"):
        now.at_s += 100.0
        raise ZeroDivisionError
    assert pace.known("verify") == 4.0


def test_without_a_budget_everything_fits(now: Hand) -> None:
    pace = Pace()
    pace.share_out()
    assert pace.at(0.5) == math.inf and pace.fits("anything", 1e9, pace.at(0.1))


def budgeted(now: Hand, budget_s: float = 100.0) -> Any:
    pace = Pace(now.at_s + budget_s)
    request = SimpleNamespace(effort=Effort(budget_s=budget_s, build_timeout_s=900.0))
    return SimpleNamespace(pace=pace, request=request, out_of_time=lambda: pace.left() < 0)


def test_stages_before_the_measurement_leave_it_its_share(now: Hand) -> None:
    """A loaded machine: the export took 40 s of 100, every stage takes 9 s; each gets as far as its share."""
    ctx = budgeted(now)
    now.at_s += 40.0
    ctx.pace.share_out()
    begun = dict.fromkeys(SHARES, 0)
    for stage in SHARES:
        for number in range(8):
            if in_time(ctx, f"candidate {number}", stage):
                with ctx.pace.timed(stage):
                    now.at_s += 9.0
                begun[stage] += 1
    assert all(count >= 1 for count in begun.values()), begun
    assert begun["measure"] >= 1 and begun["build"] == 2
    assert ctx.pace.left() >= 0
    assert len(ctx.pace.cut) == 32 - sum(begun.values())


def test_the_first_of_a_stage_waits_for_the_end_only(now: Hand) -> None:
    ctx = budgeted(now)
    ctx.pace.share_out()
    now.at_s += 99.0
    assert in_time(ctx, "the first", "build")
    ctx.pace.learn("build", 5.0)
    assert not in_time(ctx, "the second", "build")
    assert "takes about 5 s" in why_not(ctx, "build")
    now.at_s += 2.0
    assert not in_time(ctx, "the first", "verify")
    assert "budget of 100 s was spent before this verify" in why_not(ctx, "verify")


def test_one_of_each_engine_first_where_some_may_be_left_out(now: Hand) -> None:
    found = [("torch", 1), ("torch", 2), ("onnxruntime", 3), ("openvino", 4), ("openvino", 5), ("openvino", 6)]
    assert one_of_each_first(budgeted(now), found) == [1, 3, 4, 2, 5, 6]
    assert one_of_each_first(SimpleNamespace(pace=Pace()), found) == [1, 2, 3, 4, 5, 6]


def test_a_child_gets_a_part_of_what_is_left(now: Hand) -> None:
    ctx = budgeted(now)
    assert time_limit(ctx, 0.5) == 50.0
    now.at_s += 99.0
    assert time_limit(ctx, 0.5) == 1.0
    ctx.pace = Pace()
    assert time_limit(ctx, 0.5) == 900.0
