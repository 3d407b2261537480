"""benchmarks/serve_goodput.py on servers that are formulas: a tail that grows with the rate, and stalls."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import serve_goodput as goodput

CAPACITY, LIMIT_S, STALL_S = 200.0, 0.04, 0.1


def server(holds, stalled=0.0, name=0):
    """It keeps the limit up to ``holds`` requests/s, except in the share ``stalled`` of its trials."""

    def trial(rate, seed):
        lost = np.random.default_rng([name, seed]).random() < stalled
        return LIMIT_S * rate / holds + (STALL_S if lost else 0.0)

    return trial


@pytest.mark.parametrize("holds", [20.0, 77.0, 150.0])
def test_the_highest_rate_is_found(holds):
    (found,) = goodput.side_by_side([server(holds)], CAPACITY, LIMIT_S, 40, seed=0)
    assert found.rate == pytest.approx(holds, rel=0.02)


def test_nothing_held_is_told_with_the_lowest_rate_that_was_tried():
    (found,) = goodput.side_by_side([server(5.0)], CAPACITY, LIMIT_S, 32, seed=0)
    assert found == goodput.Held(0.0, CAPACITY / 16)


def test_all_of_the_capacity_can_be_held():
    (found,) = goodput.side_by_side([server(1000.0)], CAPACITY, LIMIT_S, 32, seed=0)
    assert found.rate == pytest.approx(1.05 * CAPACITY, rel=0.01)


def test_stalls_in_a_quarter_of_the_trials_do_not_decide():
    """A plain bisection, whose first wrong trial is final, ends more than 5 % away in half of such searches."""
    held = [goodput.side_by_side([server(120.0, 0.25, i)], CAPACITY, LIMIT_S, 32, seed=0)[0].rate for i in range(40)]
    assert np.median(held) == pytest.approx(120.0, rel=0.02)
    assert np.mean(np.abs(np.asarray(held) / 120.0 - 1) > 0.05) < 0.1


def test_trials_are_in_turns_and_every_step_has_its_own_arrivals():
    calls = []

    def noted(name):
        def trial(rate, seed):
            calls.append((name, rate, seed))
            return 0.0

        return trial

    goodput.side_by_side([noted("a"), noted("b")], CAPACITY, LIMIT_S, 4, seed=3)
    assert "".join(name for name, *_ in calls) == "abbaabba"
    assert [c[1:] for c in calls if c[0] == "a"] == [c[1:] for c in calls if c[0] == "b"]
    assert len({seed for *_, seed in calls}) == 4


def test_the_best_of_several_is_found_among_stalls():
    held = [40.0, 60.0, 120.0, 80.0, 50.0]
    servers = [server(h, 0.1, i) for i, h in enumerate(held)]
    assert goodput.best_of(servers, servers, CAPACITY, LIMIT_S, 8) == 2
    assert goodput.best_of(servers[:1], servers[:1], CAPACITY, LIMIT_S, 8) == 0


@pytest.mark.parametrize(("mine", "theirs", "met"), [(130.0, 100.0, True), (80.0, 100.0, False)])
def test_the_ratio_is_of_rates_found_together(mine, theirs, met):
    found = goodput.duel(server(mine), server(theirs), CAPACITY, LIMIT_S, 40, rounds=3)
    assert found.ratio().value == pytest.approx(mine / theirs, rel=0.03)
    assert found.met() is met
    assert found.figure(0).value == pytest.approx(mine, rel=0.02)
    assert found.figure(1).n == 3


def test_a_side_that_held_nothing_has_no_rate_and_no_ratio():
    found = goodput.duel(server(100.0), server(5.0), CAPACITY, LIMIT_S, 24, rounds=2)
    assert found.ratio() is None
    assert found.met()
    assert found.figure(1).value is None
    assert found.shown(1) == "less than 12/s"
    assert not goodput.duel(server(5.0), server(5.0), CAPACITY, LIMIT_S, 24, rounds=1).met()


def test_a_side_that_held_nothing_in_half_of_the_searches_has_no_rate():
    nothing, held = goodput.Held(0.0, 12.5), goodput.Held(80.0, 12.5)
    assert goodput.Duel([(nothing, held), (nothing, held), (held, held), (held, held)]).figure(0).value is None
    assert goodput.Duel([(nothing, held), (held, held), (held, held), (held, held)]).figure(0).value == 80.0


def test_a_trial_is_long_enough_for_a_queue_to_grow():
    assert [goodput.long_enough_s(rate, 0.04) for rate in (400.0, 100.0, 10.0)] == [2.0, 4.0, 6.0]
    assert goodput.long_enough_s(400.0, 0.3) == 3.0
