"""Real bundles, real servers: the null engine for what is about the server, ONNX Runtime for answers."""

import contextlib
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from assay.bundle.contents import BundleContents
from assay.bundle.pack import pack
from assay.core.artifact import file_artifact
from assay.core.engine import Candidate, OpenOptions
from assay.core.table import resolve
from assay.core.tensors import Signature, TensorSpec
from assay.engines import ENGINES
from assay.engines.null import null_artifact
from assay.job.serve.config import request_of
from assay.job.serve.run import Serve

sys.path.insert(0, str(Path(__file__).parent))  # the importlib mode puts no test folder on the path

LABELS = ("tench", "goldfish", "shark", "ray", "cock")
PREPROCESS = {
    "kind": "image",
    "size": [32, 32],
    "crop_pct": 0.875,
    "crop_mode": "center",
    "interpolation": "bicubic",
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "channels": 3,
}


def write_classifier(path, seed=0, batch="batch"):
    """scores = flatten(x)·W, five classes of a 32×32 picture."""
    rng = np.random.default_rng(seed)
    weights = numpy_helper.from_array((rng.standard_normal((3 * 32 * 32, 5)) / 50).astype(np.float32), "W")
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "W"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 32, 32])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 5])],
        [weights],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return file_artifact(path, "onnx")


def pack_bundle(out, artifact, engine, feed, **more):
    version = resolve(ENGINES, engine, "engine")().version()
    options = OpenOptions() if engine == "null" else OpenOptions(threads=1)
    candidate = Candidate(artifact, engine, version, options, "a processor")
    with resolve(ENGINES, engine, "engine")().open(artifact, options) as session:
        goldens = ((feed, session.run(feed)),)
        signature = session.signature
    contents = BundleContents(
        model=more.pop("model", "small"),
        candidate=candidate,
        signature=signature,
        goldens=goldens,
        tolerance={"max_relative_rms": 1e-5, "source": "a test's own limit"},
        **more,
    )
    return pack(contents, out)


def pack_classifier(folder, seed=0):
    folder.parent.mkdir(parents=True, exist_ok=True)
    artifact = write_classifier(folder.parent / f"classifier-{seed}.onnx", seed)
    feed = {"image": np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)}
    return pack_bundle(folder, artifact, "onnxruntime", feed, model="classifier", preprocess=PREPROCESS, labels=LABELS)


def pack_null(folder, inputs, outputs):
    folder.parent.mkdir(parents=True, exist_ok=True)
    signature = Signature(tuple(inputs), tuple(outputs))
    artifact = null_artifact(signature, folder.parent / f"{folder.name}.json")
    feed = {}
    for spec in inputs:
        shape = tuple(d if isinstance(d, int) else 1 for d in spec.shape)
        feed[spec.name] = np.full(shape, b"\x01", object) if spec.dtype == "string" else np.ones(shape, spec.dtype)
    return pack_bundle(folder, artifact, "null", feed, model="null")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory):
    """A bundle of ONNX Runtime with a transform and labels: image (batch, 3, 32, 32) -> scores (batch, 5)."""
    return pack_classifier(tmp_path_factory.mktemp("classifier") / "bundle")


@pytest.fixture(scope="session")
def null(tmp_path_factory):
    """x (b, 4) fp32 -> y (b, 2) fp32 = x's first element of the row."""
    inputs = [TensorSpec("x", "float32", ("b", 4))]
    return pack_null(tmp_path_factory.mktemp("null") / "bundle", inputs, [TensorSpec("y", "float32", ("b", 2))])


@pytest.fixture(scope="session")
def many(tmp_path_factory):
    """Inputs of every kind: text (b, 1), whole (b, 3) int32, half (b, 2) fp16, flag (b, 2) -> sum (b, 1) fp32."""
    inputs = [
        TensorSpec("text", "string", ("b", 1)),
        TensorSpec("whole", "int32", ("b", 3)),
        TensorSpec("half", "float16", ("b", 2)),
        TensorSpec("flag", "bool", ("b", 2)),
    ]
    outputs = [
        TensorSpec("sum", "float32", ("b", 1)),
        TensorSpec("said", "string", ("b", 2)),
        TensorSpec("small", "float16", ("b", 1)),
    ]
    return pack_null(tmp_path_factory.mktemp("many") / "bundle", inputs, outputs)


class Running:
    """A server in this process on free ports, and everything it said."""

    def __init__(self, table):
        self.events = []
        self._ready = threading.Event()
        table = {"http_port": 0, "metrics_port": 0, "grpc_port": False, **table}
        self.serve = Serve(request_of(table), self._hear)
        self.failure = None
        self.drained = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(30), "the server did not come up"
        if self.failure is not None:
            raise self.failure

    def _hear(self, event, about):
        self.events.append((event, dict(about)))
        if event == "ready":
            self._ready.set()

    def _run(self):
        try:
            self.drained = self.serve.run(signals=False)
        except BaseException as error:
            self.failure = error
        self._ready.set()

    @property
    def port(self):
        return self.serve.server.ports["http_port"]

    @property
    def metrics_port(self):
        return self.serve.server.ports["metrics_port"]

    @property
    def grpc_port(self):
        return self.serve.server.ports["grpc_port"]

    @property
    def repository(self):
        return self.serve.repository

    def stop(self, within_s=40):
        self.serve.server.stop()
        self._thread.join(within_s)
        assert not self._thread.is_alive(), "the server did not stop"
        return self.drained


@pytest.fixture(scope="session")
def running():
    """``with running({"model": [{"source": …}], …}) as server``: the table is that of serve.toml."""

    @contextlib.contextmanager
    def start(table):
        server = Running(table)
        try:
            yield server
        finally:
            server.stop()

    return start


@pytest.fixture(scope="module")
def server(running, classifier, null, many):
    """Three models, administration allowed."""
    models = [
        {"source": str(classifier), "name": "pictures"},
        {"source": str(null), "name": "null"},
        {"source": str(many), "name": "many"},
    ]
    with running({"model": models, "admin": True, "grpc_port": 0}) as found:
        yield found


@pytest.fixture(scope="session")
def support():
    """What packs bundles, for tests that need their own."""
    return SimpleNamespace(pack_classifier=pack_classifier, pack_null=pack_null)
