"""Which ONNX operators the TorchScript exporter made of each ATen operator, kept in the file it wrote."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.onnx._internal.torchscript_exporter import utils

from assay.graph.mapping import aten_mapping
from assay.graph.signature import load_model


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, 4, 3, padding=1)
        self.second = nn.Conv3d(4, 4, 3, padding=1)
        self.group, self.instance = nn.GroupNorm(2, 4), nn.InstanceNorm3d(4, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.group(self.first(x)))
        return self.instance(self.second(x))


def test_a_scripted_module_s_operators_one_to_one_and_one_to_many(export) -> None:
    before = utils._run_symbolic_function
    done = export(torch.jit.script(Normed().eval()), "x:batchx1x8x8x8", opset=9)
    assert utils._run_symbolic_function is before
    rows = {row.aten: row for row in aten_mapping(load_model(done.artifact.path))}
    assert rows["aten.conv3d"].onnx == ("Conv",) and rows["aten.conv3d"].calls == 2
    assert rows["aten.relu"].onnx == ("Relu",)
    assert rows["aten.instance_norm"].kind == "one-to-one"
    assert rows["aten.group_norm"].kind == "one-to-many"
    assert {"InstanceNormalization", "Mul", "Add"} <= set(rows["aten.group_norm"].onnx)
    # Arithmetic on sizes, of which scripted norms have much, is no operator of the network.
    assert rows.keys() == {"aten.conv3d", "aten.relu", "aten.instance_norm", "aten.group_norm"}


def test_a_traced_module_s_operators(export) -> None:
    done = export(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "x:batchx4", exporter="torchscript", opset=13)
    rows = {row.aten: row.onnx for row in aten_mapping(load_model(done.artifact.path))}
    assert rows["aten.relu"] == ("Relu",) and "Gemm" in rows["aten.linear"]
