"""The policies on a virtual clock: exact moments, exact sizes.  Several names are Triton's own promises."""

from __future__ import annotations

import math

import pytest

from assay.batching.errors import Expired, QueueFull, Rejected
from assay.core.errors import BadInput

LINEAR = {1: [0.0022], 16: [0.0052]}  # 2 + 0.2 b ms


def test_eager_serves_what_waits(desk):
    d = desk(policy="eager", max_batch=4)
    first = [d.offer(0.0) for _ in range(3)]
    assert d.take(0.0) == first
    rest = [d.offer(0.1) for _ in range(6)]
    assert d.take(0.1) == rest[:4]
    assert d.take(0.1) == rest[4:]
    assert d.take(0.1) is None


def test_delay_zero_never_waits(desk):
    d = desk(policy="delay", max_batch=4)
    assert [d.offer(1.0)] == d.take(1.0)


def test_queue_delay_only(desk):
    """Neither full nor preferred: the oldest request's age decides, counted from when it came."""
    d = desk(policy="delay", max_batch=8, max_delay_s=0.005)
    waiting = [d.offer(0.0)]
    assert d.take(0.0) is None
    assert d.scheduler.wait_until_s == pytest.approx(0.005)
    waiting.append(d.offer(0.004))
    assert d.take(0.0049) is None
    assert d.take(0.005) == waiting


def test_max_batch_goes_at_once(desk):
    d = desk(policy="delay", max_batch=2, max_delay_s=1.0)
    waiting = [d.offer(0.0), d.offer(0.0), d.offer(0.0)]
    assert d.take(0.0) == waiting[:2]
    assert d.take(0.0) is None


def test_preferred_size_goes_at_once_and_others_wait(desk):
    d = desk(policy="delay", max_batch=8, max_delay_s=1.0, preferred=(2, 4))
    waiting = [d.offer(0.0)]
    assert d.take(0.0) is None
    waiting += [d.offer(0.1) for _ in range(4)]
    assert d.take(0.1) == waiting[:4]
    assert d.take(0.1) is None
    assert d.take(1.1) == waiting[4:]


def test_a_batch_grows_until_an_instance_starts_it(desk):
    d = desk(policy="delay", max_batch=8, max_delay_s=0.01)
    waiting = [d.offer(t) for t in (0.0, 0.02, 0.03, 0.04)]
    assert d.take(0.05) == waiting


def test_larger_than_max_batch_is_refused(desk):
    with pytest.raises(BadInput, match="takes 1 to 4"):
        desk(max_batch=4).scheduler.check(5, 0)


def test_different_shape_never_shares_a_batch(desk):
    d = desk(policy="eager", max_batch=4)
    a, b, c = d.offer(0.0, lane="a"), d.offer(0.1, lane="b"), d.offer(0.2, lane="a")
    assert d.take(0.3) == [a, c]
    assert d.take(0.3) == [b]


def test_different_shape_waits_its_own_delay(desk):
    d = desk(policy="delay", max_batch=2, max_delay_s=0.01)
    old = d.offer(0.0, lane="a")
    full = [d.offer(0.001, lane="b"), d.offer(0.002, lane="b")]
    assert d.take(0.002) == full
    assert d.take(0.009) is None
    assert d.take(0.01) == [old]


def test_preserve_ordering_merges_neighbours_only(desk):
    d = desk(policy="eager", max_batch=4, preserve_ordering=True)
    a, b, c = d.offer(0.0, lane="a"), d.offer(0.1, lane="b"), d.offer(0.2, lane="a")
    assert [d.take(0.3), d.take(0.3), d.take(0.3)] == [[a], [b], [c]]


def test_rows_of_a_request_stay_together(desk):
    d = desk(policy="eager", max_batch=4)
    waiting = [d.offer(0.0, rows=r) for r in (3, 2, 2)]
    assert d.take(0.0) == waiting[:1]
    assert d.take(0.0) == waiting[1:]


def test_max_queue_size(desk):
    d = desk(policy="eager", max_batch=1, max_queue=2, points={1: [0.01]})
    d.offer(0.0)
    assert d.take(0.0) is not None
    d.offer(0.0)
    d.offer(0.0)
    with pytest.raises(QueueFull) as caught:
        d.offer(0.0)
    assert caught.value.retry_after_s == pytest.approx(0.03)  # the running one and both that wait
    assert d.scheduler.counters.dropped["rejected"] == 1


def test_policy_timeout_reject(desk):
    d = desk(policy="eager", max_batch=4)
    late = d.offer(0.0, deadline_s=0.01)
    kept = d.offer(0.0)
    assert d.take(0.02) == [kept]
    assert d.scheduler.dropped == [late]
    assert isinstance(late.error, Expired)


