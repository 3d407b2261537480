"""What counts as a move of a speed: between two runs, twice, and against every run that a bundle holds."""

from __future__ import annotations

import pytest

from assay.core.disturbance import NEIGHBOURS
from assay.core.record import Figure, Record
from assay.job.replay.moves import confirmed, moves


def speed(value: float, spread: float, **more: object) -> Record:
    figure = Figure(value, "samples/s", low=value * (1 - spread), high=value * (1 + spread), confidence=0.95)
    conditions = {"scenario": "offline", "batch": 1}
    return Record("measure", {}, figures={"throughput": figure}, conditions=conditions, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (speed(80, 0.01), "worse"),
        (speed(130, 0.01), "better"),
        (speed(97, 0.001), "within noise"),  # disjoint, yet nearer than the margin
        (speed(80, 0.4), "within noise"),
        (speed(80, 0.01, warnings=(f"{NEIGHBOURS}: other processes used 1.0 of 2 cores",)), "not shown"),
        (speed(80, 0.01, label="stalled"), "not shown"),
        (speed(80, 0.01, label="drifting"), "not shown"),
        (speed(80, 0.01, label="stable"), "worse"),
        (Record("replay", {}, status="failed", reason="it crashed"), "not shown"),
    ],
)
def test_what_counts_as_a_move(now: Record, state: str) -> None:
    (move,) = moves((speed(100, 0.01),), now, 0.05)
    assert move.state == state


def test_what_was_disturbed_or_stalled_then_shows_no_move_either() -> None:
    warning = f"{NEIGHBOURS}: other processes used 1.0 of 2 cores"
    for then in (speed(100, 0.01, warnings=(warning,)), speed(100, 0.01, label="bimodal")):
        (move,) = moves((then,), speed(80, 0.01), 0.05)
        assert move.state == "not shown"


def test_a_stall_hardly_touches_the_median() -> None:
    def median(value: float) -> Record:
        figure = Figure(value, "s", low=0.99 * value, high=1.01 * value, confidence=0.95)
        return Record("measure", {}, figures={"latency.p50": figure}, label="stalled")

    (move,) = moves((median(1.0),), median(1.5), 0.05)
    assert move.state == "worse"


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (80, 82, "worse"),
        (80, 99, "within noise"),
        (80, 130, "within noise"),
        (130, 125, "better"),
        (100, 80, "within noise"),
        (80, None, "not shown"),
    ],
)
def test_a_move_is_told_only_where_two_measurements_show_it(first: float, second: float | None, state: str) -> None:
    then = speed(100, 0.01)
    crashed = Record("replay", {}, status="failed", reason="it crashed")
    (one,) = moves((then,), speed(first, 0.01), 0.05)
    (two,) = moves((then,), crashed if second is None else speed(second, 0.01), 0.05)
    move = confirmed(one, two)
    assert move.state == state
    if state == "worse":
        assert move.ratio == pytest.approx(0.82)
        assert move.low is not None and move.low < 0.79


@pytest.mark.parametrize(
    ("others", "now", "state"),
    [
        ((100,), 80, "worse"),
        ((101, 99), 80, "worse"),
        ((82,), 80, "within noise"),  # one process was as slow then
        ((82,), 130, "better"),
        ((128,), 130, "within noise"),  # one process was as fast then
        ((70,), 80, "within noise"),  # worse than one, better than the other
        ((82,), 101, "within noise"),
    ],
)
def test_a_move_must_hold_against_every_recorded_process(others: tuple[float, ...], now: float, state: str) -> None:
    then = (speed(100, 0.01), *(speed(value, 0.01) for value in others))
    (move,) = moves(then, speed(now, 0.01), 0.05)
    assert move.state == state
    if state in ("worse", "better"):
        nearest = min((now / value for value in (100, *others)), key=lambda ratio: abs(ratio - 1))
        assert move.ratio == pytest.approx(nearest)
        ends = [now * side / (value * (2 - side)) for value in (100, *others) for side in (0.99, 1.01)]
        assert (move.low, move.high) == (pytest.approx(min(ends)), pytest.approx(max(ends)))
        assert f"against each of {len(then)} recorded runs" in move.text
        assert f"against each of {len(then)} recorded runs" in confirmed(move, move).text
    elif now != 101:
        assert "than one recorded run" in move.text


@pytest.mark.parametrize(
    "odd",
    [
        speed(82, 0.01, warnings=(f"{NEIGHBOURS}: other processes used 1.0 of 2 cores",)),
        speed(82, 0.01, label="bimodal"),
        Record("measure", {}, figures={"throughput": Figure(82, "samples/s")}),
        Record("measure", {}),
    ],
)
def test_a_further_run_that_shows_nothing_is_left_out(odd: Record) -> None:
    (move,) = moves((speed(100, 0.01), odd), speed(80, 0.01), 0.05)
    assert (move.state, move.recorded) == ("worse", 1)
