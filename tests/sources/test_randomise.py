"""Randomised weights must let every branch be seen at the output, and outputs depend on inputs."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from assay.core.errors import BadInput
from assay.core.shapes import parse_shape
from assay.core.tensors import TensorSpec
from assay.sources import resolve_model
from assay.sources.digest import digest_state
from assay.sources.inputs import draw
from assay.sources.randomise import calibrate, randomise, silent_branches, tensors_of

GE_NET = """
import functools
from timm.layers import GatherExcite
from timm.models.resnet import BasicBlock, ResNet

def ge_net():
    attention = functools.partial(GatherExcite, use_mlp=False)
    return ResNet(BasicBlock, (1, 1, 1, 1), channels=(16, 24, 32, 40), num_classes=10, in_chans=1,
                  stem_width=16, block_args={"attn_layer": attention})

ge_net.assay_inputs = ["input:batchx1x32x32"]
"""
# What ends the residual branches of each family, by the name of the sub-module.
NETS = {
    "timm:resnet18": ("bn2", ".conv2"),
    "timm:convnextv2_atto": (".mlp.fc2", ".mlp.grn", ".conv_dw"),
    "timm:vit_tiny_patch16_224?img_size=32": (".attn.proj", ".mlp.fc2"),
    "timm:regnety_016": (".conv3.bn", ".se.fc2"),
    "ge_net": ("bn2", ".conv2"),
}


def spec_of(name: str, tmp_path: Path) -> str:
    if ":" in name:
        return name
    (tmp_path / "ge.py").write_text(GE_NET)
    return f"{tmp_path}/ge.py:{name}"


def small_shape(name: str) -> tuple:
    return () if name == "ge_net" else (parse_shape("batchx3x32x32"),)


@pytest.mark.parametrize("name", NETS)
def test_every_branch_reaches_the_output(options, tmp_path: Path, name: str) -> None:
    model = resolve_model(spec_of(name, tmp_path), options(shapes=small_shape(name)))
    net = model.artifact.module()
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(2, *model.inputs[0].shape[1:], generator=generator)
    ends = [(n, p) for n, p in net.named_modules() if n.endswith(NETS[name])]
    assert len(ends) >= 4
    with torch.no_grad():
        before = net(x)
        for path, part in ends:
            tensors = [t for t in (*part.parameters(), *part.buffers()) if t.is_floating_point()]
            kept = [t.clone() for t in tensors]
            for tensor in tensors:
                tensor.mul_(1 + 0.5 * torch.rand(tensor.shape, generator=generator))
            after = net(x)
            for tensor, old in zip(tensors, kept, strict=True):
                tensor.copy_(old)
            change = float((after - before).abs().max() / before.abs().max())
            assert math.isfinite(change)
            assert change > 1e-4, f"{path} does not reach the output"


@pytest.mark.parametrize("name", NETS)
def test_outputs_are_finite_and_depend_on_inputs(options, tmp_path: Path, name: str) -> None:
    model = resolve_model(spec_of(name, tmp_path), options(seed=1, shapes=small_shape(name)))
    net = model.artifact.module()
    with torch.no_grad():
        for x in (draw(model.inputs, 4, 7)[0], torch.randn(4, *model.inputs[0].shape[1:])):
            y = net(x)
            assert bool(torch.isfinite(y).all())
            magnitude = float(y.square().mean().sqrt())
            assert 1e-2 < magnitude < 1e3
            assert float(y.std(0).mean()) > 0.05 * magnitude
    assert not any("hardly depends" in w for w in model.warnings)
    assert silent_branches(net) == []
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert not bool((part.running_mean == 0).any())
            assert not bool((part.running_var == 1).all())
    assert all(bool(p.any()) for p in net.parameters())


def test_zero_initialised_scales_come_alive() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer_scale = nn.Parameter(torch.full((4,), 1e-6))
            self.gamma = nn.Parameter(torch.zeros(4))
            self.skip_gain = nn.Parameter(torch.zeros(()))
            self.pos_embed = nn.Parameter(torch.zeros(1, 3, 4))
            self.logit_scale = nn.Parameter(torch.tensor(2.66))
            self.lstm = nn.LSTM(4, 4, batch_first=True)
            self.table = nn.Embedding(5, 4)
            self.deconv = nn.ConvTranspose2d(4, 4, 2, 2)
            self.wave = nn.Parameter(torch.zeros(4, 4, dtype=torch.complex64))

    net = Net()
    count = randomise(net, 0)
    assert count == len(list(net.parameters()))
    assert all(bool(p.detach().abs().max() > 0) for p in net.parameters())
    assert net.layer_scale.min().item() >= 0.3
    assert net.skip_gain.item() >= 0.3
    assert 2.3 < net.logit_scale.item() < 3.0
    assert 0.5 < net.table.weight.std().item() < 1.6


def test_same_seed_same_numbers() -> None:
    nets = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(3)]
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        randomise(net, seed)
    digests = [digest_state(n) for n in nets]
    assert digests[0] == digests[1] != digests[2]


def test_shared_parameters_are_set_once() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[1].weight = net[0].weight
    assert randomise(net, 0) == 3
    assert net[1].weight is net[0].weight


def test_kept_parameters_stay() -> None:
    net = nn.Linear(4, 4)
    before = net.weight.clone()
    assert randomise(net, 0, frozenset({"weight"})) == 1
    assert torch.equal(net.weight, before)


def test_nothing_to_randomise() -> None:
    with pytest.raises(BadInput, match="no floating-point"):
        randomise(nn.ReLU(), 0)


def test_deep_network_without_norms_neither_vanishes_nor_explodes() -> None:
    net = nn.Sequential(*[layer for _ in range(30) for layer in (nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32))])
    randomise(net, 0)
    with torch.no_grad():
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(20)
    assert calibrate(net, (TensorSpec("x", "float32", ("batch", 32)),), 0, "net") == []
    with torch.no_grad():
        y = net(torch.randn(16, 32))
    assert 1e-2 < float(y.std(0).mean()) < 1e2


def test_an_output_that_ignores_its_input_is_told() -> None:
    class Deaf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bias + 0 * x[:, :3]

    net = Deaf()
    randomise(net, 0)
    warnings = calibrate(net, (TensorSpec("x", "float32", ("batch", 4)),), 0, "deaf")
    assert any("output 0 hardly depends" in w for w in warnings)


def test_outputs_that_are_not_finite_are_refused() -> None:
    class Bad(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x).abs().neg().sqrt()

    net = Bad()
    randomise(net, 0)
    with pytest.raises(BadInput, match="not finite"):
        calibrate(net, (TensorSpec("x", "float32", ("batch", 4)),), 0, "bad")


def test_static_batch_of_one_is_calibrated() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)).eval()
    randomise(net, 0)
    assert calibrate(net, (TensorSpec("x", "float32", (1, 3, 8, 8)),), 0, "net") == []
    assert bool(torch.isfinite(net(torch.randn(1, 3, 8, 8))).all())


def test_threads_and_hooks_are_restored() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    randomise(net, 0)
    threads = torch.get_num_threads()
    calibrate(net, (TensorSpec("x", "float32", ("batch", 4)),), 0, "net")
    assert torch.get_num_threads() == threads
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_several_outputs_in_any_structure() -> None:
    x = torch.ones(2)
    assert len(tensors_of({"a": [x, (x, None)], "b": x.long(), "c": 3})) == 2


def test_same_digest_in_another_process_whatever_its_threads(options, net_file: Path, tmp_path: Path) -> None:
    mine = resolve_model(f"{net_file}:Net", options(seed=5))
    assert mine.artifact.sha256 == resolve_model(f"{net_file}:Net", options(seed=5)).artifact.sha256
    assert mine.artifact.sha256 != resolve_model(f"{net_file}:Net", options(seed=6)).artifact.sha256
    shaped = resolve_model(f"{net_file}:Net", options(seed=5, shapes=(parse_shape("image:batchx2x9x9"),)))
    assert mine.artifact.sha256 != shaped.artifact.sha256
    moved = tmp_path / "elsewhere" / "net.py"
    moved.parent.mkdir()
    moved.write_text(net_file.read_text())
    code = (
        "import torch; torch.set_num_threads(3)\nfrom pathlib import Path\n"
        "from assay.sources import SourceOptions, resolve_model\nfrom assay.sources.digest import digest_state\n"
        f"m = resolve_model({f'{moved}:Net'!r}, SourceOptions(seed=5, out_dir=Path({str(tmp_path / 'other')!r})))\n"
        "print(m.artifact.sha256, digest_state(m.artifact.module()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [mine.artifact.sha256, digest_state(mine.artifact.module())], done.stderr


def test_a_freshly_built_resnet_has_silent_branches_and_loses_them() -> None:
    from assay.sources import create_model

    net = create_model("timm:resnet18")
    assert "layer1.0.bn2" in silent_branches(net)
    randomise(net, 0)
    assert silent_branches(net) == []


def test_parameters_that_were_never_set() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Parameter(torch.full((3,), float("nan")))
            self.far = nn.Parameter(torch.tensor([float("inf"), 1.0, 2.0]))
            self.head = nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x * self.gate + self.far)

    module = Gated()
    randomise(module, 0)
    assert all(bool(torch.isfinite(p).all()) for p in module.parameters())
    assert bool(module.gate.any())