def test_policy_timeout_delay_serves_last(desk):
    d = desk(policy="eager", max_batch=1, on_timeout="delay")
    late, other = d.offer(0.0, deadline_s=0.01), d.offer(0.015)
    newest = d.offer(0.02)
    assert [d.take(0.02), d.take(0.02), d.take(0.02)] == [[other], [newest], [late]]
    assert late.error is None
    assert d.scheduler.dropped == []


def test_a_timeout_within_the_delay_is_served_not_lost(desk):
    d = desk(policy="delay", max_batch=4, max_delay_s=1.0)
    hurried = d.offer(0.0, deadline_s=0.2)
    assert d.take(0.1) is None
    assert 0.19 < d.scheduler.wait_until_s < 0.2
    assert d.take(d.scheduler.wait_until_s + 0.004) == [hurried], "a thread wakes up a little later than it was told to"


def test_slo_is_a_deadline_that_can_only_be_earlier(desk):
    d = desk(policy="eager", slo_s=0.1)
    assert d.offer(1.0).deadline_s == pytest.approx(1.1)
    assert d.offer(1.0, deadline_s=1.05).deadline_s == pytest.approx(1.05)
    assert d.offer(1.0, deadline_s=9.0).deadline_s == pytest.approx(1.1)


def test_priority_levels(desk):
    d = desk(policy="eager", max_batch=2, priority_levels=3, default_priority=2)
    low = d.offer(0.0, priority=3)
    usual = [d.offer(0.1, priority=0), d.offer(0.2, priority=2)]
    high = d.offer(0.3, priority=1)
    assert [d.take(0.4), d.take(0.4)] == [[high, usual[0]], [usual[1], low]]
    with pytest.raises(BadInput, match="priority 4"):
        d.scheduler.check(1, 4)


def test_delay_counts_from_the_oldest_not_from_the_first_in_line(desk):
    d = desk(policy="delay", max_batch=8, max_delay_s=0.01, priority_levels=2)
    low, high = d.offer(0.0, priority=2), d.offer(0.009, priority=1)
    assert d.take(0.01) == [high, low]


def test_adaptive_before_anything_is_known_is_eager(desk):
    d = desk(policy="adaptive", max_batch=4)
    waiting = [d.offer(0.0) for _ in range(5)]
    assert d.take(0.0) == waiting[:4]


def test_adaptive_caps_at_the_knee(desk):
    """1 + 8 b ms: batch 4 has 97 % of the best rate within 16, a larger one only adds latency."""
    d = desk(policy="adaptive", max_batch=16, points={b: [0.001 + 0.008 * b] for b in (1, 16)})
    rates = {b: b / (0.001 + 0.008 * b) for b in range(1, 17)}
    knee = next(b for b, r in rates.items() if r >= 0.97 * rates[16])
    assert knee == 4
    for _ in range(16):
        d.offer(0.0)
    taken = d.take(0.0)
    assert taken is not None and len(taken) == knee


def test_adaptive_takes_the_largest_batch_that_keeps_the_deadline(desk):
    d = desk(policy="adaptive", max_batch=16, points=LINEAR)
    waiting = [d.offer(0.0, deadline_s=0.0031)] + [d.offer(0.0) for _ in range(9)]
    assert d.take(0.0) == waiting[:5]  # t(5) = 3.0 ms, t(6) = 3.2 ms


def test_adaptive_drops_a_head_that_cannot_finish(desk):
    d = desk(policy="adaptive", max_batch=16, points=LINEAR)
    lost, kept = d.offer(0.0, deadline_s=0.004), d.offer(0.0, deadline_s=0.1)
    assert d.take(0.003) == [kept]
    assert d.scheduler.dropped == [lost]
    assert isinstance(lost.error, Expired)


def test_adaptive_a_lost_request_in_the_middle_does_not_cut_the_batch(desk):
    d = desk(policy="adaptive", max_batch=16, points=LINEAR)
    first, lost, last = d.offer(0.0), d.offer(0.0, deadline_s=0.004), d.offer(0.0)
    assert d.take(0.003) == [first, last]
    assert d.scheduler.dropped == [lost]


def test_adaptive_refuses_at_once_what_it_cannot_finish_in_time(desk):
    d = desk(policy="adaptive", max_batch=4, points={1: [0.01], 4: [0.01]})
    d.offer(0.0)
    assert d.take(0.0) is not None
    d.offer(0.001, deadline_s=0.0201)  # starts at 10 ms, done at 20 ms
    with pytest.raises(Rejected) as caught:
        d.offer(0.001, deadline_s=0.0199)
    assert caught.value.retry_after_s == pytest.approx(0.009)
    assert not isinstance(caught.value, QueueFull)
    assert d.scheduler.counters.dropped["rejected"] == 1


