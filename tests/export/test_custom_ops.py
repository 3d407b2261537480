"""Operators the exporters do not know, translated by a user's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import BadInput, ExportFailed
from assay.graph.describe import describe

ASINH = 'TORCHSCRIPT = {"aten::asinh": lambda g, x: g.op("Asinh", x)}\n'
TWICE = """
import torch
from onnxscript import opset18 as op

def twice(x):
    return op.Mul(x, op.Constant(value_floats=[2.0]))

DYNAMO = {torch.ops.assay_test.twice.default: twice}
"""


@torch.library.custom_op("assay_test::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class Asinh(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.asinh(x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.assay_test.twice(self.head(x))


@pytest.fixture
def file(tmp_path_factory: pytest.TempPathFactory):
    def write(text: str) -> Path:
        path = tmp_path_factory.mktemp("ops") / "ops.py"
        path.write_text(text)
        return path

    return write


def test_asinh_at_opset_17_needs_a_translation_and_the_file_gives_it(export, file) -> None:
    asked = {"exporter": "torchscript", "opset": 17}
    with pytest.raises(ExportFailed, match="aten::asinh") as caught:
        export(Asinh(), "x:1x3x10x10", **asked)
    assert "--custom-op" in str(caught.value.remedy)
    done = export(Asinh(), "x:1x3x10x10", **asked, custom_ops=file(ASINH))
    assert done.opset_obtained == 17
    assert describe(done.artifact.path).op_counts == {"Asinh": 1}
    assert done.comparison["output"].max_abs < 1e-6
    assert any("ops.py ran code" in n for n in done.notes)


def test_a_translation_is_forgotten_after_the_export(export, file) -> None:
    asked = {"exporter": "torchscript", "opset": 17}
    export(Asinh(), "x:1x4", **asked, custom_ops=file(ASINH))
    with pytest.raises(ExportFailed, match="aten::asinh"):
        export(Asinh(), "x:1x4", **asked)


def test_a_custom_operator_through_dynamo(export, file) -> None:
    with pytest.raises(ExportFailed, match="twice"):
        export(Twice(), "x:1x4", exporter="dynamo")
    done = export(Twice(), "x:1x4", custom_ops=file(TWICE))
    assert done.exporter == "dynamo" and "this exporter only" in done.why
    assert describe(done.artifact.path).op_counts["Mul"] == 1
    assert done.comparison["output"].snr_db > 100


def test_a_wrong_translation_is_found(export, file) -> None:
    wrong = 'TORCHSCRIPT = {"aten::asinh": lambda g, x: g.op("Sinh", x)}\n'
    with pytest.raises(ExportFailed, match="differs from PyTorch"):
        export(Asinh(), "x:1x4", opset=17, custom_ops=file(wrong))


def test_the_file_chooses_the_exporter_under_auto(export, file) -> None:
    done = export(Asinh(), "x:1x4", custom_ops=file(ASINH))
    assert done.exporter == "torchscript" and done.opset_obtained == 18


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "neither DYNAMO nor TORCHSCRIPT"),
        ("TORCHSCRIPT = [1]\n", "must map operators to functions"),
        ('TORCHSCRIPT = {"aten::asinh": 3}\n', "must map operators to functions"),
        ('TORCHSCRIPT = {"asinh": print}\n', "not an operator's name"),
        ("import torch\nDYNAMO = {torch.ops.aten.asinh: print}\n", "has overloads"),
        ('DYNAMO = {"aten::asinh": print}\n', "not a torch operator"),
        ("import no_such_module\n", "ModuleNotFoundError"),
    ],
)
def test_malformed_files(export, file, text: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        export(Asinh(), "x:1x4", custom_ops=file(text))


def test_a_missing_file_and_one_for_the_other_exporter(export, file, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no file"):
        export(Asinh(), "x:1x4", custom_ops=tmp_path / "none.py")
    with pytest.raises(BadInput, match="no translations for the dynamo exporter"):
        export(Asinh(), "x:1x4", custom_ops=file(ASINH), exporter="dynamo")
