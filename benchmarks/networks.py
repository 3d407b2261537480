"""Four small architectures with live random weights, for checks that need many models quickly.

``build(name, seed)`` gives a module in eval mode, ``export(module, example, path)`` its ONNX file (the
TorchScript exporter: a tenth of a second), ``example(name, rows, seed)`` its input.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from assay.graph.quiet import quiet

NETWORKS = ("cnn", "convnext", "vit", "unet3d")
SHAPES = {"cnn": (3, 24, 24), "convnext": (3, 24, 24), "vit": (3, 24, 24), "unet3d": (1, 8, 8, 8)}


class Cnn(nn.Module):
    """Residual blocks with batch norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList(_residual(width) for _ in range(3))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = torch.relu(x + block(x))
        return self.head(x.mean((2, 3)))


def _residual(width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width),
    )  # fmt: skip


class ConvNext(nn.Module):
    """Depthwise convolutions, layer norms over channels, gelu."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 4, 4)
        self.depthwise = nn.ModuleList(nn.Conv2d(width, width, 7, padding=3, groups=width) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(3))
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(3))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for depthwise, norm, up, down in zip(self.depthwise, self.norms, self.up, self.down, strict=True):
            y = norm(depthwise(x).permute(0, 2, 3, 1))
            x = x + down(nn.functional.gelu(up(y))).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class Vit(nn.Module):
    """Patches, attention written out, gelu."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.patch = nn.Conv2d(3, width, 6, 6)
        self.place = nn.Parameter(torch.randn(1, 16, width) * 0.1)
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(3))
        self.out = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.up = nn.ModuleList(nn.Linear(width, 4 * width) for _ in range(3))
        self.down = nn.ModuleList(nn.Linear(4 * width, width) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(6))
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        for i in range(3):
            q, k, v = self.qkv[i](self.norms[2 * i](x)).chunk(3, -1)
            x = x + self.out[i](torch.softmax(q @ k.transpose(1, 2) / self.width**0.5, -1) @ v)
            x = x + self.down[i](nn.functional.gelu(self.up[i](self.norms[2 * i + 1](x))))
        return self.head(x.mean(1))


class Unet3d(nn.Module):
    """Down, up by a transposed convolution, a skip, masks out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(1, width, 3, padding=1)
        self.norm = nn.InstanceNorm3d(width, affine=True)
        self.down = nn.Conv3d(width, 2 * width, 3, stride=2, padding=1)
        self.mid = nn.Conv3d(2 * width, 2 * width, 3, padding=1)
        self.up = nn.ConvTranspose3d(2 * width, width, 2, 2)
        self.last = nn.Conv3d(2 * width, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.norm(self.first(x)))
        b = self.up(torch.relu(self.mid(torch.relu(self.down(a)))))
        return self.last(torch.cat([a, b], 1))


_MAKERS = {"cnn": (Cnn, (16, 24)), "convnext": (ConvNext, (16, 32)), "vit": (Vit, (24, 32)), "unet3d": (Unet3d, (6, 8))}


def build(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    maker, widths = _MAKERS[name]
    module = maker(widths[seed % len(widths)])
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None
            assert m.running_var is not None
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
            nn.init.uniform_(m.weight, 0.5, 1.5)
    return module.eval()


def example(name: str, rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, *SHAPES[name])).astype(np.float32)


def export(module: nn.Module, x: np.ndarray, path: Path) -> Path:
    with quiet(("torch",)), torch.no_grad():
        torch.onnx.export(
            module,
            (torch.from_numpy(x[:2]),),
            str(path),
            dynamo=False,
            opset_version=20,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )
    return path
