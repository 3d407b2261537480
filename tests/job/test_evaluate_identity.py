"""The digest of an evaluation set: any order, any interruption, and no two sets alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from assay.core.dataset import Item
from assay.job.evaluate.identity import SetDigest


def items(count: int = 6) -> list[Item]:
    return [Item(f"s{i}", np.full((2, 2), i, np.uint8), i % 3) for i in range(count)]


def of(found: list[Item]) -> str | None:
    digest = SetDigest()
    digest.add_all(found)
    return digest.hexdigest(len(found))


def test_order_and_threads_do_not_matter() -> None:
    parallel = SetDigest()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(parallel.add, reversed(items(50))))
    assert parallel.hexdigest(50) == of(items(50))
    assert parallel.hexdigest(49) is None


@pytest.mark.parametrize(
    "changed",
    [
        Item("t0", np.zeros((2, 2), np.uint8), 0),
        Item("s0", np.ones((2, 2), np.uint8), 0),
        Item("s0", np.zeros((4,), np.uint8), 0),
        Item("s0", np.zeros((2, 2), np.int8), 0),
        Item("s0", np.zeros((2, 2), np.uint8), 1),
        Item("s0", np.zeros((2, 2), np.uint8), None),
        Item("s0", b"\x00\x00\x00\x00", 0),
        Item("s0", {"x": np.zeros((2, 2), np.uint8)}, 0),
    ],
)
def test_any_change_of_one_item_changes_it(changed: Item) -> None:
    assert of([changed, *items()[1:]]) != of(items())


def test_what_has_no_bytes_of_its_own_has_no_digest() -> None:
    assert of([Item("s0", object(), 0)]) is None
    assert of([Item("s0", {"x": np.array([b"a", b"b"], object)}, 0)]) is not None


def test_arrays_of_any_dtype_and_layout_have_a_digest() -> None:
    import ml_dtypes

    assert of([Item("s0", np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16), 0)]) is not None
    assert of([Item("s0", np.array(None, object), 0)]) is not None
    assert of([Item("s0", np.array([[b"a"], [b"b"]], object), 0)]) is not None
    grid = np.arange(6).reshape(2, 3)
    assert of([Item("s0", grid.T, 0)]) == of([Item("s0", grid.T.copy(), 0)]) != of([Item("s0", grid.reshape(3, 2), 0)])
