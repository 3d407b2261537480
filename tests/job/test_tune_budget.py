"""What a tuning may still begin, by a clock that the tests move: finals, proof, baselines and the fresh run."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.job.hand import Hand

from assay.core.artifact import Artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.record import Figure, Record
from assay.core.sample import Sample
from assay.core.tensors import Signature, TensorSpec
from assay.job.pace import Pace
from assay.job.request import Effort, Int8, RunRequest
from assay.job.stages.measure import Baselines
from assay.job.tune import baselines as baselines_module
from assay.job.tune import one, proof
from assay.job.tune.baselines import Compiling, baselines
from assay.job.tune.finals import duel_s, finals
from assay.job.tune.given import CHECK_ROWS, Given, Known
from assay.job.tune.request import TuneRequest, Tuning
from assay.job.tune.search import _until
from assay.job.tune.space import Axes, Mapped, map_space
from assay.job.tune.tail import LEAST_CONFIRM_S, LEAST_SCORED, REPORT_S, ROWS, Tail
from assay.job.tune.verdict import nothing_won
from assay.search.objective import parse_objective
from assay.search.space import Form, Layout, Point
from assay.search.standing import Standing

THROUGHPUT = parse_objective("throughput")
X = TensorSpec("x", "float32", ("batch", 4), 0)
SIGNATURE = Signature((X,), (TensorSpec("y", "float32", ("batch", 2), 0),))


def candidate(engine: str) -> Candidate:
    return Candidate(Artifact(path=None, format="onnx", sha256=engine[:1] * 64), engine, "1", OpenOptions())


@dataclass
class Machine:
    """Stand-in for the processes of a search: each call moves the clock by what a real one would have taken."""

    now: Hand
    pace: Pace
    block_s: float = 0.2
    open_s: float = 3.0
    samples: int = 0
    objective: Any = THROUGHPUT
    workers: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    given: Given | None = None

    def __post_init__(self) -> None:
        made = (candidate("onnxruntime"), candidate("openvino"))
        self.mapped: Mapped = map_space(made, SIGNATURE, THROUGHPUT, Axes(), 2)
        for name in self.mapped.bases:
            self.pace.learn(f"open {name}", self.open_s)
            self.pace.learn(f"row {name}", self.block_s / 8)
        reader = [None] * self.samples
        data = SimpleNamespace(conditions={}, task=object() if reader else None, reader=reader or None)
        self.scene = SimpleNamespace(data=data, reference=made[0])
        request = RunRequest("m", None, effort=Effort(budget_s=60.0))  # type: ignore[arg-type]
        quiet = SimpleNamespace(note=lambda t: None, stage=lambda *a: None, done=lambda t: None)
        self.warnings: list[str] = []
        folder = SimpleNamespace(current=lambda: [])
        self.ctx = Ctx(request, self.pace, quiet, folder, self.warnings.append)

    def call(self, name: str, function: str, arguments: Any) -> float:
        self.calls.append((name, function))
        if function == "hold":
            self.now.at_s += self.open_s
        if function == "block":
            self.now.at_s += arguments["calls"] * self.block_s
        return self.block_s

    def holding(self, names: Any) -> Any:
        return contextlib.nullcontext()

    def order(self, *_: Any) -> None:
        return None


@dataclass
class Ctx:
    request: RunRequest
    pace: Pace
    progress: Any
    folder: Any
    warn: Any
    model: Any = field(default_factory=lambda: SimpleNamespace(name="m"))
    environment: dict[str, Any] = field(default_factory=dict)


def standing(family: str, value: float = 40.0) -> Standing:
    return Standing(Point(family, 8, Layout(1, 2), Form(True)), "full", value, value * 0.9, value * 1.1)


LEADERS = (standing("onnxruntime fp32"), standing("openvino fp32", 41.0))


def machine(now: Hand, budget_s: float = 60.0, **settings: Any) -> Machine:
    return Machine(now, Pace(now.at_s + budget_s), **settings)


def tail(made: Machine, **settings: Any) -> Tail:
    return Tail(made, Tuning(THROUGHPUT, 60.0, **settings))  # type: ignore[arg-type]


# finals


def test_a_duel_that_would_not_end_in_time_is_not_begun(now: Hand) -> None:
    made = machine(now)
    needed = duel_s(made, LEADERS[0].point, LEADERS[1].point)  # type: ignore[arg-type]
    found = finals(made, LEADERS, lambda: now.at_s + needed - 0.5)  # type: ignore[arg-type]
    assert made.calls == [] and found.records == ()
    assert found.order == LEADERS, "the longest trials decide"
    assert "openvino fp32" in made.pace.cut[0] and found.said == (f"{made.pace.cut[0]}; their longest trials decide",)


def test_a_duel_that_fits_ends_in_time(now: Hand) -> None:
    made = machine(now, 1000.0)
    needed = duel_s(made, LEADERS[0].point, LEADERS[1].point)  # type: ignore[arg-type]
    end = now.at_s + needed + 1.0
    found = finals(made, LEADERS, lambda: end)  # type: ignore[arg-type]
    assert len(found.records) == 1 and made.pace.cut == []
    assert now.at_s <= end


def test_the_search_leaves_what_has_to_follow(now: Hand) -> None:
    """Under load opening takes long, and the search's share of the budget shrinks with what is learnt."""
    made = machine(now, open_s=0.1)
    made.given = Given((), SIGNATURE, Known({}, took_s=1.0))
    follow = tail(made)
    until = _until(made, now.at_s + 30.0, follow.reserve_s)  # type: ignore[arg-type]
    assert until() == now.at_s + 30.0
    made.pace.learn("open openvino fp32", 20.0)
    assert until() < now.at_s + 20.0


