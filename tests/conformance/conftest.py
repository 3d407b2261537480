"""Tiny models to conform with, one recipe per artifact FORMAT.

A recipe is keyed by format and not by engine: a new engine that reads ONNX is tested with the
ONNX recipe without anything being added here.  All recipes have the same signature::

    x: batch x 3 x 8 x 8 float32  ->  map: batch x 4 x 8 x 8 float32,  scores: batch x 5 float32
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import BuildOptions, Engine, OpenOptions, Session
from assay.core.table import resolve
from assay.core.tensors import Feed, Signature, TensorSpec
from assay.engines import ENGINES

sys.path.insert(0, str(Path(__file__).parent))  # the importlib mode puts no test folder on the path
from loopback_server import ServedModel, serve

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("batch", 3, 8, 8)),),
    (TensorSpec("map", "float32", ("batch", 4, 8, 8)), TensorSpec("scores", "float32", ("batch", 5))),
)


class TinyNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3, padding=1)
        self.head = torch.nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = torch.relu(self.conv(x))
        return {"map": features, "scores": self.head(features.mean((2, 3)))}


def tiny_module() -> torch.nn.Module:
    torch.manual_seed(0)
    return TinyNet().eval()


@dataclass(frozen=True)
class Recipe:
    """``make(folder, stack)`` -> artifact; ``multiplies`` says whether there is any precision to attest."""

    make: Callable[[Path, contextlib.ExitStack], Artifact]
    multiplies: bool


def _described(path: Path, format: str, load: Callable[[], object]) -> Artifact:
    made = file_artifact(path, format)
    return Artifact(
        made.path, format, made.sha256, built_for={"signature": json.dumps(SIGNATURE.to_json())}, module=load
    )


def make_source(folder: Path, stack: contextlib.ExitStack) -> Artifact:
    path = folder / "source.json"
    path.write_text("{}")
    return _described(path, "source", tiny_module)


def make_torchscript(folder: Path, stack: contextlib.ExitStack) -> Artifact:
    path = folder / "model.pt"
    traced = torch.jit.trace(tiny_module(), torch.zeros(1, 3, 8, 8), strict=False)
    torch.jit.save(traced, str(path))
    return _described(path, "torchscript", lambda: torch.jit.load(str(path)))


def make_exported(folder: Path, stack: contextlib.ExitStack) -> Artifact:
    path = folder / "model.pt2"
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(tiny_module(), (torch.zeros(2, 3, 8, 8),), dynamic_shapes=({0: batch},))
    torch.export.save(program, str(path))
    return _described(path, "exported", lambda: torch.export.load(str(path)).module())


def make_onnx(folder: Path, stack: contextlib.ExitStack) -> Artifact:
    """Written by hand from the module's weights: no exporter stands between this and the engines."""
    import onnx
    from onnx import helper, numpy_helper

    weights = [numpy_helper.from_array(v.numpy(), k) for k, v in tiny_module().state_dict().items()]
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["map"], name="relu"),
        helper.make_node("ReduceMean", ["map"], ["m"], name="mean", axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["m", "head.weight", "head.bias"], ["scores"], name="head", transB=1),
    ]
    tensor = [
        helper.make_tensor_value_info(s.name, onnx.TensorProto.FLOAT, list(s.shape))
        for s in (*SIGNATURE.inputs, *SIGNATURE.outputs)
    ]
    graph = helper.make_graph(nodes, "tiny", tensor[:1], tensor[1:], weights)
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return file_artifact(path, "onnx")


def make_openvino(folder: Path, stack: contextlib.ExitStack) -> Artifact:
    engine = resolve(ENGINES, "openvino", "engine")()
    built: Artifact = engine.build(make_onnx(folder, stack), BuildOptions(), folder / "ir")
    return built


def make_null(folder: Path, stack: contextlib.ExitStack) -> Artifact:
    path = folder / "null.json"
    path.write_text(json.dumps({"signature": SIGNATURE.to_json()}))
    return file_artifact(path, "null")


def served_arithmetic(feed: Feed) -> dict[str, np.ndarray]:
    """What the loopback server runs: the same shapes in plain numpy."""
    x = feed["x"]
    grown = np.concatenate([x, x.sum(1, keepdims=True)], axis=1)
    return {"map": grown, "scores": np.concatenate([grown.mean((2, 3)), x[:, :1, 0, 0]], axis=1)}


def make_remote(folder: Path, stack: contextlib.ExitStack) -> Artifact:
    url = stack.enter_context(serve(ServedModel("tiny", SIGNATURE, served_arithmetic)))
    path = folder / "remote.json"
    path.write_text(json.dumps({"url": url, "protocol": "http", "model": "tiny", "version": "1"}))
    return file_artifact(path, "remote")


COMPILES = ("torch_compile",)
"""Engines that run a C++ compiler when they open a model."""
RECIPES = {
    "source": Recipe(make_source, multiplies=True),
    "torchscript": Recipe(make_torchscript, multiplies=True),
    "exported": Recipe(make_exported, multiplies=True),
    "onnx": Recipe(make_onnx, multiplies=True),
    "openvino": Recipe(make_openvino, multiplies=True),
    "null": Recipe(make_null, multiplies=False),
    "remote": Recipe(make_remote, multiplies=False),
}


@dataclass(frozen=True)
class Case:
    """One engine, precision and format that must work here."""

    engine: str
    precision: str
    format: str

    def __str__(self) -> str:
        return f"{self.engine}-{self.precision}-{self.format}"

    @property
    def multiplies(self) -> bool:
        return RECIPES[self.format].multiplies

    def new_engine(self) -> Engine:
        engine: Engine = resolve(ENGINES, self.engine, "engine")()
        return engine


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every engine of the table x every precision available here x every format with a recipe."""
    found = []
    for name in ENGINES:
        engine = resolve(ENGINES, name, "engine")()
        formats = [f for f in dict.fromkeys((*engine.reads, *engine.opens)) if f in RECIPES]
        usable = [p for p in engine.precisions if engine.unavailable("cpu", p) is None]
        found += [Case(name, p, f) for p in usable for f in formats]
    return tuple(found)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        found = [pytest.param(c, marks=pytest.mark.slow if c.engine in COMPILES else ()) for c in cases()]
        metafunc.parametrize("case", found, ids=[str(c) for c in cases()])
    elif "name" in metafunc.fixturenames:
        metafunc.parametrize("name", list(ENGINES))


@pytest.fixture(scope="session")
def tested() -> dict[str, list[str]]:
    """The cases of every engine in the table."""
    return {name: [str(case) for case in cases() if case.engine == name] for name in ENGINES}


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Case], Artifact]]:
    """Built artifacts, made once each."""
    made: dict[str, Artifact] = {}
    built: dict[Case, Artifact] = {}
    with contextlib.ExitStack() as stack:

        def get(case: Case) -> Artifact:
            if case.format not in made:
                made[case.format] = RECIPES[case.format].make(tmp_path_factory.mktemp(case.format), stack)
            if case not in built:
                engine = case.new_engine()
                given = made[case.format]
                if case.format in engine.reads:
                    out_dir = tmp_path_factory.mktemp(str(case))
                    built[case] = engine.build(given, BuildOptions(precision=case.precision), out_dir)
                else:
                    built[case] = given
            return built[case]

        yield get


@pytest.fixture
def opened(case: Case, artifacts: Callable[[Case], Artifact]) -> Iterator[Session]:
    with case.new_engine().open(artifacts(case), OpenOptions(precision=case.precision)) as session:
        yield session
