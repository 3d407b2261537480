import pytest

from assay.core.record import Figure
from assay.judge.choose import choose
from assay.judge.policy import DEFAULT_POLICY, Policy


def policy(text):
    return Policy.parse(text, "p.toml")


@pytest.fixture
def slow(evidence):
    return evidence("torch")


@pytest.fixture
def fast(evidence):
    return evidence("openvino", "bf16")


def pick(*sides, limits=DEFAULT_POLICY, records=None):
    records = [r for side in sides for r in side.all()] if records is None else records
    return choose(records, limits, [side.candidate for side in sides])


def test_the_fastest_that_passes(slow, fast):
    choice = pick(slow, fast, records=[*slow.all(), *fast.all(rate8=900.0)])
    assert (choice.candidate, choice.batch, choice.state) == (fast.candidate.digest, 8, "passed")
    assert [r.won for r in choice.rows] == [True, False, False, False]
    assert choice.rows[0].reason == "the fastest: 900 samples/s"
    assert "torch fp32, batch 8: slower: 300 samples/s against 900 samples/s" in choice.reasons


@pytest.mark.parametrize("broken", ["verify", "evaluate", "crash", "unverified"])
def test_never_one_whose_numbers_or_accuracy_are_not_in_order(slow, fast, broken):
    records = fast.all(rate8=900.0)
    if broken == "verify":
        records.append(fast.verify(rms=1.0))
    elif broken == "evaluate":
        records.append(fast.evaluate(drop=0.5, low=0.4, high=0.6))
    elif broken == "crash":
        records.append(fast.evaluate(status="failed", reason="it died"))
    else:
        records = records[1:]
    choice = pick(slow, fast, records=[*slow.all(), *records])
    assert choice.candidate == slow.candidate.digest
    (row,) = [r for r in choice.rows if r.candidate == fast.candidate.digest]
    assert row.reason.startswith(("numeric:", "accuracy.drop:"))
    alone = pick(fast, records=records)
    assert (alone.candidate, alone.batch, alone.state) == (None, None, "failed")


def test_a_batch_size_that_was_not_verified_is_not_chosen(fast):
    records = [fast.verify(batches=(1, 2)), *fast.all()[1:]]
    choice = pick(fast, records=records)
    assert choice.batch == 1
    assert any("batch 8: its outputs were not compared at batch 8" in text for text in choice.reasons)


def test_ties_go_to_the_higher_precision_and_say_so(slow, fast):
    records = [*slow.all(rate1=299.0), *fast.all(rate8=301.0)]
    choice = pick(slow, fast, records=records)
    assert (choice.candidate, choice.batch) == (slow.candidate.digest, 1)
    assert "tied with the fastest (openvino bf16, batch 8: 301 samples/s, intervals overlap)" in choice.rows[0].reason
    clear = pick(slow, fast, records=[*slow.all(), *fast.all(rate8=330.0)])
    assert clear.candidate == fast.candidate.digest


def test_ties_between_equals_go_to_the_simpler(evidence):
    plain, tuned = evidence("openvino"), evidence("openvino", threads=2, streams=1)
    choice = pick(tuned, plain, records=[*tuned.all(rate8=301.0), *plain.all()])
    assert (choice.candidate, choice.batch) == (plain.candidate.digest, 8)


def test_the_fastest_may_be_the_simplest_of_its_ties(slow, fast):
    choice = pick(slow, fast, records=[*slow.all(rate8=302.0), *fast.all()])
    assert choice.candidate == slow.candidate.digest
    assert "tied with 1 more" in choice.rows[0].reason


def test_latency_as_the_objective(slow, fast):
    records = [*slow.all(rate1=200.0), *fast.all(rate1=100.0, rate8=900.0)]
    choice = pick(slow, fast, records=records, limits=policy("[objective]\nminimize = 'latency.p50'"))
    assert (choice.candidate, choice.batch) == (slow.candidate.digest, 1)
    assert choice.objective == "minimize latency.p50"
    assert "5 ms" in choice.rows[0].reason


def test_memory_as_the_objective(slow, fast):
    small = slow.measure(1, scenario="latency", figures={"memory.peak": Figure(1e6, "B")})
    records = [slow.verify(), slow.evaluate(), small, *fast.all()]
    choice = pick(slow, fast, records=records, limits=policy("[objective]\nminimize = 'memory.peak'"))
    assert choice.candidate == slow.candidate.digest
    assert choice.rows[0].reason.startswith("the best: ")


def test_a_fixed_batch_size(fast):
    assert pick(fast, limits=policy("[objective]\nmaximize = 'throughput'\nbatch = 1")).batch == 1


def test_a_missed_speed_limit_rules_out(slow, fast):
    choice = pick(slow, fast, records=[*slow.all(), *fast.all(rate8=900.0)], limits=policy("[latency]\np50 = '5ms'"))
    assert choice.candidate is None
    assert all("latency.p50" in r.reason for r in choice.rows)


def test_what_could_not_be_shown_is_second_best(slow, fast):
    blind = [fast.verify(), fast.evaluate(), fast.measure(8, 900.0, p99=None, scenario="latency")]
    limits = policy("[latency]\np99 = '15ms'\nbatch = 8")
    both = pick(slow, fast, records=[*slow.all(), *blind], limits=limits)
    assert (both.candidate, both.state) == (slow.candidate.digest, "passed")
    assert any("not every limit could be shown: latency.p99" in text for text in both.reasons)
    alone = pick(fast, records=blind, limits=limits)
    assert (alone.candidate, alone.state) == (fast.candidate.digest, "not_shown")


def test_the_offline_rate_counts_before_one_callers(fast):
    records = [
        fast.verify(),
        fast.evaluate(),
        fast.measure(1, 500.0, scenario="latency"),
        fast.measure(1, 400.0, scenario="offline"),
    ]
    assert pick(fast, records=records).rows[0].figure.value == 400.0


def test_nothing_measured_and_nothing_at_all(fast):
    choice = pick(fast, records=[fast.verify(), fast.evaluate()])
    assert choice.candidate is None
    assert "no throughput was measured" in choice.reasons[0]
    assert choose([], DEFAULT_POLICY, []).reasons == ("there are no candidates",)


def test_a_measurement_that_failed_loses_with_its_reason(fast):
    broken = fast.measure(8, scenario="offline", status="failed", reason="out of memory", figures={})
    choice = pick(fast, records=[fast.verify(), fast.evaluate(), broken, fast.measure(1)])
    assert choice.batch == 1
    assert any("out of memory" in text for text in choice.reasons)


def test_by_memory_nothing_is_said_of_speed(evidence):
    def records(side, size):
        spread = {"memory.peak": Figure(size, "B", size - 10e6, size + 10e6)}
        return [side.verify(), side.evaluate(), side.measure(8, scenario="latency", figures=spread)]

    simple, small = evidence("torch"), evidence("openvino", "bf16")
    limits = policy('[objective]\nminimize = "memory.peak"\nbatch = 8')
    choice = choose([*records(simple, 505e6), *records(small, 500e6)], limits, [simple.candidate, small.candidate])
    assert choice.candidate == simple.candidate.digest
    assert choice.rows[0].reason.startswith("tied with the best (openvino bf16, batch 8")
