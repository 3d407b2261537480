from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.batching.buckets import Buckets
from assay.batching.forecast import forecast
from assay.core.errors import BadInput


def test_without_buckets_every_size_is_its_own():
    buckets = Buckets((), 5)
    assert [buckets.up(b) for b in range(1, 6)] == [1, 2, 3, 4, 5]
    assert buckets.down(3) == 3
    assert buckets.better(3, lambda b: float(b)) == 3


def test_up_and_down():
    buckets = Buckets((2, 4, 8), 8)
    assert [buckets.up(b) for b in range(1, 9)] == [2, 2, 4, 4, 8, 8, 8, 8]
    assert [buckets.down(b) for b in range(1, 9)] == [0, 2, 2, 4, 4, 4, 4, 8]


def test_the_largest_bucket_is_the_largest_batch():
    with pytest.raises(BadInput, match="largest bucket"):
        Buckets((2, 4), 8)


def test_better_compares_rows_per_second():
    buckets = Buckets((4, 16), 16)
    assert buckets.better(5, {4: 4.0, 16: 15.5}.__getitem__) == 4  # 1 a second against 0.32
    assert buckets.better(15, {4: 4.0, 16: 16.0}.__getitem__) == 4
    assert buckets.better(15, {4: 4.0, 16: 15.0}.__getitem__) == 15  # equal: nobody is left behind
    assert buckets.better(3, {4: 4.0, 16: 1.0}.__getitem__) == 3  # fills none
    assert buckets.better(16, {4: 1.0, 16: 99.0}.__getitem__) == 16  # no padding to save


@given(st.sets(st.integers(1, 40), min_size=1), st.data())
def test_up_is_the_next_bucket(sizes, data):
    ordered = tuple(sorted(sizes))
    rows = data.draw(st.integers(1, ordered[-1]))
    buckets = Buckets(ordered, ordered[-1])
    assert buckets.up(rows) == min(s for s in ordered if s >= rows)
    assert buckets.down(rows) == max((s for s in ordered if s <= rows), default=0)


def test_forecast_by_hand():
    """t(b) = 1 + b; one instance free at 10, batches of 4."""

    def seconds(b):
        return 1.0 + b

    assert forecast(0.0, [10.0], 1, 0, 4, seconds).start_s == 10.0
    assert forecast(0.0, [10.0], 1, 0, 4, seconds).finish_s == 12.0
    assert forecast(0.0, [10.0], 1, 3, 4, seconds).finish_s == 15.0  # joins the first batch: t(4)
    assert forecast(0.0, [10.0], 1, 4, 4, seconds).start_s == 15.0
    assert forecast(0.0, [10.0], 2, 3, 4, seconds).start_s == 15.0  # does not fit into the first
    assert forecast(0.0, [10.0, 2.0], 1, 4, 4, seconds).start_s == 10.0  # the other takes the first batch
    assert forecast(0.0, [-5.0], 1, 0, 4, seconds).start_s == 0.0  # overdue counts as free now
