"""A few damaged files of every kind; ``scripts/harden`` does 500 of each."""

from pathlib import Path

import pytest
from tests.hardening.corpus import KINDS, LOGS
from tests.hardening.fuzz import Worker, campaign
from tests.hardening.mutation import MUTATORS, mutate

CASES = {"onnx": 30, "picture": 60, "checkpoint": 30, "data": 60, "log": 60, "toml": 60, "record": 20}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clear_error_or_a_right_answer(kind: str, finished: Path, tmp_path: Path) -> None:
    findings, codes = campaign(kind, CASES.get(kind, 40), 7, tmp_path, finished)
    assert [str(f) for f in findings] == []
    assert sum(codes.values()) >= CASES.get(kind, 40)


def test_damage_is_damage_and_the_same_for_the_same_seed() -> None:
    whole = (LOGS / "trtexec_10.txt").read_bytes()
    made = [mutate(whole, seed) for seed in range(200)]
    assert made == [mutate(whole, seed) for seed in range(200)]
    assert whole not in made
    assert len(set(made)) > 190
    assert len(MUTATORS) > 8


def test_the_worker_tells_a_traceback_a_crash_and_a_refusal(tmp_path: Path) -> None:
    """The harness itself: what it is to find, it finds."""
    with Worker() as worker:
        found, died = worker.ask({"call": "nothing_of_this_name", "path": ""})
        assert found is not None and "AttributeError" in found["broken"]
        found, died = worker.ask({"argv": ["inspect", str(tmp_path / "nothing.onnx")]})
        assert found is not None and (found["code"], found["broken"]) == (2, None)
        found, died = worker.ask({"call": "crash", "path": ""})
        assert found is None and died is not None and "died" in died
        found, died = worker.ask({"call": "grow", "path": ""})
        assert found is None and died is not None and "GB" in died