def test_static_policies_admit_everything(desk):
    d = desk(policy="eager", max_batch=4, points={1: [1.0]})
    assert d.offer(0.0, deadline_s=0.001).error is None


def _two_groups(d, think_s: float, rounds: int) -> float:
    """Five and five clients in turn, the state a closed loop of ten falls into; returns the time after."""
    now_s = 0.0
    for _ in range(5):
        d.offer(now_s)
    d.take(now_s)
    for _ in range(5):
        d.offer(now_s)
    for _ in range(rounds):
        now_s += 0.003
        d.finish(now_s)
        taken = d.take(now_s)
        assert taken is not None
        for _ in range(5):
            d.offer(now_s + think_s)
    return now_s


def test_adaptive_holds_for_callers_that_come_back(desk):
    d = desk(policy="adaptive", max_batch=16, points={b: [0.002 + 0.0002 * b] for b in (1, 5, 10, 16)})
    now_s = _two_groups(d, 0.0001, rounds=8) + 0.003
    d.finish(now_s)
    assert d.take(now_s) is None
    assert now_s < d.scheduler.wait_until_s <= now_s + 0.00013
    for _ in range(4):
        d.offer(now_s + 0.0001)
        assert d.take(now_s + 0.0001) is None
    d.offer(now_s + 0.0001)
    merged = d.take(now_s + 0.0001)
    assert merged is not None and len(merged) == 10


def test_adaptive_stops_holding_when_nobody_comes_back(desk):
    """Ever fewer come during each batch, none soon after it: the first wait in vain teaches it."""
    d = desk(policy="adaptive", max_batch=16, points={b: [0.002 + 0.0002 * b] for b in (1, 5, 10, 16)})
    now_s = _two_groups(d, 0.0001, rounds=8) + 0.003
    held = []
    for fewer in (4, 3, 2, 1):
        d.finish(now_s)
        taken = d.take(now_s)
        held.append(taken is None)
        if taken is None:
            now_s = d.scheduler.wait_until_s
            taken = d.take(now_s)
        assert taken is not None and len(taken) == fewer + 1
        now_s += 0.002
        for _ in range(fewer):
            d.offer(now_s)
        now_s += 0.001
    assert held == [True, False, False, False]


def test_adaptive_one_caller_never_waits_for_itself(desk):
    d = desk(policy="adaptive", max_batch=16, points=LINEAR)
    now_s = 0.0
    for _ in range(40):
        d.offer(now_s)
        assert d.take(now_s) is not None
        now_s += 0.0022
        d.finish(now_s)
        now_s += 0.0001


def test_adaptive_never_holds_while_another_instance_runs(desk):
    d = desk(policy="adaptive", max_batch=16, instances=2, points={b: [0.002 + 0.0002 * b] for b in (1, 5, 10, 16)})
    now_s = _two_groups(d, 0.0001, rounds=8) + 0.003
    assert d.take(now_s) is not None
    d.offer(now_s)
    d.finish(now_s)
    assert d.take(now_s) is not None


def test_adaptive_leaves_a_rest_where_padding_loses(desk):
    """Five rows, compiled sizes 4 and 16, and t(16) four times t(4): four now, one next."""
    d = desk(policy="adaptive", max_batch=16, buckets=(4, 16), points={4: [0.004], 16: [0.0155]})
    for _ in range(5):
        d.offer(0.0)
    taken = d.take(0.0)
    assert taken is not None and len(taken) == 4
    flat = desk(policy="adaptive", max_batch=16, buckets=(4, 16), points={4: [0.004], 16: [0.0041]})
    for _ in range(5):
        flat.offer(0.0)
    taken = flat.take(0.0)
    assert taken is not None and len(taken) == 5
    assert flat.scheduler.counters.padded_rows == 11


def test_nothing_waits_forever_is_said(desk):
    d = desk(policy="delay", max_delay_s=1.0)
    assert d.take(0.0) is None
    assert d.scheduler.wait_until_s == math.inf


def test_admission_counts_only_what_is_served_before(desk):
    """Ten low-priority requests wait: a high-priority one overtakes them, a low-priority one is too late."""
    d = desk(policy="adaptive", max_batch=1, priority_levels=2, points={1: [0.01]})
    for _ in range(10):
        d.offer(0.0, priority=2)
    assert d.offer(0.0, priority=1, deadline_s=0.0101).error is None
    with pytest.raises(Rejected):
        d.offer(0.0, priority=2, deadline_s=0.05)
    assert d.offer(0.0, priority=2, deadline_s=0.1201).error is None


def test_a_deadline_that_had_passed_is_said_so(desk):
    d = desk(policy="adaptive", points={1: [0.01]})
    with pytest.raises(Rejected, match="its deadline passed 5 ms before it came") as caught:
        d.offer(1.0, deadline_s=0.995)
    assert caught.value.retry_after_s is None
