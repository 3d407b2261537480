"""SRCNN (Dong et al. 2014): bicubic enlargement inside the model, then three convolutions.

    assay export examples/srcnn/network.py:srcnn --weights srcnn.pth -o srcnn_x3.onnx
    assay export examples/srcnn/network.py:srcnn_any_scale --weights srcnn.pth --range scale:1.5..4 -o srcnn_any.onnx

Pictures are float32 (batch, 3, height, width), red first, from 0 to 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

import assay

FACTOR = 3


class SuperResolutionNet(nn.Module):
    """``upscale_factor`` is part of the network, as the document has it."""

    def __init__(self, upscale_factor: int = FACTOR) -> None:
        super().__init__()
        self.img_upsampler = nn.Upsample(scale_factor=upscale_factor, mode="bicubic", align_corners=False)
        self.conv1 = nn.Conv2d(3, 64, kernel_size=9, padding=4)
        self.conv2 = nn.Conv2d(64, 32, kernel_size=1)
        self.conv3 = nn.Conv2d(32, 3, kernel_size=5, padding=2)
        self.relu = nn.ReLU()

    def refine(self, enlarged: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.conv3(self.relu(self.conv2(self.relu(self.conv1(enlarged)))))
        return found

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.refine(self.img_upsampler(input))


class AnyScaleNet(SuperResolutionNet):
    """The same weights; the factor is a second input, float32 without dims.

    The size is computed in float32 tensors: PyTorch and an engine then round it alike.
    """

    def forward(self, input: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        height, width = ((scale * edge).to(torch.int64).item() for edge in input.shape[2:])
        torch._check(height >= 1)  # what torch.export cannot know of a size that is computed
        torch._check(width >= 1)
        return self.refine(functional.interpolate(input, size=(height, width), mode="bicubic", align_corners=False))


@assay.register_model
def srcnn(**kwargs: Any) -> Any:
    return SuperResolutionNet(**kwargs)


@assay.register_model
def srcnn_any_scale(**kwargs: Any) -> Any:
    return AnyScaleNet(**kwargs)


srcnn.assay_inputs = ("input:batchx3xheightxwidth",)
srcnn_any_scale.assay_inputs = ("input:batchx3xheightxwidth", "scale:[]")
