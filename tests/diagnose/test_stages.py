import math

import numpy as np
import pytest

from assay.core.errors import BadInput, EngineFailed
from assay.diagnose.stages import FAILED, GOOD, GUILTY, Stage, guilty, relative_error, walk

X = np.random.default_rng(0).normal(size=(4, 5))
FEEDS = [{"x": X}, {"x": X * 2}]


def scaled(factor):
    return lambda feed: {"y": feed["x"] * factor, "z": feed["x"]}


def broken(feed):
    raise EngineFailed("it crashed")


def test_the_first_stage_beyond_its_due_is_guilty():
    stages = [
        Stage("reference", scaled(1.0), None, 0.0),
        Stage("export", scaled(1.0 + 1e-7), 0, 1e-6),
        Stage("pass", scaled(1.01), 1, 1e-6),
        Stage("engine", scaled(1.01), 2, 1e-6),
    ]
    rows = walk(stages, FEEDS)
    assert [r.state for r in rows] == [GOOD, GOOD, GUILTY, GOOD]
    assert guilty(rows) == 2
    assert rows[2].output == "y"
    assert abs(rows[2].added - 0.01) < 1e-5
    assert abs(rows[3].total - 0.01) < 1e-9
    assert rows[3].added == 0.0
    assert rows[2].to_json()["state"] == GUILTY


def test_a_failing_stage_is_guilty_and_its_children_are_held_against_its_parent():
    stages = [
        Stage("reference", scaled(1.0), None, 0.0),
        Stage("pass", broken, 0, 1e-6),
        Stage("engine", scaled(1.0), 1, 1e-6),
    ]
    rows = walk(stages, FEEDS)
    assert [r.state for r in rows] == [GOOD, FAILED, GOOD]
    assert rows[1].text == "it crashed"
    assert guilty(rows) == 1
    assert guilty(walk([stages[0]], FEEDS)) is None


def test_a_reference_that_fails_compares_nothing():
    rows = walk([Stage("reference", broken, None, 0.0), Stage("engine", scaled(1.0), 0, 1.0)], FEEDS)
    assert [r.state for r in rows] == [FAILED, FAILED]


def test_what_cannot_be_compared_is_infinite():
    assert relative_error(X, None) == math.inf
    assert relative_error(X, X[:2]) == math.inf
    assert relative_error(X, np.where(X > 1, np.nan, X)) == math.inf
    assert relative_error(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.25
    rows = walk([Stage("r", scaled(1.0), None, 0.0), Stage("c", lambda f: {"y": X * np.nan, "z": X}, 0, 1.0)], FEEDS)
    assert rows[1].state == GUILTY
    assert rows[1].to_json()["added"] is None
    assert "NaN" in rows[1].text


def test_nothing_to_compare_is_no_agreement():
    stages = [Stage("reference", lambda f: {}, None, 0.0), Stage("engine", lambda f: {}, 0, 1.0)]
    rows = walk(stages, FEEDS)
    assert rows[1].state == GUILTY and "none at all" in rows[1].text
    with pytest.raises(BadInput, match="nothing to feed"):
        walk(stages, [])
