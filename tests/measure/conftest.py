"""Sessions made of plain functions, and a clock that only moves when told."""

from datetime import UTC, datetime
from threading import Lock

import numpy as np
import pytest

from assay.core import clock
from assay.core.clock import Clock
from assay.core.engine import Attestation
from assay.core.tensors import Signature, TensorSpec


class FunctionSession:
    """A Session whose model is a function from feed to outputs."""

    def __init__(self, function, signature, parallelism=1):
        self._function = function
        self.signature = signature
        self.parallelism = parallelism

    def run(self, feed, out=None, spans=None):
        self.signature.check_feed(feed)
        return self._function(feed)

    def attest(self):
        return Attestation(how="a function")

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()


class FakeTime:
    """Seconds that pass only when somebody says so."""

    def __init__(self):
        self.now_s = 100.0
        self._lock = Lock()

    def pass_(self, seconds):
        with self._lock:
            self.now_s += seconds

    def clock(self):
        return Clock(lambda: self.now_s, self.pass_, lambda: datetime(2026, 1, 1, tzinfo=UTC))


def signature_of(batch="batch", width=4, classes=3):
    return Signature(
        (TensorSpec("x", "float32", (batch, width)),),
        (TensorSpec("y", "float32", (batch, classes)),),
    )


def feeds_of(rows, count=1, width=4, seed=0):
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(rows, width)).astype(np.float32)} for _ in range(count)]


@pytest.fixture
def fake_time():
    time = FakeTime()
    with clock.use(time.clock()):
        yield time


@pytest.fixture
def session_of():
    return FunctionSession


@pytest.fixture
def signature():
    return signature_of


@pytest.fixture
def feeds():
    return feeds_of


@pytest.fixture
def scripted(fake_time, signature):
    """A session whose i-th call takes ``seconds[i]`` of the fake clock (the last value for ever)."""

    def make(seconds, batch="batch"):
        remaining = iter(seconds)
        last = [0.0]

        def function(feed):
            last[0] = next(remaining, last[0])
            fake_time.pass_(last[0])
            return {"y": np.zeros((len(feed["x"]), 3), np.float32)}

        return FunctionSession(function, signature(batch))

    return make