# estimates


def test_the_estimates_follow_what_was_measured(now: Hand) -> None:
    made = machine(now, open_s=1.0, samples=1000)
    follow = tail(made)
    assert follow.compare_s(8) == pytest.approx(1.0)
    made.given = Given((Sample("a", {"x": np.zeros(4, np.float32)}),), SIGNATURE, Known({}, took_s=4.0))
    assert follow.compare_s(8) == pytest.approx(1.0 + 4.0 * (1 + 8 / CHECK_ROWS))
    assert follow.compare_s(2) < follow.compare_s(4) < follow.compare_s(8)
    assert follow.rows(now.at_s + 100) == ROWS[0] and follow.rows(now.at_s + 8) == ROWS[-1]
    point, slow = LEADERS[0].point, follow.score_s(1000, LEADERS[0].point)
    made.pace.learn("read", CHECK_ROWS * 0.01)
    assert follow.score_s(1000, point) == pytest.approx(slow + 1000 * 2 * 0.01)


def test_an_accuracy_on_as_many_samples_as_fit(now: Hand) -> None:
    made = machine(now, samples=1000, block_s=0.08)
    follow, point = tail(made), LEADERS[1].point
    assert follow.scored(now.at_s + 100.0, point) is None
    some = follow.scored(now.at_s + 12.0, point)
    assert some is not None and LEAST_SCORED < some < 1000
    assert follow.score_s(some, point) <= 12.0
    assert follow.scored(now.at_s + 1.0, point) == LEAST_SCORED
    assert tail(machine(now, samples=0)).scored(now.at_s, point) is None


# the proof


def test_a_proof_that_would_not_fit_is_not_begun_and_that_is_the_verdict(now: Hand) -> None:
    made = machine(now, 12.0)
    made.given = Given((), SIGNATURE, Known({}, took_s=20.0))
    found = proof.prove(made.ctx, LEADERS, THROUGHPUT, tail(made))  # type: ignore[arg-type]
    assert found.winner is None and found.refused == () and "the proof of onnxruntime fp32" in str(found.unproved)
    left: Any = SimpleNamespace(standings=LEADERS, leaders=LEADERS)
    verdict = nothing_won(left, found.refused, THROUGHPUT, found.unproved)
    assert [r.state for r in verdict.reasons] == ["not_shown"]
    assert "unproved" in verdict.reasons[0].text and verdict.exit_code == 1


