"""What comes out for every kind of shape, batch, input and output."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from assay.core.tensors import TensorSpec
from assay.graph.describe import describe
from assay.graph.external_data import companions
from assay.graph.signature import read_signature


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


class RegNetLike(nn.Module):
    """One RegNetY block: grouped convolution, squeeze and excitation, residual."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.a = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.squeeze = nn.Sequential(nn.Conv2d(8, 2, 1), nn.ReLU(), nn.Conv2d(2, 8, 1), nn.Sigmoid())
        self.head = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.b(self.a(x))
        y = y * self.squeeze(y.mean((2, 3), keepdim=True))
        return self.head(torch.relu(x + y).mean((2, 3)))


class Text(nn.Module):
    """Two inputs; nested outputs with a None among them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens: Tensor, mask: Tensor, nothing: Tensor | None = None) -> dict[str, object]:
        hidden = self.embed(tokens) * mask.unsqueeze(-1)
        return {"logits": self.head(hidden.mean(1)), "aux": [hidden, hidden.sum(1)], "nothing": nothing}


class Recurrent(nn.Module):
    """One step of a cell whose state batches at axis 1, as an LSTM's does; nested outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.Linear(5, 5)

    def forward(self, x: Tensor, h: Tensor) -> object:
        state = torch.tanh(self.cell(h) + x.mean(1, keepdim=True).transpose(0, 1))
        return x + state.sum(0).unsqueeze(1), (state, state * 2)


def test_a_dynamic_batch_is_proved_free(export, tmp_path: Path) -> None:
    done = export(classifier(), "x:1x3x16x16")
    assert done.signature.inputs == (TensorSpec("x", "float32", ("batch", 3, 16, 16), 0),)
    assert done.signature.outputs == (TensorSpec("output", "float32", ("batch", 5), 0),)
    assert read_signature(tmp_path / "net.onnx") == done.signature
    (proof,) = done.proofs
    assert proof.name == "batch" and sorted(proof.sizes) == [1, 2, 5] and 0 <= proof.error < 1e-5
    assert done.exporter == "dynamo" and (done.opset_asked, done.opset_obtained) == (None, 18)
    assert [(p.name, p.status) for p in done.passes] == [("onnxslim", "kept")]
    assert done.comparison["output"].n == 8 * 5 and done.comparison["output"].snr_db > 100
    assert done.artifact.parents == ("0" * 64,) and done.artifact.format == "onnx"
    assert not done.warnings and done.seconds > 0
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    assert json.loads(json.dumps(done.to_json()))["free_dims"][0]["name"] == "batch"


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch(export, batch: int) -> None:
    done = export(classifier(), "x:1x3x16x16", batch=batch)
    assert done.signature.inputs[0].shape == (batch, 3, 16, 16)
    assert done.signature.outputs[0] == TensorSpec("output", "float32", (batch, 5), 0)
    assert done.signature.static_batch == batch and done.proofs == ()


def test_opset_11_and_9_through_torchscript(export) -> None:
    for opset in (11, 9):
        done = export(RegNetLike(), "x:1x3x16x16", opset=opset)
        assert (done.exporter, done.opset_asked, done.opset_obtained) == ("torchscript", opset, opset)
        assert str(opset) in done.why and "dynamo" in done.why
        assert done.signature.outputs[0].shape == ("batch", 7)


def test_triton_names_and_a_volume(export) -> None:
    net = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4), nn.ReLU(), nn.ConvTranspose3d(4, 2, 2, 2))
    done = export(net, "x:1x1x6x4x4", opset=9, input_names=("INPUT__0",), output_names=("OUTPUT__0",))
    assert str(done.signature) == "INPUT__0:batchx1x6x4x4:float32 -> OUTPUT__0:batchx2x12x8x8:float32"


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_several_free_dims(export, exporter: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2))
    done = export(net, "x:batchx3xhxw", exporter=exporter, sizes=(("h", 12), ("w", 10)))
    assert done.signature.inputs[0].shape == ("batch", 3, "h", "w")
    assert done.signature.outputs[0].shape[:2] == ("batch", 4)
    proofs = {p.name: p.sizes for p in done.proofs}
    assert set(proofs) == {"batch", "h", "w"}
    assert proofs["h"][0] == 12 and proofs["w"][0] == 10
    assert all(len(set(sizes)) == 3 for sizes in proofs.values())


@pytest.mark.parametrize("opset", [18, 13])
def test_several_inputs_and_nested_outputs(export, opset: int) -> None:
    done = export(Text(), "tokens:batchxseq:int64", "mask:batchxseq", opset=opset)
    assert done.signature.input_names == ("tokens", "mask")
    assert [(s.name, s.shape, s.batch_axis) for s in done.signature.outputs] == [
        ("logits", ("batch", 3), 0),
        ("aux.0", ("batch", "seq", 6), 0),
        ("aux.1", ("batch", 6), 0),
    ]
    assert {t.name for t in onnx.load(str(done.artifact.path)).graph.initializer} >= {"embed.weight"}


def test_inputs_given_by_name_in_another_order_reach_their_parameters(export) -> None:
    done = export(Text(), "mask:batchx4", "tokens:batchx4:int64")
    assert [(s.name, s.dtype) for s in done.signature.inputs] == [("tokens", "int64"), ("mask", "float32")]


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_a_batch_that_is_not_the_first_axis(export, exporter: str) -> None:
    done = export(Recurrent(), "x:batchx3x5", "h:2xbatchx5", exporter=exporter)
    assert [s.batch_axis for s in done.signature.inputs] == [0, 1]
    assert [(s.name, s.shape, s.batch_axis) for s in done.signature.outputs] == [
        ("output_0", ("batch", 3, 5), 0),
        ("output_1.0", (2, "batch", 5), 1),
        ("output_1.1", (2, "batch", 5), 1),
    ]
    assert read_signature(done.artifact.path) == done.signature


