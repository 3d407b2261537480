import itertools

import numpy as np
import pytest

from assay.core.errors import BadInput, SignatureMismatch
from assay.measure.paired import PairPlan, compare_blocks, compare_series, measure_paired


def test_the_order_is_a_b_b_a():
    seen = []

    def block(name):
        return lambda: seen.append(name) or [1.0, 1.0]

    compare_blocks(block("a"), block("b"), PairPlan(2, 6))
    assert "".join(seen) == "abba" * 6


@pytest.mark.parametrize("truth", [0.5, 1.1, 3.0])
def test_a_known_ratio_is_found(truth):
    rng = np.random.default_rng(1)
    plan = PairPlan(10, 30)
    a = lambda: list(truth * rng.gamma(20, 0.05, 10))  # noqa: E731
    b = lambda: list(rng.gamma(20, 0.05, 10))  # noqa: E731
    hits = 0
    for _ in range(100):
        found = compare_blocks(a, b, plan)
        hits += found.ratio.low <= truth <= found.ratio.high
        assert found.ratio.value == pytest.approx(truth, rel=0.15)
        assert found.different == (not found.ratio.low <= 1 <= found.ratio.high)
    assert hits >= 90


def test_a_linear_drift_does_not_decide():
    clock = itertools.count()

    def block():
        return [1.0 + 0.01 * next(clock) for _ in range(5)]

    found = compare_blocks(block, block, PairPlan(5, 10))
    assert found.ratio.value == pytest.approx(1.0, abs=1e-9)


def test_too_few_rounds_have_no_answer(fake_time):
    def block():
        fake_time.pass_(10.0)
        return [10.0]

    found = compare_blocks(block, block, PairPlan(1, 20, max_s=100.0))
    assert found.ratio.value is None
    assert "6 are needed" in found.ratio.reason
    assert not found.different
    with pytest.raises(BadInput, match="at least 6 quads"):
        PairPlan(quads=3)


def test_sessions_are_timed_in_turns(fake_time, session_of, signature, feeds):
    def session(seconds):
        def function(feed):
            fake_time.pass_(seconds)
            return {"y": np.zeros((1, 3), np.float32)}

        return session_of(function, signature())

    found = measure_paired(session(3e-3), session(2e-3), feeds(1), PairPlan(5, 8))
    assert found.ratio.value == pytest.approx(1.5)
    assert found.different
    assert len(found.first_s) == len(found.second_s) == 8 * 2 * 5
    same = session(1e-3)
    assert not measure_paired(same, same, feeds(1)).different
    with pytest.raises(BadInput, match="nothing to feed"):
        measure_paired(same, same, [])
    with pytest.raises(SignatureMismatch):
        measure_paired(same, same, feeds(1, width=7))


@pytest.mark.parametrize(("seconds", "calls"), [(1e-3, 10), (0.04, 6), (0.2, 1), (2.0, 1)])
def test_a_block_of_slow_calls_has_fewer(fake_time, session_of, signature, feeds, seconds, calls):
    """Ten calls of 2 s made a round of A B B A last 80 s."""

    def session(each):
        def function(feed):
            fake_time.pass_(each)
            return {"y": np.zeros((1, 3), np.float32)}

        return session_of(function, signature())

    slow, fast = session(seconds), session(seconds / 2)
    found = measure_paired(slow, fast, feeds(1), PairPlan(quads=6, max_s=1000.0))
    assert len(found.first_s) == len(found.second_s) == 6 * 2 * calls
    assert found.ratio.value == pytest.approx(2.0)


def test_one_series_against_itself():
    values = np.random.default_rng(0).gamma(20, 1.0, 4 * 10 * 20)
    found = compare_series(values, PairPlan())
    assert len(found.quads) == 20
    assert found.ratio.value == pytest.approx(1.0, abs=0.05)
