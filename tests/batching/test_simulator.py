"""The simulator against arithmetic and against the published behaviour of batch queues."""

from __future__ import annotations

import numpy as np
import pytest

from assay.batching.arrivals import constant, poisson, trace
from assay.batching.batch_times import BatchTimes
from assay.batching.settings import BatcherSettings
from assay.batching.simulator import Clients, Machine, highest_rate, simulate
from assay.core.errors import BadInput


def linear(base_s: float, each_s: float) -> Machine:
    return Machine(lambda b: base_s + each_s * b)


def test_the_same_load_gives_the_same_answer():
    settings = BatcherSettings(policy="adaptive", slo_s=0.02, instances=2)
    first, second = (simulate(settings, linear(0.002, 0.001), poisson(1500, 800, seed=5)) for _ in range(2))
    np.testing.assert_array_equal(first.latency_s, second.latency_s)
    assert first.statistics == second.statistics


def test_an_unloaded_machine_answers_after_one_service_time():
    run = simulate(BatcherSettings(policy="eager"), linear(0.002, 0.001), constant(10, 50))
    np.testing.assert_allclose(run.latency_s, 0.003)
    assert run.throughput == pytest.approx(50 / (4.9 + 0.003))


def test_an_overloaded_machine_gives_its_best_rate():
    run = simulate(BatcherSettings(policy="eager", max_batch=8), linear(0.002, 0.001), constant(5000, 4000))
    assert run.throughput == pytest.approx(8 / 0.010, rel=0.01)


def test_the_delay_is_in_the_latency():
    settings = BatcherSettings(policy="delay", max_batch=8, max_delay_s=0.005)
    run = simulate(settings, linear(0.002, 0.001), constant(10, 20))
    np.testing.assert_allclose(run.latency_s, 0.008)


def test_overhead_counts_per_batch():
    machine = Machine(lambda b: 0.001, overhead_s=0.001)
    run = simulate(BatcherSettings(policy="eager", max_batch=1), machine, Clients(1, 100))
    assert run.throughput == pytest.approx(500)


def test_closed_loop_falls_into_two_groups_and_adaptive_merges_them():
    """N / (2 τ0 + α N) against N / (τ0 + α N + r): 1667/s against 2439/s for ten clients."""
    load = Clients(10, 4000, think_s=0.0001, stagger_s=0.00001)
    eager = simulate(BatcherSettings(policy="eager", max_batch=16), linear(0.002, 0.0002), load)
    adaptive = simulate(BatcherSettings(policy="adaptive", max_batch=16), linear(0.002, 0.0002), load)
    assert eager.throughput == pytest.approx(10 / 0.006, rel=0.01)
    assert adaptive.throughput == pytest.approx(10 / 0.0041, rel=0.02)


def test_adaptive_costs_a_single_client_nothing():
    load = Clients(1, 500, think_s=0.0001)
    run = simulate(BatcherSettings(policy="adaptive", max_batch=16), linear(0.002, 0.0002), load)
    assert run.duration_s == pytest.approx(500 * 0.0022 + 499 * 0.0001, rel=1e-9)


def test_mean_batch_under_poisson_load():
    """Serve-all-waiting: mean batch λ τ0 / (1 - λ α), for λ α large enough that idling is rare."""
    rate, base, each = 3000.0, 0.002, 0.0002
    run = simulate(BatcherSettings(policy="eager", max_batch=512), linear(base, each), poisson(rate, 40_000, seed=1))
    assert run.statistics.mean_batch == pytest.approx(rate * base / (1 - rate * each), rel=0.05)


@pytest.mark.parametrize(
    ("base_s", "each_s", "limit_s", "instances"),
    [(0.002, 0.0002, 0.010, 1), (0.002, 0.0002, 0.010, 4), (0.001, 0.008, 0.050, 1), (0.001, 0.008, 0.050, 4)],
)
def test_goodput_of_adaptive_is_at_least_that_of_the_static_policies(base_s, each_s, limit_s, instances):
    machine = linear(base_s, each_s)

    def rate(policy: str, delay_s: float = 0.0) -> float:
        settings = BatcherSettings(max_batch=64, policy=policy, max_delay_s=delay_s, instances=instances)
        return highest_rate(settings, machine, limit_s, requests=2000)

    adaptive = rate("adaptive")
    assert adaptive >= max(rate("eager"), rate("delay", 0.002), rate("delay", 0.005))


def test_refused_requests_count_against_the_goodput():
    settings = BatcherSettings(policy="adaptive", max_batch=1, slo_s=0.015)
    run = simulate(settings, linear(0.0, 0.010), constant(200, 400))
    assert run.statistics.dropped["rejected"] == pytest.approx(200, abs=5)
    assert run.within(0.015) == pytest.approx(0.5, abs=0.02)
    assert np.nanmax(run.latency_s) <= 0.015 + 1e-9
    assert run.goodput(0.015) == pytest.approx(100, rel=0.02)