def test_an_output_without_a_batch_axis(export) -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x * 2, x.sum()

    done = export(Sum(), "x:batchx4")
    assert [s.batch_axis for s in done.signature.outputs] == [0, None]
    assert not done.signature.is_batched


@pytest.mark.parametrize("opset", [None, 9])
def test_script_modules_go_through_torchscript(export, opset: int | None) -> None:
    done = export(torch.jit.script(classifier().eval()), "x:1x3x16x16", opset=opset)
    assert done.exporter == "torchscript" and "TorchScript" in done.why
    assert done.opset_obtained == (opset or 18)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_without_parameters_the_weights_are_inputs(export, exporter: str) -> None:
    done = export(classifier(), "x:1x3x16x16", params=False, exporter=exporter)
    assert done.signature.input_names[0] == "x"
    assert {s.shape for s in done.signature.inputs[1:]} >= {(8, 3, 3, 3), (5, 8), (5,)}
    assert all(s.batch_axis is None for s in done.signature.inputs[1:])
    assert describe(done.artifact.path).parameters <= 8
    assert any("weights are inputs" in n for n in done.notes)
    assert done.comparison["output"].snr_db > 100


def test_without_constant_folding_no_pass_runs_and_it_is_said(export) -> None:
    done = export(classifier(), "x:1x3x16x16", constant_folding=False, opset=17)
    assert done.passes == ()
    assert any("constant folding is off" in n for n in done.notes)


def test_a_large_model_goes_to_external_data(export, tmp_path: Path) -> None:
    done = export(nn.Linear(32, 64), "x:1x32", external_data_threshold=1000)
    assert [p.name for p in companions(done.artifact.path)] == ["net.onnx.data"]
    assert done.artifact.companions == (tmp_path / "net.onnx.data",)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert done.signature.outputs[0].shape == ("batch", 64)


def test_the_sources_specs_are_used_and_refined(export) -> None:
    known = {"inputs": (TensorSpec("pixels", "float32", ("batch", 3, 16, 16), 0),)}
    assert export(classifier(), model=known, exporter="torchscript").signature.inputs[0].shape == ("batch", 3, 16, 16)
    refined = export(classifier(), "batchx3xhx16", model=known, exporter="torchscript")
    assert refined.signature.inputs[0] == TensorSpec("pixels", "float32", ("batch", 3, "h", 16), 0)
    assert {p.name: p.sizes[0] for p in refined.proofs}["h"] == 16


def test_ranges_bound_the_drawn_inputs(export) -> None:
    done = export(nn.Embedding(3, 4), "tokens:batchx6:int64", ranges=(("tokens", 0, 2),), opset=17)
    assert done.signature.inputs[0].dtype == "int64"


def test_an_unused_input_is_kept_or_said_to_be_dropped(export) -> None:
    class First(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x * 2

    assert export(First(), "x:batchx4", "y:batchx4").signature.input_names == ("x", "y")
    dropped = export(First(), "x:batchx4", "y:batchx4", exporter="torchscript")
    assert dropped.signature.input_names == ("x",)
    assert any("'y'" in n and "dropped" in n for n in dropped.notes)


def test_an_output_that_ignores_the_input_is_called_vacuous(export) -> None:
    net = nn.Linear(8, 3)
    nn.init.zeros_(net.weight)
    done = export(net, "x:1x8", opset=17)
    assert any("vacuous" in w and "'output'" in w for w in done.warnings)


def test_integer_and_boolean_outputs(export) -> None:
    class Top(nn.Module):
        def forward(self, x: Tensor) -> dict[str, Tensor]:
            return {"best": x.argmax(1), "positive": x > 0}

    done = export(Top(), "x:batchx7")
    assert [(s.name, s.dtype) for s in done.signature.outputs] == [("best", "int64"), ("positive", "bool")]


def test_nothing_is_printed_and_the_log_is_kept(export, capfd) -> None:
    done = export(classifier(), "x:1x3x16x16", exporter="torchscript", opset=11)
    assert capfd.readouterr() == ("", "")
    assert "legacy" in done.log


def test_a_rolled_back_pass_is_a_warning(export, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def bad(model):\n    raise ValueError('no')\n")
    done = export(classifier(), "x:1x3x16x16", opset=17, passes=("onnxslim", f"{tmp_path / 'bad.py'}:bad"))
    assert [p.status for p in done.passes] == ["kept", "rolled_back"]
    assert any("rolled back" in w and "ValueError: no" in w for w in done.warnings)
    assert any("bad.py" in n and "ran code" in n for n in done.notes)


def test_the_file_gives_what_pytorch_gives(export) -> None:
    """Not through the package's own comparison."""
    import onnxruntime

    net = classifier()
    done = export(net, "x:1x3x16x16")
    x = np.random.default_rng(5).standard_normal((3, 3, 16, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(done.artifact.path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_an_input_passed_by_keyword_past_an_optional_one(export, exporter: str) -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, a: Tensor, b: Tensor | None = None, c: Tensor | None = None) -> Tensor:
            out = self.inner(a) if b is None else b
            return out if c is None else out * c

    done = export(Skips(), "a:batchx4", "c:batchx4", exporter=exporter, passes=())
    assert done.signature.input_names == ("a", "c")
    assert "inner.bias" in {t.name for t in onnx.load(str(done.artifact.path)).graph.initializer}


def test_an_exported_program(export) -> None:
    dim = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(classifier().eval(), (torch.zeros(2, 3, 16, 16),), dynamic_shapes=({0: dim},))
    done = export(program.module(), "x:1x3x16x16")
    assert done.exporter == "dynamo" and done.proofs[0].name == "batch"
