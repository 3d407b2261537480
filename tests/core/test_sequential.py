"""However often one looks, errors stay rare; a clear case ends early; the confidence sequence covers."""

from __future__ import annotations

import numpy as np
import pytest

from assay.core.errors import BadInput
from assay.core.sequential import sequential_drop


def draws(rng: np.random.Generator, lost: float, won: float, n: int) -> np.ndarray:
    return rng.choice([1, -1, 0], size=n, p=[lost, won, 1 - lost - won])


def test_a_claim_of_not_worse_is_rarely_wrong_at_the_margin() -> None:
    """Every one of 200 simulated evaluations is watched for 2 000 samples; 2.5 % may claim it, here with the
    binomial's slack of three standard deviations."""
    rng = np.random.default_rng(3)
    wrong = sum(sequential_drop(draws(rng, 0.035, 0.015, 2000), 0.02).answer == "not worse" for _ in range(200))
    assert wrong <= 200 * 0.025 + 3 * np.sqrt(200 * 0.025 * 0.975)


def test_a_claim_of_worse_is_rarely_wrong_at_the_margin() -> None:
    rng = np.random.default_rng(4)
    wrong = sum(sequential_drop(draws(rng, 0.035, 0.015, 2000), 0.02).answer == "worse" for _ in range(200))
    assert wrong <= 200 * 0.025 + 3 * np.sqrt(200 * 0.025 * 0.975)


@pytest.mark.parametrize(("lost", "won", "answer"), [(0.005, 0.005, "not worse"), (0.15, 0.02, "worse")])
def test_a_clear_case_ends_early(lost: float, won: float, answer: str) -> None:
    rng = np.random.default_rng(5)
    found = [sequential_drop(draws(rng, lost, won, 5000), 0.03) for _ in range(20)]
    assert {f.answer for f in found} == {answer}
    assert np.median([f.taken for f in found]) < 1000


def test_what_is_said_at_a_moment_depends_on_nothing_after_it() -> None:
    rng = np.random.default_rng(6)
    values = draws(rng, 0.004, 0.004, 4000)
    found = sequential_drop(values, 0.02)
    assert found.answer == "not worse"
    assert sequential_drop(values[: found.taken], 0.02).answer == "not worse"
    before = sequential_drop(values[: found.taken - 1], 0.02)
    assert (before.answer, before.taken) == (None, found.taken - 1)
    assert "clear after" in found.text
    assert "not clear after" in before.text


def test_the_confidence_sequence_covers_and_shrinks() -> None:
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(100):
        found = sequential_drop(draws(rng, 0.05, 0.03, 600), 0.05)
        assert found.drop.low is not None
        assert found.drop.high is not None
        hits += found.drop.low <= 0.02 <= found.drop.high
    assert hits >= 95 - 3 * np.sqrt(100 * 0.05 * 0.95)
    long, short = (sequential_drop(draws(rng, 0.05, 0.03, n), 0.05).drop for n in (20000, 500))
    assert long.high - long.low < 0.3 * (short.high - short.low)


def test_nothing_and_nonsense() -> None:
    nothing = sequential_drop([], 0.01)
    assert (nothing.answer, nothing.taken, nothing.drop.low, nothing.drop.high) == (None, 0, -1.0, 1.0)
    for margin in (0.0, 1.0, -0.1):
        with pytest.raises(BadInput, match="margin"):
            sequential_drop([0], margin)
    with pytest.raises(BadInput, match="difference"):
        sequential_drop([2], 0.1)