def test_closed_loop_clients_ask_again_after_a_refusal():
    settings = BatcherSettings(policy="eager", max_batch=1, max_queue=1)
    run = simulate(settings, linear(0.0, 0.010), Clients(4, 60, think_s=0.002))
    assert len(run.arrived_s) == 60
    assert run.answered + run.statistics.dropped["rejected"] == 60


def test_arrivals():
    assert np.diff(poisson(100, 20_000, seed=3)).mean() == pytest.approx(0.01, rel=0.03)
    np.testing.assert_array_equal(poisson(100, 10, seed=1), poisson(100, 10, seed=1))
    np.testing.assert_allclose(np.diff(constant(4, 5)), 0.25)
    np.testing.assert_allclose(trace([5.0, 5.5, 7.0]), [0, 0.5, 2.0])


@pytest.mark.parametrize(
    "make",
    [
        lambda: poisson(0, 10),
        lambda: poisson(float("nan"), 10),
        lambda: constant(1, 0),
        lambda: trace([]),
        lambda: trace([1.0, 0.5]),
        lambda: trace([0.0, float("nan")]),
        lambda: Clients(0, 10),
        lambda: Clients(5, 4),
        lambda: simulate(BatcherSettings(), linear(0.001, 0.0), np.array([])),
    ],
)
def test_loads_that_cannot_be(make):
    with pytest.raises(BadInput):
        make()


def test_no_answer_has_no_latency():
    settings = BatcherSettings(policy="adaptive", max_batch=1, slo_s=0.001)
    run = simulate(settings, linear(0.0, 0.010), constant(10, 5))
    assert run.answered == 0
    with pytest.raises(BadInput, match="no request was answered"):
        run.latency(0.5)


def test_every_simulated_request_is_accounted_for():
    settings = BatcherSettings(policy="adaptive", max_batch=4, slo_s=0.02, max_queue=6)
    run = simulate(settings, linear(0.002, 0.002), poisson(800, 1000, seed=2))
    said = run.statistics
    assert said.submitted == 1000
    assert said.submitted == said.completed + sum(said.dropped.values())
    assert said.completed == run.answered == sum(size * n for size, n in said.batches.items())
    assert said.dropped["rejected"] > 0
    assert said.pending == said.running == 0


def test_a_measured_machine_scatters_as_measured_and_keeps_its_curve():
    times = BatchTimes(8, points={1: [0.001, 0.002, 0.002, 0.002, 0.003], 8: [0.008, 0.01, 0.01, 0.01, 0.012]})
    machine = Machine.measured(times)
    for _ in range(64):
        times.observe(1, 5.0)
    run = simulate(BatcherSettings(max_batch=1, policy="eager"), machine, constant(10, 2000))
    assert set(np.round(run.latency_s, 9)) == {0.001, 0.0016, 0.002, 0.0024, 0.003}
    again = simulate(BatcherSettings(max_batch=1, policy="eager"), machine, constant(10, 2000))
    np.testing.assert_array_equal(run.latency_s, again.latency_s)
    with pytest.raises(BadInput, match="nothing was measured"):
        Machine.measured(BatchTimes(8))


def test_a_machine_that_takes_no_time_has_no_highest_rate():
    with pytest.raises(BadInput, match="2 rows takes no time"):
        highest_rate(BatcherSettings(max_batch=2), Machine(lambda b: 0.0 if b == 2 else 1.0), 0.01)


def without_deadlines(policy: str, machine: Machine, rate: float) -> float:
    """The 99th percentile of two instances under Poisson load."""
    settings = BatcherSettings(policy=policy, max_batch=8, instances=2)
    return simulate(settings, machine, poisson(rate, 6000, seed=1)).latency(0.99)


def test_where_batches_save_little_adaptive_answers_sooner_than_eager():
    """A CPU: t(8) is 7 t(1).  Whoever is batched waits for the last of the batch."""
    cpu = linear(0.0014, 0.0080)
    assert without_deadlines("adaptive", cpu, 100) < 0.75 * without_deadlines("eager", cpu, 100)
    assert without_deadlines("adaptive", cpu, 135) < 0.75 * without_deadlines("eager", cpu, 135)


def test_where_batches_save_much_adaptive_batches():
    gpu = linear(0.002, 0.0001)
    for rate in (500, 2000, 5000):
        assert without_deadlines("adaptive", gpu, rate) == pytest.approx(
            without_deadlines("eager", gpu, rate), rel=0.05
        )


def test_at_its_limit_adaptive_batches_wherever_that_gives_more():
    """A closed loop of many callers is always at the limit: the best rate, less what the knee gives up."""
    settings = BatcherSettings(policy="adaptive", max_batch=8, instances=2)
    run = simulate(settings, linear(0.0014, 0.0080), Clients(32, 4000))
    assert run.throughput > 0.96 * 2 * 8 / (0.0014 + 8 * 0.0080)
    assert run.throughput > 1.1 * 2 / (0.0014 + 0.0080)
