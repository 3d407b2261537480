"""Receive buffers: aligned where it counts, and used again."""

import numpy as np
import pytest

from assay.serve.http.buffers import ALIGNMENT, SMALLEST, STEP, BufferPool


def address(view):
    return np.frombuffer(view, np.uint8).ctypes.data


@pytest.mark.parametrize("lead", [0, 1, 63, 64, 217, 5000])
@pytest.mark.parametrize("size", [5001, 70_000, 602_112])
def test_what_follows_the_header_is_aligned(lead, size):
    view = BufferPool().take(size, lead).view
    assert len(view) == size
    assert (address(view) + lead) % ALIGNMENT == 0
    assert not view.readonly


def test_a_buffer_serves_again_and_not_two_at_a_time():
    pool = BufferPool()
    first = pool.take(1000)
    second = pool.take(1000)
    assert first is not second
    first.release()
    assert pool.take(3000, 77) is first
    assert pool.take(1000) is not second


def test_idle_buffers_are_given_back_beyond_the_limit():
    pool = BufferPool(kept=3 * STEP)
    held = [pool.take(STEP) for _ in range(5)]
    for buffer in held:
        buffer.release()
    assert sum(buffer.capacity for kept in pool._free.values() for buffer in kept) <= 3 * STEP
    large = pool.take(10 * STEP)
    large.release()
    assert pool.take(10 * STEP) is not large


@pytest.mark.parametrize("size", [1, 100, SMALLEST, SMALLEST + 1, STEP, STEP + 1, 602_112])
def test_a_class_is_large_enough_and_not_much_larger(size):
    capacity = BufferPool().take(size).capacity
    assert size <= capacity <= max(SMALLEST, 2 * size, size + STEP)
