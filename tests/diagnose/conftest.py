"""A small exported network, ONNX Runtime as the arithmetic, and arithmetics with faults planted in them."""

import contextlib

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from assay.core.errors import EngineFailed
from assay.graph.extract import Parts, flat
from assay.graph.quiet import quiet


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.mid = nn.Conv2d(8, 16, 3, stride=2)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = nn.functional.gelu(self.norm(self.stem(x)))
        return self.head(torch.relu(self.mid(x)).mean((2, 3)))


@pytest.fixture(scope="session")
def module():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="session")
def raw(module):
    """As torch's exporter writes it, metadata and all."""
    with quiet(("torch", "onnxscript", "onnx_ir")):
        program = torch.onnx.export(
            module,
            (torch.zeros(2, 3, 12, 12),),
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: "batch"},),
            input_names=["x"],
            output_names=["y"],
            verbose=False,
        )
    return program.model_proto


@pytest.fixture
def feed():
    return {"x": np.random.default_rng(0).normal(size=(4, 3, 12, 12)).astype(np.float32)}


def opened(model, level="ORT_DISABLE_ALL"):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise EngineFailed(str(error)) from error
    names = [o.name for o in session.get_outputs()]

    def run(feed):
        return dict(zip(names, session.run(None, dict(feed)), strict=True))

    return run


@pytest.fixture(scope="session")
def plain():
    """The opener of the reference: no optimiser."""

    @contextlib.contextmanager
    def make(model):
        yield opened(model)

    return make


@pytest.fixture(scope="session")
def faulty(plain):
    """An opener whose library changes the graph before it runs it: a bug inside an engine."""

    def make(change):
        @contextlib.contextmanager
        def open(model):
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            change(copy)
            with plain(copy) as run:
                yield run

        return open

    return make


@pytest.fixture
def changed(raw):
    """The graph with something changed."""

    def make(change):
        copy = onnx.ModelProto()
        copy.CopyFrom(raw)
        change(copy)
        return Parts(flat(copy))

    return make


def scale_weight(name, factor):
    def change(model):
        (tensor,) = [t for t in model.graph.initializer if t.name == name]
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))

    return change


@pytest.fixture
def scaled():
    return scale_weight
