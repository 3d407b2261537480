import itertools

import pytest

from assay.core.verdict import STATES, Reason, Verdict, combine


@pytest.mark.parametrize("states", [s for n in range(4) for s in itertools.product(STATES, repeat=n)])
def test_combine(states):
    verdict = combine([Reason(f"limit{i}", s, "text") for i, s in enumerate(states)])
    if "failed" in states:
        expected = "failed"
    elif "not_shown" in states or not states:
        expected = "not_shown"
    else:
        expected = "passed"
    assert verdict.state == expected
    assert verdict.exit_code == (0 if expected == "passed" else 1)


def test_no_limit_at_all_never_passes():
    assert not combine([]).passed


def test_what_nobody_asked_for_does_not_fail():
    assert combine([Reason("a", "passed", "t")], ["accuracy: no data"]).passed


def test_json_round_trip():
    verdict = combine([Reason("a", "failed", "t", "id1")], ["x"], "subject")
    assert Verdict.from_json(verdict.to_json()) == verdict
