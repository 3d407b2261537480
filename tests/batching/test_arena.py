"""Where rows are put side by side: no copy too many, no memory kept too long, strings too."""

from __future__ import annotations

import gc
import weakref

import numpy as np

from assay.batching.arena import ALIGNMENT, KEPT_LANES, Arena
from assay.batching.intake import Intake
from assay.batching.request import Request
from assay.core.tensors import Signature, TensorSpec


def requests(intake: Intake, *feeds) -> list[Request]:
    return [Request(feed, *intake.look(feed), lambda _: None, 0.0) for feed in feeds]


def floats(axis: int) -> Signature:
    shape = ("n", 2) if axis == 0 else (2, "n")
    return Signature((TensorSpec("x", "float32", shape, axis),), (TensorSpec("y", "float32", shape, axis),))


def test_the_same_memory_serves_every_batch():
    signature = floats(0)
    arena, intake = Arena(signature, 4), Intake(signature)
    rs = requests(intake, *({"x": np.full((1, 2), i, np.float32)} for i in range(3)))
    first = arena.feed(rs, 3, 4)["x"]
    assert first.tolist() == [[0, 0], [1, 1], [2, 2], [2, 2]]
    assert first.ctypes.data % ALIGNMENT == 0
    second = arena.feed(rs[:2], 2, 2)["x"]
    assert np.shares_memory(first, second)
    assert arena.holds(second) and not arena.holds(second.copy())


def test_any_batch_axis_gives_contiguous_feeds():
    signature = floats(1)
    arena, intake = Arena(signature, 4), Intake(signature)
    rs = requests(intake, *({"x": np.array([[i], [10 * i]], np.float32)} for i in (1, 2, 3)))
    made = arena.feed(rs, 3, 4)["x"]
    assert made.flags.c_contiguous
    assert made.tolist() == [[1, 2, 3, 3], [10, 20, 30, 30]]


def test_odd_shapes_leave_no_memory_behind():
    signature = Signature((TensorSpec("x", "float32", ("n", "w")),), (TensorSpec("y", "float32", ("n",)),))
    arena, intake = Arena(signature, 2), Intake(signature)
    bases = []
    for width in range(1, KEPT_LANES + 4):
        rs = requests(intake, *({"x": np.zeros((1, width), np.float32)} for _ in range(2)))
        bases.append(weakref.ref(arena.feed(rs, 2, 2)["x"].base))
    gc.collect()
    assert [b() is None for b in bases] == [True] * 3 + [False] * KEPT_LANES


def test_strings_are_merged_and_not_kept():
    signature = Signature((TensorSpec("s", "string", ("n",)),), (TensorSpec("y", "float32", ("n",)),))
    arena, intake = Arena(signature, 4), Intake(signature)
    rs = requests(intake, {"s": np.array([b"a"], object)}, {"s": np.array([b"b", b"c"], object)})
    made = arena.feed(rs, 3, 4)["s"]
    assert made.tolist() == [b"a", b"b", b"c", b"c"]
    assert arena.feed(rs, 3, 4)["s"] is not made


def test_lanes_by_row_shape_and_shared_values():
    signature = Signature(
        (TensorSpec("x", "float32", ("n", "w")), TensorSpec("k", "int64", (), None)),
        (TensorSpec("y", "float32", ("n",)),),
    )
    intake = Intake(signature)

    def lane(rows, width, k):
        return intake.look({"x": np.zeros((rows, width), np.float32), "k": np.asarray(k)})[1]

    assert lane(1, 3, 5) == lane(2, 3, 5)
    assert lane(1, 3, 5) != lane(1, 4, 5)
    assert lane(1, 3, 5) != lane(1, 3, 6)


def test_large_shared_inputs_are_not_compared_but_served_alone():
    signature = Signature(
        (TensorSpec("x", "float32", ("n",)), TensorSpec("table", "float32", ("t",), None)),
        (TensorSpec("y", "float32", ("n",)),),
    )
    from assay.batching.pending import Solo

    feed = {"x": np.zeros(1, np.float32), "table": np.zeros(5000, np.float32)}
    assert isinstance(Intake(signature).look(feed)[1], Solo)


def test_requests_that_are_served_alone_may_differ_in_shape(session, start, row):
    """A large unbatched input makes every request one of its own; with buckets each is padded all the same."""
    shared = TensorSpec("t", "float32", (2000,), None)
    signature = Signature((TensorSpec("x", "float32", ("n", "w")), shared), (TensorSpec("y", "float32", ("n", "w")),))
    batcher = start(session(lambda feed: {"y": feed["x"] + feed["t"][0]}, signature), max_batch=4, buckets=(4,))
    t = np.ones(2000, np.float32)
    for width in (3, 5, 3):
        assert (batcher.run({**row(1, width=width), "t": t})["y"] == np.full((1, width), 2)).all()


def test_rows_that_are_made_from_no_rows_are_handed_out_as_they_are(session, start):
    signature = Signature((TensorSpec("x", "float32", (3,), None),), (TensorSpec("y", "float32", (5, 2)),))
    batcher = start(session(lambda feed: {"y": np.zeros((5, 2), np.float32)}, signature), max_batch=1)
    assert batcher.run({"x": np.ones(3, np.float32)})["y"].shape == (5, 2)
