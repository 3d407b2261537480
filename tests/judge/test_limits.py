"""One figure against one limit: the words say which interval it is."""

import pytest

from assay.core.record import Figure
from assay.judge.limits import Limit, check

LIMIT = Limit("latency.p50", 2.0, str, judge_by="interval")


@pytest.mark.parametrize(
    ("ends", "state"), [((1.0, 1.9), "passed"), ((2.1, 3.0), "failed"), ((1.9, 2.1), "not_shown"), ((None, None), None)]
)
def test_by_interval(ends, state):
    found, text = check(LIMIT, Figure(2.0, "s", *ends, 0.95, 50))
    assert found == (state or "not_shown")
    assert ("95% interval" in text) == (state is not None)


def test_an_interval_without_a_confidence_gets_none():
    state, text = check(LIMIT, Figure(1.5, "ratio", 1.0, 1.9, None, 50))
    assert (state, text) == ("passed", "1.5 (interval 1.0 to 1.9), limit 2.0")
