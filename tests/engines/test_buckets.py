"""Padding to static batch sizes, on sessions whose arithmetic is known."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from assay.core.engine import Attestation, OpenOptions
from assay.core.errors import BadInput, EngineFailed, NotAvailable, SignatureMismatch, WrongPrecision
from assay.core.tensors import DTYPES, Feed, Signature, TensorSpec
from assay.engines.base import PooledSession
from assay.engines.buckets import BucketedSession, bucketed

SIGNATURE = Signature(
    (
        TensorSpec("x", "float32", ("batch", 2)),
        TensorSpec("h", "float32", (1, "batch"), 1),
        TensorSpec("k", "float32", (), None),
    ),
    (TensorSpec("y", "float32", ("batch", 2)), TensorSpec("g", "float32", (1, "batch"), 1)),
)


class Plain(PooledSession[int]):
    """y = k * x, g = h; ``leak`` adds the batch's last row to every row, as a broken engine would."""

    def __init__(self, signature: Signature, leak: bool = False, workers: int = 1) -> None:
        super().__init__("plain", signature, range(workers))
        self.leak, self.seen = leak, []

    def _infer(self, worker: int, feed: Feed, spans) -> list[np.ndarray]:
        self.seen.append(feed["x"].copy())
        return [feed["k"] * feed["x"] + (feed["x"][-1] if self.leak else 0), feed["h"].copy()]

    def _attest(self, worker: int) -> Attestation:
        return Attestation({("plain", "fp32"): 1.0}, how="known")


def feed_of(rows: int) -> dict[str, np.ndarray]:
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    return {"x": x, "h": x[:, 0][None].copy(), "k": np.array(3, np.float32)}


def opened(sizes: tuple[int, ...] = (2, 4), leak: bool = False) -> BucketedSession:
    return bucketed(SIGNATURE, OpenOptions(buckets=sizes), lambda b: Plain(SIGNATURE.with_batch(b), leak))


@pytest.mark.parametrize("rows", range(1, 12))
def test_every_row_comes_back_in_its_place(rows: int) -> None:
    with opened() as session:
        feed = feed_of(rows)
        found = session.run(feed)
        np.testing.assert_array_equal(found["y"], 3 * feed["x"])
        np.testing.assert_array_equal(found["g"], feed["h"])
        assert session.padding.real == rows
        assert session.padding.added == {1: 1, 3: 1, 5: 1, 7: 1, 9: 1, 11: 1}.get(rows, 0)


def test_padding_repeats_the_last_real_row() -> None:
    made: dict[int, Plain] = {}

    def make(size: int) -> Plain:
        made[size] = Plain(SIGNATURE.with_batch(size))
        return made[size]

    with bucketed(SIGNATURE, OpenOptions(buckets=(4,)), make) as session:
        session.run(feed_of(2))
        np.testing.assert_array_equal(made[4].seen[0][2:], np.repeat(feed_of(2)["x"][1:], 2, axis=0))
        assert session.padding.share == 0.5


def test_a_row_that_depends_on_its_neighbours_is_found() -> None:
    with opened() as session:
        proof = session.prove(feed_of(4))
        assert proof.padding_is_harmless and proof.between[4]["y"].max_abs == 0
    with opened(leak=True) as session:
        proof = session.prove(feed_of(4))
        assert not proof.padding_is_harmless
        assert set(proof.differing) == {(2, "y"), (4, "y")}


def test_out_buffers_are_filled() -> None:
    with opened() as session:
        for rows in (2, 3, 9):
            out = {"y": np.empty((rows, 2), np.float32)}
            found = session.run(feed_of(rows), out=out)
            assert found["y"] is out["y"]
            np.testing.assert_array_equal(out["y"], 3 * feed_of(rows)["x"])


def test_what_cannot_be_padded_is_refused() -> None:
    whole = Signature(SIGNATURE.inputs, (TensorSpec("sum", "float32", (), None),))
    with pytest.raises(NotAvailable, match="no batch axis"):
        bucketed(whole, OpenOptions(buckets=(1, 2)), lambda b: Plain(whole))
    with pytest.raises(BadInput, match="batch size 3"):
        bucketed(SIGNATURE.with_batch(3), OpenOptions(buckets=(1, 2)), lambda b: Plain(SIGNATURE))
    with opened() as session, pytest.raises(BadInput, match="without rows"):
        session.run(
            {"x": np.zeros((0, 2), np.float32), "h": np.zeros((1, 0), np.float32), "k": np.array(1, np.float32)}
        )


def test_a_bucket_that_fails_to_open_closes_the_others() -> None:
    made: list[Plain] = []

    def make(size: int) -> Plain:
        if size == 4:
            raise NotAvailable("no room")
        made.append(Plain(SIGNATURE.with_batch(size)))
        return made[-1]

    with pytest.raises(NotAvailable, match="no room"):
        bucketed(SIGNATURE, OpenOptions(buckets=(1, 2, 4)), make)
    for session in made:
        with pytest.raises(Exception, match="closed"):
            session.attest()


