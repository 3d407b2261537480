"""A few damaged files of every kind; ``scripts/harden`` does 500 of each."""

from pathlib import Path

import pytest
from tests.hardening import fuzz
from tests.hardening.corpus import KINDS, LOGS
from tests.hardening.freeze import frozen_run
from tests.hardening.fuzz import Damage, Worker, campaign, damaged
from tests.hardening.mutation import MUTATORS, mutate

CASES = {"onnx": 30, "picture": 60, "checkpoint": 30, "data": 60, "log": 60, "toml": 60, "record": 60}


@pytest.mark.parametrize("kind", KINDS)
def test_a_clear_error_or_a_right_answer(kind: str, tmp_path: Path) -> None:
    """What fails is kept, and the message says where and how to do it again."""
    findings, codes = campaign(kind, Damage(CASES.get(kind, 40), 7), tmp_path, frozen_run(tmp_path))
    assert not findings, "\n" + "\n".join(map(str, findings))
    assert sum(codes.values()) >= CASES.get(kind, 40)


@pytest.mark.parametrize("kind", KINDS)
def test_the_damaged_files_are_the_same_every_time(kind: str, tmp_path: Path) -> None:
    """Else a failure seen once could not be seen again."""
    made = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        found = damaged(list(KINDS[kind](folder, frozen_run(folder))), 20, 7)
        made.append([(seed.path.relative_to(folder), content) for seed, content in found])
    assert made[0] == made[1]


def test_what_broke_is_kept_and_can_be_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz, "_complaint", lambda kind, found: "as this test wants it")
    damage = Damage(3, 7, kept=tmp_path / "kept")
    findings, _ = campaign("toml", damage, tmp_path / "all", frozen_run(tmp_path))
    assert [f.path.name for f in findings] == [f"toml-7-{n}-bad.toml" for n in range(3)]
    contents = [f.path.read_bytes() for f in findings]
    assert "--seed 7 --cases 3 --only 1" in str(findings[1])
    assert str(findings[1].path) in str(findings[1])
    (again,), _ = campaign("toml", Damage(3, 7, [1], tmp_path / "other"), tmp_path / "one", tmp_path / "frozen")
    assert again.path.read_bytes() == contents[1]


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
