"""The two parts of a quantised candidate's error, on runs made up to have known ones."""

import numpy as np
import pytest

from assay.core.errors import EngineFailed
from assay.measure.quantised import QuantisedTally, costs_of

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def noisy(feed, seed, size):
    noise = np.random.default_rng([seed, *feed["x"].tobytes()[:4]]).normal(size=(len(feed["x"]), 3))
    return {"y": (feed["x"] @ WEIGHTS) * (1 + size * noise)}


class Runs:
    """A file 2 % from the truth whose rounding costs about 1 %; ``reach`` is that of its second quantiser."""

    def __init__(self, reach=1.0, cut=0.01):
        self._reach, self._cut = reach, cut
        self.asked = []

    def exact(self, feed):
        return {"y": (feed["x"] @ WEIGHTS) * 1.02}

    def engine(self, feed, seed):
        return {"y": self.exact(feed)["y"] * (1 + 1e-3 * seed)}

    def smooth(self, feed):
        return {"y": feed["x"] @ WEIGHTS}

    def rounded(self, feed, seed):
        return noisy(feed, seed, 0.01)

    def cut(self, feed, narrow):
        self.asked.append(narrow)
        return {"y": (feed["x"] @ WEIGHTS) * (1.0 if "q2" in narrow else 0.97)}

    def reaches(self, feeds):
        self.rows = [len(feed["x"]) for feed in feeds]
        return {"q1": ("first", 1.1, 0.05), "q2": ("second", self._reach, self._cut)}


def test_costs_are_those_of_the_runs(signature, feeds):
    runs = Runs()
    engine, file, narrow = costs_of(runs, signature(), feeds(4))
    assert engine["y"].rounding == pytest.approx(2e-3, rel=1e-3)
    assert 0.005 < file["y"].rounding < 0.02
    assert file["y"].cutting == pytest.approx(0.03, rel=1e-3)
    assert narrow == ()
    assert set(runs.rows) == {1}, "how far a sample reaches is asked sample by sample"


@pytest.mark.parametrize(
    ("reach", "cut", "names"), [(2.0, 0.05, ["second"]), (1.3, 0.05, []), (5.0, 0.001, [])], ids=["x2", "near", "few"]
)
def test_a_narrow_quantiser_is_named_and_its_cut_is_no_cost(signature, feeds, reach, cut, names):
    runs = Runs(reach, cut)
    _, file, narrow = costs_of(runs, signature(), feeds(4))
    assert [n.node for n in narrow] == names
    assert runs.asked[0] == (frozenset({"q2"}) if names else frozenset())
    assert file["y"].cutting == pytest.approx(0.0 if names else 0.03, abs=1e-6)


def test_file_and_engine_are_told_apart(signature, feeds, session_of):
    runs = Runs()
    tally = QuantisedTally(runs, signature(), lambda feed: {"y": feed["x"].astype(np.float64) @ WEIGHTS})
    watched = tally.candidate(session_of(lambda feed: {"y": np.float32(1.05) * runs.exact(feed)["y"]}, signature()))
    for feed in feeds(4):
        watched.run(feed)
    found = tally.evidence(feeds(4))
    assert found.engine[4]["y"].relative_rms == pytest.approx(0.05, rel=1e-3)
    assert found.file["y"].relative_rms == pytest.approx(0.02, rel=1e-3)
    assert found.to_json()["narrow"] == []


def test_runs_that_fail_leave_no_evidence_and_say_why(signature, feeds, session_of):
    class Failing(Runs):
        def exact(self, feed):
            raise EngineFailed("no kernel for this")

    tally = QuantisedTally(Failing(), signature(), None)
    tally.candidate(session_of(lambda feed: {"y": feed["x"] @ WEIGHTS}, signature())).run(feeds(4)[0])
    assert tally.evidence(feeds(4)) is None
    assert tally.failed == "no kernel for this"
