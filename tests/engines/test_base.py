from __future__ import annotations

import sys
import threading
from collections.abc import MutableMapping, Sequence

import numpy as np
import pytest

from assay.core.engine import Attestation, OpenOptions
from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.tensors import Array, Feed, Signature, TensorSpec
from assay.engines.base import (
    Device,
    NoSizeFits,
    PooledSession,
    at_batch,
    check_options,
    devices_of,
    first_line,
    parse_device,
    probe_feeds,
    reason,
    try_feeds,
)
from assay.engines.onnxruntime import OnnxRuntimeEngine
from assay.engines.torch import TorchEngine

SIGNATURE = Signature((TensorSpec("x", "float32", ("batch", 2)),), (TensorSpec("y", "float32", ("batch", 2)),))
FEED = {"x": np.ones((1, 2), np.float32)}


class Held(PooledSession[int]):
    """A session whose calls last until they are let go."""

    def __init__(self, workers: int) -> None:
        super().__init__("held", SIGNATURE, range(workers))
        self.inside = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        self.released = 0

    def _infer(self, worker: int, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        self.inside.release()
        assert self.let_go.acquire(timeout=20)
        return [feed["x"] + worker]

    def _attest(self, worker: int) -> Attestation:
        raise ValueError("no luck\nwith this")

    def _release(self) -> None:
        self.released += 1


def start(target: object) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_callers_beyond_parallelism_wait() -> None:
    session = Held(2)
    threads = [start(lambda: session.run(FEED)) for _ in range(3)]
    assert session.inside.acquire(timeout=20) and session.inside.acquire(timeout=20)
    assert not session.inside.acquire(timeout=0.1)  # the third is outside
    session.let_go.release()
    assert session.inside.acquire(timeout=20)
    session.let_go.release()
    session.let_go.release()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()


def test_close_waits_for_the_call_in_flight_and_turns_the_waiting_away() -> None:
    session = Held(1)
    told: list[str] = []
    answers: list[dict[str, Array]] = []

    def waiting() -> None:
        try:
            session.run(FEED)
        except EngineFailed as error:
            told.append(str(error))

    running = start(lambda: answers.append(session.run(FEED)))
    assert session.inside.acquire(timeout=20)
    queued = [start(waiting) for _ in range(2)]
    closing = [start(session.close) for _ in range(2)]
    closing[0].join(0.1)
    assert closing[0].is_alive() or closing[1].is_alive()
    assert session.released == 0
    session.let_go.release()
    for thread in (running, *queued, *closing):
        thread.join(20)
        assert not thread.is_alive()
    assert session.released == 1
    assert len(answers) == 1
    assert len(told) == 2 and all("closed" in text for text in told)


def test_a_library_error_keeps_its_first_line_and_the_worker() -> None:
    session = Held(1)
    for _ in range(2):
        with pytest.raises(EngineFailed, match=r"^held could not attest what ran: no luck$"):
            session.attest()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("Exception from src/core.cpp:84:\nCheck 'x' failed at a.cpp:1:\nwhat it means\n", "what it means"),
        ("", "RuntimeError"),
    ],
)
def test_first_line(text: str, expected: str) -> None:
    assert first_line(RuntimeError(text)) == expected


def test_parse_device() -> None:
    assert parse_device("cuda:2") == Device("cuda", 2)
    assert parse_device("cpu") == Device("cpu", 0)
    for wrong in ("", "cuda:", "cuda:x", "c p u", "7"):
        with pytest.raises(BadInput):
            parse_device(wrong)


def test_reason_survives_a_broken_installation() -> None:
    def probe() -> str | None:
        raise OSError("libmkl.so.2: cannot open shared object file")

    assert reason("torch", ("fp32",), "fp32", probe) == (
        "torch is installed but does not work here: libmkl.so.2: cannot open shared object file"
    )


def test_probe_feeds_keep_the_batch_at_one_and_try_sizes() -> None:
    signature = Signature(
        (
            TensorSpec("image", "float32", ("batch", 3, "h", "w")),
            TensorSpec("ids", "int64", ("batch", "length")),
            TensorSpec("text", "string", ("batch",)),
        ),
        (),
    )
    feeds = list(probe_feeds(signature))
    assert feeds[0]["image"].shape == (1, 3, 32, 32)
    assert len({f["ids"].shape for f in feeds}) == len(feeds) > 3
    for feed in feeds:
        signature.check_feed(feed)
        assert feed["ids"].sum() == 0 and feed["text"][0] == b""
    tried: list[int] = []

    def picky(feed: dict[str, Array]) -> int:
        tried.append(feed["image"].shape[2])
        if tried[-1] != 224:
            raise ValueError("only 224")
        return tried[-1]

    assert try_feeds(signature, picky) == 224
    with pytest.raises(NoSizeFits, match=r"none of the sizes .*division by zero") as told:
        try_feeds(signature, lambda feed: 1 / 0)
    assert isinstance(told.value.__cause__, ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):  # one feed: the error is the model's own
        try_feeds(SIGNATURE, lambda feed: 1 / 0)


def test_a_device_that_is_none() -> None:
    with pytest.raises(BadInput, match="not a device"):
        parse_device("cuda:²")


def test_a_library_that_is_not_here_has_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """``open`` then says what to install; the import's own error would be no word to a user."""
    for name, engine in (("onnxruntime", OnnxRuntimeEngine()), ("torch", TorchEngine())):
        monkeypatch.setitem(sys.modules, name, None)
        assert devices_of(engine) == ()
        with pytest.raises(NotAvailable, match=f"{name} is not installed: pip install"):
            check_options(engine, OpenOptions(device="cuda:0"))
        monkeypatch.undo()


def test_a_batch_is_fixed_where_the_model_lets_it() -> None:
    assert at_batch(SIGNATURE, None) is SIGNATURE
    fixed = at_batch(SIGNATURE, 3)
    assert fixed.static_batch == 3 and at_batch(fixed, 3) == fixed
    with pytest.raises(BadInput, match="batch size 3; batch 4") as told:
        at_batch(fixed, 4)
    assert told.value.remedy == "assay export --batch 4"