@pytest.fixture
def proving(now: Hand, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Stand-in for the two long stages: each moves the clock and says what it was asked."""
    begun: list[tuple[str, Any]] = []

    def stage(name: str, seconds: float) -> Any:
        def run(ctx: Any, *_: Any) -> None:
            begun.append((name, ctx.request.effort))
            now.at_s += seconds

        return run

    monkeypatch.setattr(proof, "verify", stage("verify", 9.0))
    monkeypatch.setattr(proof, "evaluate", stage("evaluate", 2.0))
    monkeypatch.setattr(proof, "context_of", lambda ctx, c, batch, s, rows=8: _verifying(ctx, rows))
    monkeypatch.setattr(proof, "_other", lambda trials, c: c)
    monkeypatch.setattr(proof, "essential_failure", lambda c, records, policy: "numeric: wrong")
    return begun


def _verifying(ctx: Ctx, rows: int) -> Ctx:
    effort = replace(ctx.request.effort, verify_samples=rows)
    return replace(ctx, request=replace(ctx.request, effort=effort))


def test_further_leaders_are_compared_only_where_the_last_one_says_they_fit(
    now: Hand, proving: list[tuple[str, Any]]
) -> None:
    made = machine(now, 24.0, open_s=0.1)
    made.scene.exported = None
    found = proof.prove(made.ctx, LEADERS, THROUGHPUT, tail(made))  # type: ignore[arg-type]
    assert [name for name, _ in proving].count("verify") == 1
    assert found.winner is None and len(found.refused) == 2
    assert "1 more leaders, to be compared: about" in found.refused[1]


def test_the_accuracy_is_on_fewer_samples_and_that_is_said(now: Hand, proving: list[tuple[str, Any]]) -> None:
    made = machine(now, 40.0, open_s=0.1, samples=10_000, block_s=0.08)
    made.scene.exported = None
    proof.prove(made.ctx, LEADERS, THROUGHPUT, tail(made))  # type: ignore[arg-type]
    counts = {effort.max_samples for name, effort in proving if name == "evaluate"}
    assert len(counts) == 1 and LEAST_SCORED <= counts.pop() < 10_000
    assert any("of 10000 samples" in text for text in made.pace.cut)


# what gains are over, and the fresh run


def test_no_baseline_begins_late(now: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    made = machine(now, 5.0)
    monkeypatch.setattr(baselines_module, "_skip", lambda trials, reason: made.warnings.append(reason))
    found = baselines(tail(made), Compiling(None, why_not="left out"), 8, now.at_s + 1.0)
    assert not found.eager and not found.compiled and made.calls == []
    assert made.pace.cut[0].startswith("PyTorch run eagerly") and made.warnings == ["left out"]


def test_the_fresh_run_shrinks_to_what_fits(now: Hand) -> None:
    made = machine(now, open_s=0.5)
    follow, point = tail(made), LEADERS[0].point
    assert follow.confirm_for(point) == follow.tuning.confirm_s
    now.at_s += 60.0 - REPORT_S - follow.confirm_s(LEAST_CONFIRM_S, point) - 0.5
    shorter = follow.confirm_for(point)
    assert shorter is not None and LEAST_CONFIRM_S <= shorter < follow.tuning.confirm_s
    assert follow.confirm_s(shorter, point) + REPORT_S <= made.pace.left() + 1e-9
    now.at_s += 1.0
    assert follow.confirm_for(point) is None


def test_without_a_fresh_run_the_longest_trial_is_published(now: Hand) -> None:
    made = machine(now, 1.0)
    conditions = {"scenario": "offline", "batch": 8}
    speed = {"throughput": Figure(40.0, "samples/s", 39.0, 41.0, 0.95, 50)}
    trial = Record("measure", {"candidate": "c"}, figures=speed, conditions=conditions, label="stable")
    slow = {"throughput": Figure(10.0, "samples/s", 9.9, 10.1, 0.95, 50)}
    eager = Record("measure", {"candidate": "e"}, figures=slow, conditions=conditions, label="stable")
    made.ctx.folder = SimpleNamespace(current=lambda: [eager, trial])
    won: Any = one._Won(
        made.ctx,  # type: ignore[arg-type]
        replace(LEADERS[0], records=(trial.id,)),
        made.mapped,
        (),
        Baselines([eager]),
    )
    (published,) = one._published(won, tail(made), made.scene.data)  # type: ignore[arg-type]
    assert published.value("throughput") == 40.0 and published.value("speedup.eager") == pytest.approx(4.0)
    assert made.pace.cut[0].startswith("a fresh run of the winner") and made.calls == []


# one limit on the drop


def asked(max_drop: float | None, words: str) -> TuneRequest:
    run = RunRequest("m", None, int8=Int8(max_drop=max_drop))  # type: ignore[arg-type]
    return TuneRequest(run, Tuning(parse_objective(words))).agreed()


@pytest.mark.parametrize(
    ("typed", "words", "limit", "insists"),
    [
        (None, "throughput where drop < 1%", 0.01, False),
        (0.005, "throughput", 0.005, True),
        (0.005, "throughput where drop < 1%", 0.005, True),
        (0.02, "latency where p99 < 15ms and drop < 1%", 0.01, True),
        (0.0, "throughput", 0.0, True),
    ],
)
def test_the_objectives_drop_and_the_typed_one_are_one_limit(
    typed: float | None, words: str, limit: float, insists: bool
) -> None:
    found = asked(typed, words)
    held = found.tuning.objective.limit("accuracy.drop")
    assert held is not None and held.value == limit == found.run.int8.max_drop
    assert found.run.int8.insist is insists
    again = parse_objective(found.tuning.objective.text)
    assert again.limit("accuracy.drop").value == pytest.approx(limit)  # type: ignore[union-attr]


def test_without_a_drop_nothing_changes() -> None:
    found = asked(None, "throughput")
    assert found.run.int8.max_drop is None and found.tuning.objective.limits == ()
