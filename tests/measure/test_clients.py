import threading

import numpy as np
import pytest

from assay.batching.batcher import DynamicBatcher
from assay.batching.direct import Direct
from assay.batching.settings import BatcherSettings
from assay.core.errors import BadInput, EngineFailed
from assay.core.workload import Clients
from assay.measure.clients import measure_clients
from assay.measure.torchpipe import ROWS, closed_loop_row


def load(clients=4, total=200, **settings):
    return Clients(clients, total, **{"warmup_s": 0.0, **settings})


def echo(feed):
    return {"y": np.repeat(feed["x"][:, :1], 3, axis=1)}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clients": 0}, "at least one client, not 0"),
        ({"clients": -3}, "at least one client, not -3"),
        ({"total": 0}, "do not give each of 4 clients one"),
        ({"clients": 10, "total": 9}, "9 samples in requests of 1 do not give each of 10 clients one"),
        ({"total": 12, "request_batch": 4}, "12 samples in requests of 4 do not"),
        ({"request_batch": 0}, "at least one row, not 0"),
    ],
)
def test_a_load_that_cannot_be_is_refused_before_it_runs(settings, said):
    with pytest.raises(BadInput, match=said):
        load(**settings)


@pytest.mark.parametrize("how", ["direct", "batcher", "threads"])
def test_every_request_is_answered_recorded_and_counted(session_of, signature, feeds, how):
    session = session_of(echo, signature(), parallelism=2)
    given = feeds(2, count=3)
    asked = load(4, 400, request_batch=2, threads=how == "threads")
    if how == "direct":
        with Direct(session) as target:
            found = measure_clients(target, given, asked)
    elif how == "batcher":
        with DynamicBatcher(session, BatcherSettings(max_batch=8)) as target:
            found = measure_clients(target, given, asked)
        assert target.statistics.completed == len(found.values)
    else:
        found = measure_clients(session.run, given, asked)
    warm = len(found.values) - 200
    assert 4 <= warm <= 12
    assert found.warmup[:warm].all()
    assert (found.values > 0).all()
    assert found.conditions["clients"] == 4
    assert found.conditions["total"] == 400
    row = found.details["torchpipe"]
    assert row["total_number"] == 400
    queued, ended = found.columns["queued_s"][warm:], found.columns["ended_s"][warm:]
    assert ended - queued == pytest.approx(found.values[warm:])
    assert row["throughput::qps"] == pytest.approx(400 / (ended.max() - queued.min()))
    assert row["throughput::avg"] == pytest.approx(4000 / row["throughput::qps"])
    assert found.figures["throughput"].value > 0
    assert found.figures["cpu.cores"].value > 0


def test_never_more_than_the_clients_are_outstanding(session_of, signature, feeds):
    inside, most, lock = [0], [0], threading.Lock()
    free = threading.Event()

    def function(feed):
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        free.wait(0.0005)
        with lock:
            inside[0] -= 1
        return echo(feed)

    with Direct(session_of(function, signature(), parallelism=8)) as target:
        found = measure_clients(target, feeds(1), load(3, 150))
    assert most[0] <= 3
    warm = len(found.values) - 150
    events = [(t, 1) for t in found.columns["queued_s"][warm:]] + [(t, -1) for t in found.columns["ended_s"][warm:]]
    depth = np.cumsum([step for _, step in sorted(events)])
    assert depth.max() == 3


def test_the_service_is_told_apart_from_the_waiting(session_of, signature, feeds):
    """One instance, four clients: a request waits for the three before it."""
    free = threading.Event()

    def function(feed):
        free.wait(0.002)
        return echo(feed)

    with Direct(session_of(function, signature())) as target:
        found = measure_clients(target, feeds(1), load(4, 160))
    assert found.figures["latency.mean"].value > 2 * found.figures["service.mean"].value
    assert found.figures["service.mean"].value >= 0.0019


@pytest.mark.parametrize("how", ["virtual", "threads"])
def test_a_failing_model_is_raised_and_nothing_is_left_behind(session_of, signature, feeds, how):
    calls = []

    def function(feed):
        calls.append(1)
        if len(calls) == 50:
            raise EngineFailed("device lost")
        return echo(feed)

    session = session_of(function, signature(), parallelism=2)
    before = threading.active_count()
    with pytest.raises(EngineFailed, match="device lost"):
        if how == "threads":
            measure_clients(session.run, feeds(1), load(4, 5000, threads=True))
        else:
            with Direct(session) as target:
                measure_clients(target, feeds(1), load(4, 5000))
    assert threading.active_count() == before


def test_a_full_queue_is_an_error_not_a_hang(session_of, signature, feeds):
    with (
        pytest.raises(Exception, match="queue"),
        DynamicBatcher(session_of(echo, signature()), BatcherSettings(max_batch=2, max_queue=3)) as target,
    ):
        measure_clients(target, feeds(1), load(50, 500))


def test_feeds_take_turns(session_of, signature, feeds):
    seen = []

    def function(feed):
        seen.append(float(feed["x"][0, 0]))
        return echo(feed)

    given = feeds(1, count=5)
    with Direct(session_of(function, signature())) as target:
        measure_clients(target, given, load(2, 50))
    counts = {float(f["x"][0, 0]): 0 for f in given}
    for value in seen:
        counts[value] += 1
    assert max(counts.values()) - min(counts.values()) <= 1


def test_torchpipes_definitions():
    seconds = np.random.default_rng(0).permutation(np.arange(1, 101)) * 1e-3
    row = closed_loop_row(seconds, 2.0, Clients(10, 100), 3.0)
    assert tuple(row) == ROWS
    assert row["throughput::qps"] == 50
    assert row["throughput::avg"] == 200  # 1000 · 10 / 50
    assert row["latency::TP50"] == pytest.approx(51)
    assert row["latency::TP90"] == pytest.approx(91)
    assert row["latency::TP99"] == pytest.approx(100)
    assert row["latency::avg"] == pytest.approx(50.5)
    assert (row["-50"], row["-20"], row["-10"], row["-1"]) == pytest.approx((51, 81, 91, 100))
    assert row["cpu_usage"] == pytest.approx(150)
    assert row["gpu_usage"] is None


def test_a_request_of_several_samples_counts_for_each_and_too_few_are_withheld():
    row = closed_loop_row(np.array([0.001, 0.003]), 1.0, Clients(1, 8, request_batch=4), 0.5)
    assert row["total_number"] == 8
    assert (row["-1"], row["-10"], row["-20"], row["-50"]) == (3.0, None, None, None)
    assert row["latency::TP50"] == 3.0
    assert row["latency::avg"] == 2.0
