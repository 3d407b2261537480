"""A small Gather-Excite ResNet for CIFAR-10's pictures (Hu et al. 2018, the form with parameters and global extent).

assay export genet.pth.tar --arch examples/genet_cifar10/network.py:genet --opset 11 -o genet.onnx
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import assay

WIDTHS = (16, 32, 64)


class GatherExcite(nn.Module):
    """Gathers a whole map by a depthwise convolution of the map's size, and gates the map with what was gathered.

    Such a convolution has one place to be at, so it is written as the weighted sum that it is.
    """

    def __init__(self, channels: int, extent: int) -> None:
        super().__init__()
        self.gather = nn.Parameter(torch.empty(channels, extent, extent).uniform_(-1, 1) / extent)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(self.norm((x * self.gather).sum(dim=(2, 3), keepdim=True)))


class Block(nn.Module):
    """Two convolutions, gather-excite, and the shortcut; ``extent`` is the edge of what comes out."""

    def __init__(self, before: int, after: int, extent: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.gate = GatherExcite(after, extent)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Conv2d(before, after, 1, stride=stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = torch.relu(self.first_norm(self.first(x)))
        inner = self.gate(self.second_norm(self.second(inner)))
        return torch.relu(inner + self.shortcut(x))


class GENet(nn.Module):
    """float32 (batch, 3, 32, 32) -> ten scores (batch, 10)."""

    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        before, extent = WIDTHS[0], 32
        for width in WIDTHS:
            for number in range(depth):
                stride = 2 if number == 0 and width != WIDTHS[0] else 1
                extent //= stride
                blocks.append(Block(before, width, extent, stride))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(before, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.blocks(self.stem(image)).mean(dim=(2, 3)))
        return scores


@assay.register_model
def genet(**kwargs: Any) -> Any:
    return GENet(**kwargs)


genet.assay_inputs = ("image:batchx3x32x32",)
