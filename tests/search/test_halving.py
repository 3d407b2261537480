"""The search on made-up landscapes: it finds what an exhaustive search finds, in a fraction of its time."""

import importlib.util
import sys
from pathlib import Path

import pytest

from assay.core.record import Figure, Record
from assay.search.halving import Rules, Watch, exhaust, search
from assay.search.objective import parse_objective
from assay.search.space import Form, Layout

_SPEC = importlib.util.spec_from_file_location("landscape", Path(__file__).with_name("landscape.py"))
landscape = importlib.util.module_from_spec(_SPEC)
sys.modules["landscape"] = landscape
_SPEC.loader.exec_module(landscape)
Landscape, LAYOUTS, space = landscape.Landscape, landscape.LAYOUTS, landscape.space

THROUGHPUT = parse_objective("throughput")
FAMILIES = ("onnxruntime fp32", "openvino fp32", "openvino bf16", "torch fp32", "torch bf16")
SPEEDS = [
    dict(zip(FAMILIES, speeds, strict=True))
    for speeds in ((80, 90, 300, 30, 50), (200, 190, 180, 60, 20), (45, 60, 65, 25, 40), (500, 520, 410, 400, 300))
]


@pytest.mark.parametrize("speed", SPEEDS)
@pytest.mark.parametrize("seed", range(5))
def test_within_five_percent_in_a_quarter_of_the_time(speed, seed):
    """Noise of a few percent, best batch sizes anywhere; the finals, which come after, are not even counted."""
    peak = {name: landscape.BATCHES[(i + seed) % 5] for i, name in enumerate(FAMILIES)}
    layout = {LAYOUTS[0]: 1.0, LAYOUTS[1]: (0.8, 1.1, 1.5)[seed % 3], LAYOUTS[2]: 0.6}
    over = space(*FAMILIES)
    assert len(over) >= 60
    mine, all_of_them = (Landscape(speed, peak, layout, noise=0.04, seed=seed) for _ in range(2))
    found = search(over, THROUGHPUT, mine)
    whole = exhaust(over, THROUGHPUT, all_of_them, Rules().full_s)
    assert len({p for p, _ in all_of_them.asked}) == len(over)
    assert mine.rate(found.best.point) >= 0.95 * mine.rate(whole.best.point)
    assert mine.spent_s <= 0.25 * all_of_them.spent_s


def test_without_noise_the_best_point_of_all_is_found():
    over = space(*FAMILIES, forms=(Form(static=True), Form()))
    machine = Landscape(SPEEDS[0], {"openvino bf16": 16})
    found = search(over, THROUGHPUT, machine)
    assert found.best.point == machine.best(over)
    assert found.best.rung == "full"
    assert found.complete


def test_it_is_deterministic():
    over = space(*FAMILIES)
    first, second = (Landscape(SPEEDS[1], noise=0.05) for _ in range(2))
    one, other = (search(over, THROUGHPUT, machine) for machine in (first, second))
    assert [(s.point, s.value) for s in one.standings] == [(s.point, s.value) for s in other.standings]
    assert first.asked == second.asked


def test_leaders_are_measured_longer_than_the_others():
    machine = Landscape(SPEEDS[3], noise=0.02)
    search(space(*FAMILIES), THROUGHPUT, machine)
    short = [e.seconds for _, e in machine.asked if e.rung == "short"]
    full = [p for p, e in machine.asked if e.rung == "full"]
    assert set(short) == {Rules().short_s}
    assert 0 < len(full) <= Rules().leaders < len(short)


def test_what_was_not_tried_has_a_reason():
    over = space(*FAMILIES)
    machine = Landscape(SPEEDS[0])
    found = search(over, THROUGHPUT, machine)
    left = {item.family: item for item in found.left}
    tried = {name: sum(s.point.family == name for s in found.standings) for name in FAMILIES}
    assert {name: item.points for name, item in left.items()} == {
        f.name: len(f) - tried[f.name] for f in over.families if tried[f.name] < len(f)
    }
    assert "given up" in left["torch fp32"].reason
    assert "no neighbour" in left["openvino bf16"].reason


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lucky_trial_does_not_decide(family):
    """One short trial says four times the truth: whatever was given up against it is tried again."""
    over = space(*FAMILIES)
    machine = Landscape(SPEEDS[0], noise=0.02)
    machine.lucky = {landscape.Point(family, 4, LAYOUTS[0], Form(static=True)): 4.0}
    found = search(over, THROUGHPUT, machine)
    assert machine.rate(found.best.point) >= 0.95 * machine.rate(machine.best(over))


def test_a_family_that_crashes_does_not_end_the_search():
    machine = Landscape(SPEEDS[0], broken={"openvino bf16"})
    found = search(space(*FAMILIES), THROUGHPUT, machine)
    assert found.best.point.family == "openvino fp32"
    assert "it crashed" in next(item.reason for item in found.left if item.family == "openvino bf16")


