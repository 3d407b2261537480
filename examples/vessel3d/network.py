"""A small 3-D U-Net for vessels, with the operators that the document maps: asinh, instance_norm and group_norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Down(nn.Module):
    """Two convolutions with instance norms, the first of which may halve every side."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(before, after, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.InstanceNorm3d(after, affine=True)
        self.second = nn.Conv3d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.InstanceNorm3d(after, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(x)))


class Up(nn.Module):
    """Doubles every side, joins what came across, one convolution with a group norm."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(before, after, 2, stride=2)
        self.join = nn.Conv3d(2 * after, after, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(4, after)

    def forward(self, x: Tensor, across: Tensor) -> Tensor:
        return torch.relu(self.norm(self.join(torch.cat((self.up(x), across), dim=1))))


class VesselNet(nn.Module):
    """float32 (N, 1, D, H, W) -> logits (N, 1, D, H, W); every side a multiple of 4.

    ``asinh`` keeps dim vessels apart from the background and compresses bright specks.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.top = Down(1, width, 1)
        self.middle = Down(width, 2 * width, 2)
        self.bottom = Down(2 * width, 4 * width, 2)
        self.up_middle = Up(4 * width, 2 * width)
        self.up_top = Up(2 * width, width)
        self.head = nn.Conv3d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        top = self.top(torch.asinh(x))
        middle = self.middle(top)
        x = self.up_middle(self.bottom(middle), middle)
        logits: Tensor = self.head(self.up_top(x, top))
        return logits
