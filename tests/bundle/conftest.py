"""A small real model, opened with the real engines, and the bundle of it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.bundle.contents import BundleContents
from assay.bundle.pack import pack
from assay.core.artifact import file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.record import Figure, Record
from assay.core.table import resolve
from assay.core.verdict import Reason, combine
from assay.engines import ENGINES


def write_model(path, external=False):
    """scores = x·W + b, and the int64 index of the largest score; W in a companion file where asked."""
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((16, 4)).astype(np.float32), "W")
    bias = numpy_helper.from_array(np.arange(4, dtype=np.float32), "b")
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "W", "b"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["batch"]),
        ],
        [weights, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0} if external else {}
    onnx.save_model(model, str(path), **options)
    companions = (path.parent / "weights.bin",) if external else ()
    return file_artifact(path, "onnx", companions=companions)


def open_session(artifact, options, engine):
    """What the caller of ``check`` passes in: names are keys of the engine table."""
    return resolve(ENGINES, engine, "engine")().open(artifact, options)


def contents_for(artifact, engine="onnxruntime", **more):
    version = resolve(ENGINES, engine, "engine")().version()
    candidate = Candidate(artifact, engine, version, OpenOptions(threads=1), "a processor")
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.standard_normal((1, 16)).astype(np.float32)} for _ in range(3)]
    with open_session(artifact, candidate.options, engine) as session:
        signature = session.signature
        goldens = tuple((feed, session.run(feed)) for feed in feeds)
    settings = {
        "model": "small",
        "candidate": candidate,
        "signature": signature,
        "goldens": goldens,
        "tolerance": {"max_relative_rms": 1e-5, "source": "a test's own limit"},
        "preprocess": {"kind": "none"},
        "labels": ("zero", "one", "zwei", "三"),
        "records": (Record("verify", candidate.subject("small"), figures={"numeric.relative_rms": Figure(0.0, "1")}),),
        "verdict": combine([Reason("numeric", "passed", "equal")]),
        "command": "assay run small.onnx",
        "environment": {"versions": {"numpy": np.__version__}},
    }
    return BundleContents(**{**settings, **more})


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "small.onnx")


@pytest.fixture(scope="session")
def contents(artifact):
    return contents_for(artifact)


@pytest.fixture
def bundle(contents, tmp_path):
    return pack(contents, tmp_path / "bundle")
