"""Sessions that disagree with themselves, one way each."""

import itertools
import json
import threading

import numpy as np
import pytest

from assay.core.errors import EngineFailed
from assay.core.tensors import Signature, TensorSpec
from assay.measure.selfcheck import CHECKS, REPEAT, self_check

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
LIMIT = 1e-5


def linear(feed):
    # Row by row, so that the place in the batch cannot matter even in the last bit.
    return {"y": np.stack([row @ WEIGHTS for row in feed["x"]])}


def states(found):
    return {f.name: f.state for f in found.findings}


@pytest.fixture
def check(session_of, signature, feeds):
    def run(function, rows=4, batch="batch", second=None):
        other = session_of(second, signature(batch)) if second else None
        return self_check(session_of(function, signature(batch)), feeds(rows)[0], LIMIT, other)

    return run


def test_a_healthy_model_passes_every_check(check):
    found = check(linear, second=linear)
    assert states(found) == dict.fromkeys(CHECKS, "passed")
    assert found.failed == ()
    assert all(f.text == "equal bit for bit" for f in found.findings)


def noise():
    rng = np.random.default_rng(0)
    return lambda feed: {"y": linear(feed)["y"] * (1 + 0.1 * rng.normal(size=(len(feed["x"]), 3)).astype(np.float32))}


def by_place(feed):
    return {"y": linear(feed)["y"] + np.arange(len(feed["x"]), dtype=np.float32)[:, None]}


def by_company(feed):
    """What dynamic quantisation over the batch does: the scale depends on the other rows."""
    return {"y": linear(feed)["y"] * np.abs(feed["x"]).max()}


def padding_leaks(feed):
    blank = not feed["x"][-1].any()
    return {"y": linear(feed)["y"] + np.float32(blank)}


@pytest.mark.parametrize(
    ("function", "failing"),
    [
        (by_place, {"identical rows", "batch order", "batch 1 against batch N"}),
        (by_company, {"batch 1 against batch N"}),
        (padding_leaks, {"padded against exact"}),
    ],
)
def test_each_fault_is_named(check, function, failing):
    found = check(function)
    assert {f.name for f in found.failed} >= failing
    assert all(f.error > LIMIT for f in found.failed)
    assert REPEAT not in {f.name for f in found.failed}


def test_a_random_model_is_said_to_be_random_and_nothing_else_is_concluded(check):
    found = check(noise())
    assert states(found) == {REPEAT: "failed", **dict.fromkeys(CHECKS[1:], "not_shown")}
    assert "dropout" in found.failed[0].text


def test_sessions_that_race(check, session_of, signature, feeds):
    busy = threading.Semaphore(1)

    def racing(feed):
        alone = busy.acquire(blocking=False)
        try:
            threading.Event().wait(0.01)
            return {"y": linear(feed)["y"] + (0 if alone else 1)}
        finally:
            if alone:
                busy.release()

    assert [f.name for f in check(racing).failed] == ["concurrent against serial"]


def test_a_second_build_that_differs(check):
    found = check(linear, second=lambda feed: {"y": linear(feed)["y"] * 1.01})
    assert [f.name for f in found.failed] == ["second build"]
    assert states(check(linear))["second build"] == "not_shown"


def test_rounding_is_no_fault_but_is_said(check):
    calls = itertools.count()
    found = check(lambda feed: {"y": linear(feed)["y"] * np.float32(1 + 1e-7 * (next(calls) % 2))})
    assert found.failed == ()
    assert "differs by" in found.findings[0].text


def test_nan_in_one_run_is_found(check):
    calls = itertools.count()
    found = check(lambda feed: {"y": linear(feed)["y"] * (np.nan if next(calls) == 1 else 1)})
    assert [f.name for f in found.failed] == [REPEAT]
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))[0]["error"] is None


def test_outputs_of_changing_shapes_are_not_deterministic(check):
    calls = itertools.count(2)
    found = check(lambda feed: {"y": np.ones((next(calls), 3), np.float32)})
    assert "other names or shapes" in found.failed[0].text
    assert all("not deterministic" in f.text for f in found.findings[1:])


def test_what_does_not_apply_says_why(check, session_of, feeds):
    static = states(check(linear, rows=4, batch=4))
    assert static["batch order"] == "passed"
    assert static["batch 1 against batch N"] == static["padded against exact"] == "not_shown"
    assert states(check(linear, rows=1))["identical rows"] == "not_shown"
    one = Signature((TensorSpec("x", "float32", ("batch", 4)),), (TensorSpec("y", "float32", (3,), None),))
    found = self_check(session_of(lambda f: {"y": f["x"].sum(0)[:3]}, one), feeds(4)[0], LIMIT)
    assert states(found)["batch order"] == "not_shown"


def test_a_session_that_fails_is_a_finding(check):
    def fragile(feed):
        if len(feed["x"]) == 1:
            raise EngineFailed("no single rows")
        return linear(feed)

    finding = check(fragile).failed[0]
    assert finding.name == "batch 1 against batch N"
    assert "no single rows" in finding.text

    def dead(feed):
        raise EngineFailed("dead")

    assert states(check(dead))[REPEAT] == "failed"