def test_nothing_works():
    machine = Landscape(SPEEDS[0], broken=set(FAMILIES))
    found = search(space(*FAMILIES), THROUGHPUT, machine)
    assert found.best is None
    assert all("it crashed" in s.reason for s in found.standings)


def test_when_time_runs_out_the_best_so_far_stands():
    machine = Landscape(SPEEDS[0])
    notes = []
    watch = Watch(time_left=lambda: 6.0 - machine.spent_s, note=notes.append)
    found = search(space(*FAMILIES), THROUGHPUT, machine, watch=watch)
    assert not found.complete
    assert found.best.value == max(s.value for s in found.standings if s.eligible)
    assert machine.spent_s < 9
    assert any("best so far" in text for text in notes)
    assert all("time" in item.reason or "given up" in item.reason or "scouting" in item.reason for item in found.left)


def test_one_trial_is_made_however_little_time_there_is():
    machine = Landscape(SPEEDS[0])
    found = search(space(*FAMILIES), THROUGHPUT, machine, watch=Watch(time_left=lambda: -1.0))
    assert found.trials == 1
    assert found.best is not None


def test_limits_keep_the_batch_small():
    """At 300 samples/s a p99 of 15 ms (1.2 times the call here) allows 3.75 rows in flight: batch 2 at best."""
    machine = Landscape(SPEEDS[0], {"openvino bf16": 16})
    objective = parse_objective("throughput where p99 < 15ms")
    over = space(*FAMILIES)
    found = search(over, objective, machine)
    allowed = [p for p in over.points() if 1.2 * p.batch / machine.rate(p) <= 0.015]
    assert 1.2 * found.best.point.batch / machine.rate(found.best.point) <= 0.015
    assert machine.rate(found.best.point) == max(machine.rate(p) for p in allowed)
    broken = [s for s in found.standings if s.broken]
    assert broken and all("p99 < 15ms" in s.broken[0] for s in broken)


def test_no_point_holds_the_limits():
    found = search(space(*FAMILIES), parse_objective("throughput where memory < 1MB"), Landscape(SPEEDS[0]))
    assert found.best is None
    assert any(s.broken for s in found.standings)


def test_a_latency_is_made_small():
    machine = Landscape(SPEEDS[1])
    found = search(space(*FAMILIES), parse_objective("latency"), machine)
    over = space(*FAMILIES)
    assert found.best.point == min(over.points(), key=lambda p: p.batch / machine.rate(p))


def test_the_largest_machine_layout_is_scouted():
    wide = Layout(8, 1)
    machine = Landscape(SPEEDS[0], layout={**dict.fromkeys(LAYOUTS, 1.0), wide: 4.0})
    families = tuple(
        landscape.Family(name, landscape.BATCHES, (*LAYOUTS, wide), (Form(static=True),)) for name in FAMILIES
    )
    found = search(landscape.Space(families), THROUGHPUT, machine)
    assert found.best.point.layout == wide


def test_no_trial_begins_that_would_not_end_in_time():
    """A clock that the machine moves: every trial takes its measurement and what opening took before."""
    from assay.core import clock

    class Timed(Landscape):
        def __call__(self, point, effort):
            records = super().__call__(point, effort)
            self.ended.append(self.spent_s)
            return records

    for open_s, budget_s in ((0.3, 4.0), (1.0, 8.0), (2.5, 16.0)):
        machine = Timed(SPEEDS[0], open_s=open_s)
        machine.ended = []
        hands = clock.Clock(lambda machine=machine: machine.spent_s, lambda s: None, clock.REAL.wall)
        with clock.use(hands):
            found = search(
                space(*FAMILIES),
                THROUGHPUT,
                machine,
                watch=Watch(time_left=lambda m=machine, b=budget_s: b - m.spent_s),
            )
        assert not found.complete and found.trials == len(machine.ended) > 2
        assert machine.ended[-1] <= budget_s + 0.5, "calls of another batch size may take a little longer"


@pytest.mark.parametrize("objective", ["throughput", "latency"])
@pytest.mark.parametrize("low", [0.0, -3.0])
def test_an_interval_that_reaches_zero_ends_no_search(objective, low):
    """A short trial has few values, and the interval of a few may reach below zero."""
    figure = parse_objective(objective).figure

    def trial(point, effort):
        found = {figure: Figure(10.0 * point.batch, "", low=low, high=500.0)}
        return [Record("measure", {"candidate": str(point)}, figures=found)]

    found = search(space("a", "b"), parse_objective(objective), trial)
    assert found.complete and found.best.point.batch == (16 if objective == "throughput" else 1)