def test_no_more_calls_run_than_it_says() -> None:
    running, most, lock = 0, 0, threading.Lock()

    class Counting(Plain):
        def _infer(self, worker: int, feed: Feed, spans) -> list[np.ndarray]:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            result = super()._infer(worker, feed, spans)
            with lock:
                running -= 1
            return result

    session = bucketed(
        SIGNATURE, OpenOptions(buckets=(1, 2, 4)), lambda b: Counting(SIGNATURE.with_batch(b), workers=2)
    )
    assert session.parallelism == 2
    with session, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda i: session.run(feed_of(1 + i % 4)), range(60)))
    assert most <= 2


@pytest.mark.parametrize(("sizes", "share"), [((1, 2, 4, 8), 7 / 43), ((4,), 6 / 16), ((1,), 0.0), ((1, 2, 3), 0.0)])
def test_the_padding_when_every_number_of_rows_is_as_likely(sizes, share) -> None:
    from assay.engines.buckets import padded_share

    assert padded_share(sizes) == pytest.approx(share)


def test_padding_counts_from_a_moment_on() -> None:
    from assay.engines.buckets import Padding

    assert Padding(10, 6).since(Padding(4, 6)) == Padding(6, 0)
    assert Padding(6, 2).since(Padding(0, 0)).share == 0.25


def test_device_times_of_several_goes_are_added_up() -> None:
    class Timed(Plain):
        def _infer(self, worker: int, feed: Feed, spans) -> list[np.ndarray]:
            if spans is not None:
                spans["compute"] = 1.0
            return super()._infer(worker, feed, spans)

    with bucketed(SIGNATURE, OpenOptions(buckets=(2, 4)), lambda b: Timed(SIGNATURE.with_batch(b))) as session:
        spans: dict[str, float] = {}
        for rows, goes in ((9, 3), (3, 1), (4, 1), (8, 2)):
            session.run(feed_of(rows), spans=spans)
            assert spans == {"compute": goes}


@pytest.mark.parametrize("rows", [2, 3, 9])
def test_a_buffer_of_another_size_is_refused(rows: int) -> None:
    with opened() as session, pytest.raises(SignatureMismatch, match="buffer for output 'y'"):
        session.run(feed_of(rows), out={"y": np.empty((rows + 1, 2), np.float32)})


def test_the_bucket_that_did_least_as_asked_is_attested() -> None:
    """Not the one whose largest share is smallest, of whatever precision."""
    shares = {2: {("plain", "bf16"): 0.6, ("plain", "fp32"): 0.4}, 4: {("plain", "fp32"): 1.0}}

    class Told(Plain):
        def _attest(self, worker: int) -> Attestation:
            return Attestation(shares[self.signature.static_batch], how="known")

    options = OpenOptions(precision="bf16", buckets=(2, 4))
    with (
        bucketed(SIGNATURE, options, lambda b: Told(SIGNATURE.with_batch(b))) as session,
        pytest.raises(WrongPrecision, match="asked for bf16"),
    ):
        session.attest().check(None, "bf16")


def test_closing_waits_for_a_call_of_several_goes() -> None:
    closing = threading.Event()

    class Slow(Plain):
        def _infer(self, worker: int, feed: Feed, spans) -> list[np.ndarray]:
            closing.wait(20)
            time.sleep(0.02)  # so that ``close`` is under way before the next go
            return super()._infer(worker, feed, spans)

    session = bucketed(SIGNATURE, OpenOptions(buckets=(1, 2)), lambda b: Slow(SIGNATURE.with_batch(b)))
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(session.run, feed_of(5))
        while session.padding.real == 0:
            time.sleep(0.001)
        closed = pool.submit(lambda: (closing.set(), session.close()))
        np.testing.assert_array_equal(running.result(20)["y"], 3 * feed_of(5)["x"])
        closed.result(20)
    session.close()
    with pytest.raises(EngineFailed, match="closed"):
        session.run(feed_of(1))


def test_a_proof_counts_nan_as_equal_to_itself_in_every_float_format() -> None:
    signature = Signature(
        (TensorSpec("x", "bfloat16", ("batch", 1)),),
        (TensorSpec("y", "bfloat16", ("batch", 1)),),
    )

    class Same(Plain):
        def _infer(self, worker: int, feed: Feed, spans) -> list[np.ndarray]:
            return [feed["x"].copy()]

    x = np.array([[1], [np.nan], [3]], DTYPES["bfloat16"])
    with bucketed(signature, OpenOptions(buckets=(1, 4)), lambda b: Same(signature.with_batch(b))) as session:
        assert session.prove({"x": x}).padding_is_harmless
        with pytest.raises(BadInput, match="without rows"):
            session.prove({"x": x[:0]})
