"""Truth once per row, and errors split by it; the model is a matrix product that can be run exactly."""

import numpy as np
import pytest

from assay.core.errors import EngineFailed
from assay.core.tensors import Signature, TensorSpec
from assay.measure.numerics import compare_sessions
from assay.measure.observe import Observed
from assay.measure.truth import SEEDS, Tally, Truth

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def linear(feed):
    return {"y": feed["x"] @ WEIGHTS}


class Exact:
    def __init__(self):
        self.rows = self.calls = 0

    def exact(self, feed):
        self.calls += 1
        self.rows += len(feed["x"])
        return {"y": feed["x"].astype(np.float64) @ WEIGHTS.astype(np.float64)}

    def rounded(self, feed, precision, seed):
        rounding = {"fp32": 1e-7, "bf16": 4e-3}[precision]
        noise = np.random.default_rng(seed).normal(size=(len(feed["x"]), 3))
        return {"y": self.exact(feed)["y"] * (1 + rounding * noise)}


def test_every_row_is_computed_once_whatever_the_batch(signature, feeds):
    exact = Exact()
    truth = Truth(exact.exact, signature())
    rows = feeds(8)[0]["x"]
    whole = truth({"x": rows})
    assert (exact.calls, exact.rows) == (1, 8)
    assert np.array_equal(whole["y"], exact.exact({"x": rows})["y"])
    calls = exact.calls
    for part in (rows[3:4], rows[::-1], np.repeat(rows[:2], 3, 0)):
        assert np.array_equal(truth({"x": part})["y"], exact.exact({"x": part})["y"])
    assert exact.calls == calls + 3  # the three comparisons above, none by the truth
    truth({"x": np.concatenate([rows[:2], rows[:1] + 1])})
    assert exact.rows == 8 + 8 + 1 + 8 + 6 + 1


def test_a_static_batch_is_computed_whole(signature, feeds):
    exact = Exact()
    truth = Truth(exact.exact, signature(4))
    feed = feeds(4)[0]
    truth(feed)
    truth(feed)
    assert (exact.calls, exact.rows) == (1, 4)


def test_a_batch_axis_that_is_not_the_first():
    spec = Signature((TensorSpec("x", "float32", (4, "n"), 1),), (TensorSpec("y", "float32", (3, "n"), 1),))
    truth = Truth(lambda f: {"y": WEIGHTS.T.astype(np.float64) @ f["x"]}, spec)
    x = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    truth({"x": x[:, :2]})
    assert np.allclose(truth({"x": x})["y"], WEIGHTS.T.astype(np.float64) @ x)


@pytest.mark.parametrize(("precision", "cost"), [("fp32", 1e-7), ("bf16", 4e-3)])
def test_the_error_is_split(session_of, signature, feeds, precision, cost):
    exact = Exact()
    tally = Tally(Truth(exact.exact, signature()))
    first = session_of(linear, signature())
    second = session_of(lambda f: {"y": linear(f)["y"] * np.float32(1.01)}, signature())
    batches = {1: feeds(1, 3), 4: feeds(4)}
    result = compare_sessions(tally.reference(first), tally.candidate(second), batches)
    split = tally.split(exact, precision, batches[4])
    assert result.failures == ()
    assert split.missing is None
    found = split.costs["y"]
    assert 0 < found.floor < 1e-6
    assert cost / 2 < found.format < cost * 2
    assert split.candidate[1]["y"].relative_rms == pytest.approx(0.01, rel=1e-2)
    assert (split.rows, split.draws) == (4, len(SEEDS))
    assert split.to_json()["candidate_against_truth"]["4"]["y"]["relative_rms"] == pytest.approx(0.01, rel=1e-2)


def test_rows_are_counted_along_the_batch_axis(session_of):
    spec = Signature(
        (TensorSpec("x", "float32", (4, "batch"), batch_axis=1),),
        (TensorSpec("y", "float32", (3, "batch"), batch_axis=1),),
    )
    session = session_of(lambda f: {"y": WEIGHTS.T @ f["x"]}, spec)
    tally, feed = Tally(None, "left out"), {"x": np.ones((4, 2), np.float32)}
    compare_sessions(tally.reference(session), tally.candidate(session), {2: [feed]})
    assert tally.errors("int8", [feed, feed], None).rows == 4


def test_no_truth_says_why(session_of, signature, feeds):
    def broken(feed):
        raise EngineFailed("no float64 here")

    tally = Tally(Truth(broken, signature()))
    session = session_of(linear, signature())
    compare_sessions(tally.reference(session), tally.candidate(session), {2: feeds(2)})
    split = tally.split(Exact(), "fp32", feeds(2))
    assert split.missing == "no float64 here"
    assert not split.costs
    assert Tally(None, "left out").split(None, "fp32", []).missing == "left out"


def test_an_observed_session_is_counted_and_stays_open(session_of, signature, feeds):
    seen = []
    with Observed(session_of(linear, signature()), lambda feed, outputs: seen.append(outputs)) as session:
        session.run(feeds(2)[0])
    assert (session.calls, len(seen)) == (1, 1)
    assert session.parallelism == 1
    assert session.attest().how == "a function"
