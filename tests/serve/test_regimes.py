"""One call over all cores, or a call per core."""

from dataclasses import replace

import numpy as np
import pytest

from assay.batching.batch_times import BatchTimes
from assay.batching.settings import BatcherSettings
from assay.bundle.contents import read_bundle
from assay.core.engine import OpenOptions
from assay.core.errors import EngineFailed
from assay.job.opening import open_packed
from assay.job.serve import regimes as serve_regimes
from assay.job.serve.options import Batching
from assay.job.serve.regimes import Openable, narrow_options, regimes

FEED = {"image": np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)}


@pytest.fixture
def openable(classifier, monkeypatch):
    monkeypatch.setattr(serve_regimes, "cores_granted", lambda: 4.0)
    bundle = read_bundle(classifier)

    def again(options):
        return open_packed(bundle.artifact, options, "onnxruntime")

    with again(OpenOptions()) as session:
        yield Openable(session, "onnxruntime", OpenOptions(), again, 1000)


def test_the_cores_are_divided_where_that_was_left_open(openable):
    assert narrow_options(openable, Batching()) == OpenOptions(instances=4, threads=1)
    assert narrow_options(replace(openable, engine="openvino"), Batching()) == OpenOptions(instances=4, threads=4)


@pytest.mark.parametrize(
    ("change", "batching"),
    [
        ({}, Batching(instances=1)),
        ({}, Batching(threads=1)),
        ({"options": OpenOptions(threads=2)}, Batching()),
        ({"options": OpenOptions(streams=2)}, Batching()),
        ({"options": OpenOptions(instances=2)}, Batching()),
        ({"options": OpenOptions(device="cuda")}, Batching()),
        ({"size_bytes": 10**12}, Batching()),
        ({"engine": "torch"}, Batching()),
    ],
)
def test_what_was_said_or_measured_is_not_second_guessed(openable, change, batching):
    assert narrow_options(replace(openable, **change), batching) is None


def test_one_core_is_not_divided(openable, monkeypatch):
    monkeypatch.setattr(serve_regimes, "cores_granted", lambda: 1.0)
    assert narrow_options(openable, Batching()) is None


def at(points):
    return lambda session, feed, settings, within_s=0: BatchTimes(8, points=points[session.parallelism])


def test_the_better_one_is_kept_and_both_are_closed(openable, monkeypatch):
    monkeypatch.setattr(serve_regimes, "profiled", at({1: {1: [0.010], 8: [0.080]}, 4: {1: [0.030], 8: [0.240]}}))
    found = regimes(openable, Batching(), FEED, BatcherSettings())
    assert found.session.parallelism == 4
    assert found.alone is openable.session
    assert found.plan == "4 calls × 1 thread; 1 call × 4 threads for a lone one"
    expected = openable.session.run(FEED)["scores"]
    np.testing.assert_allclose(found.session.run(FEED)["scores"], expected, rtol=1e-5, atol=1e-6)
    found.close()
    for session in (found.session, found.alone):
        with pytest.raises(EngineFailed, match="closed"):
            session.run(FEED)


@pytest.mark.parametrize(
    ("narrow_s", "slo_s"),
    [(0.045, None), (0.030, 0.050)],  # a lower rate; too late for the limit
)
def test_it_is_closed_again_where_it_gains_nothing(openable, monkeypatch, narrow_s, slo_s):
    monkeypatch.setattr(serve_regimes, "profiled", at({1: {1: [0.010]}, 4: {1: [narrow_s]}}))
    found = regimes(openable, Batching(slo_s=slo_s), FEED, BatcherSettings(max_batch=1))
    assert (found.session, found.alone) == (openable.session, None)
    found.close()


def test_really_measured(openable):
    found = regimes(openable, Batching(), FEED, BatcherSettings(max_batch=4))
    assert found.times.predict(4) > 0
    found.close()
