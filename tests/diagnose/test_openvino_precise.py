"""Operators that OpenVINO is told to leave in fp32 really run there, and the model computes the same."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from assay.core.engine import OpenOptions
from assay.core.errors import EngineFailed
from assay.diagnose.openvino_precise import keep_precise
from assay.job.opening import engine
from assay.job.single import file_model

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import networks

if engine("openvino").unavailable("cpu", "bf16") is not None:
    pytest.skip("openvino has no bf16 here", allow_module_level=True)


@pytest.fixture(scope="module", params=["vit", "unet3d"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    module, x = networks.build(request.param, 0), networks.example(request.param, 4)
    path = networks.export(module, x, folder / "model.onnx")
    with torch.no_grad():
        truth = module.double()(torch.from_numpy(x).double()).numpy()
    return path, x, truth, folder


def error(path, x, truth, precision):
    with engine("openvino").open(file_model(path), OpenOptions(precision=precision)) as session:
        found = session.run({"x": x})["y"]
    return float(np.sqrt(((found - truth) ** 2).mean() / (truth**2).mean()))


def tensors(path):
    return [(name, list(node.input)) for node in onnx.load(path).graph.node for name in node.output]


def test_kept_operators_take_their_part_of_the_error_away(made):
    path, x, truth, folder = made
    every = tensors(path)
    assert keep_precise(path, every, folder / "all.xml") > 10
    plain, kept = error(path, x, truth, "bf16"), error(folder / "all.xml", x, truth, "bf16")
    assert kept < 0.6 * plain
    assert error(folder / "all.xml", x, truth, "fp32") < 1e-6  # rewritten, and still the same model


def test_a_tensor_nobody_makes_keeps_nothing(made):
    path, _, _, folder = made
    assert keep_precise(path, [("no such tensor", [])], folder / "none.xml") == 0


def test_what_is_no_model_is_refused(tmp_path):
    (tmp_path / "x.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineFailed, match=r"x\.onnx"):
        keep_precise(tmp_path / "x.onnx", [], tmp_path / "y.xml")
