"""ONNX weights said to lie outside the model's folder: whoever served them would read files for a stranger."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.hardening.attack import told
from tests.hardening.corpus import call, command
from tests.hardening.fuzz import Worker
from tests.hardening.test_code_in_files import as_candidate

from assay.bundle.manifest import write_manifest
from assay.core.artifact import digest_file

SECRET = np.arange(16, dtype=np.float32)


def outside(location: str) -> TensorProto:
    """A 4×4 weight that lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "64")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(location: str, path: Path, *, in_node: bool = False) -> Path:
    """y = x·w; with ``in_node`` the weight is a Constant's attribute."""
    info = helper.make_tensor_value_info
    weight = outside(location)
    nodes = [helper.make_node("Constant", [], ["w"], value=weight)] if in_node else []
    graph = helper.make_graph(
        [*nodes, helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [info("x", TensorProto.FLOAT, ["n", 4])],
        [info("y", TensorProto.FLOAT, ["n", 4])],
        [] if in_node else [weight],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(whole.SerializeToString())
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "w.bin"
    path.write_bytes(SECRET.tobytes())
    return path


def _link(folder: Path, secret: Path) -> str:
    (folder / "link.bin").symlink_to(secret)
    return "link.bin"


def _folder_link(folder: Path, secret: Path) -> str:
    (folder / "d").symlink_to(secret.parent)
    return "d/w.bin"


def _hard_link(folder: Path, secret: Path) -> str:
    os.link(secret, folder / "hard.bin")
    return "hard.bin"


PLACES: dict[str, Callable[[Path, Path], str]] = {
    "climbing": lambda folder, secret: "../elsewhere/w.bin",
    "climbing from within": lambda folder, secret: "x/../../elsewhere/w.bin",
    "absolute": lambda folder, secret: str(secret),
    "a link": _link,
    "a link to a folder": _folder_link,
    "a hard link": _hard_link,
    "a NUL": lambda folder, secret: "w.bin\0/../../elsewhere/w.bin",
    "a device": lambda folder, secret: "/dev/zero",
    "nothing": lambda folder, secret: "",
}


@pytest.mark.parametrize("in_node", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_weights_outside_the_folder(place: str, in_node: bool, secret: Path, worker: Worker, tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    path = model(PLACES[place](folder, secret), folder / "m.onnx", in_node=in_node)
    for case in (
        command("inspect", path),
        command("bench", path, "--engine", "onnxruntime", "--batch", 1, "--duration", 0.05),
        command("bench", path, "--engine", "openvino", "--batch", 1, "--duration", 0.05),
        command("verify", path, path, "--samples", 1, "--batch", 1, "--no-self-check"),
        command("build", path, "--engine", "openvino", "-o", tmp_path / "built"),
        call("serve_model", path),
    ):
        code, said = told(worker, case)
        assert code == 2, said


def test_weights_beside_the_model_are_read(worker: Worker, tmp_path: Path) -> None:
    """The control: the same graph with its weights in its own folder."""
    path = model("w.bin", tmp_path / "m.onnx")
    (tmp_path / "w.bin").write_bytes(SECRET.tobytes())
    case = command("bench", path, "--engine", "onnxruntime", "--batch", 1, "--duration", 0.05)
    assert told(worker, case)[0] == 0


@pytest.mark.parametrize("place", ["climbing", "absolute"])
def test_a_bundle_whose_model_reaches_out(
    place: str, finished: Path, secret: Path, worker: Worker, tmp_path: Path
) -> None:
    """Every digest fits and bundle.json names no companion: the graph alone reaches out."""
    bundle = tmp_path / "bundle"
    shutil.copytree(finished / "bundle", bundle)
    described: dict[str, Any] = json.loads((bundle / "bundle.json").read_text())
    path = bundle / described["artifact"]["path"]
    assert path.suffix == ".onnx"
    graph = onnx.load(path)
    bias = next(t for t in graph.graph.initializer if t.name == "b")
    bias.Clear()
    bias.CopyFrom(outside("../../elsewhere/w.bin" if place == "climbing" else str(secret)))
    bias.name, bias.dims[:] = "b", [10]
    bias.external_data[2].value = "40"
    path.write_bytes(graph.SerializeToString())
    described["artifact"]["sha256"] = described["candidate"]["artifact_sha256"] = digest_file(path)
    as_candidate(described)
    (bundle / "bundle.json").write_text(json.dumps(described))
    write_manifest(bundle)
    code, said = told(worker, command("check", bundle))
    assert code == 1 and "failed    open" in said, said
    assert told(worker, call("serve_bundle", bundle))[0] == 4
    assert told(worker, command("bench", bundle, "--batch", 1, "--duration", 0.05))[0] in (2, 4)
