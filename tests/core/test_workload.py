import pytest

from assay.core.errors import BadInput
from assay.core.workload import StopRule, Workload


def test_conditions_state_everything():
    conditions = Workload("offline", 8, StopRule(max_calls=50), seed=3).conditions()
    assert conditions["scenario"] == "offline"
    assert (conditions["batch"], conditions["seed"], conditions["max_calls"]) == (8, 3, 50)
    assert {"min_calls", "min_s", "max_s", "within"} <= set(conditions)


@pytest.mark.parametrize("wrong", [{"min_calls": 0}, {"max_calls": 5}, {"max_s": 0.0}])
def test_a_rule_that_lets_nothing_run(wrong):
    with pytest.raises(BadInput, match="never lets anything run"):
        StopRule(**wrong)


def test_an_empty_batch():
    with pytest.raises(BadInput, match="at least one row"):
        Workload(batch=0)
