"""A small depthwise-separable classifier of handwritten digits that is hard to quantise.

    assay run examples/quantize/model.py:uneven_digits --weights weights.pt --data digits --max-drop 0.5%

``uneven`` gives the channels between two layers ranges that differ by a factor of up to ten thousand and
divides it out again: the function stays the same, but one scale for all channels of an activation no
longer fits.  Trained networks get there by themselves, depthwise ones above all (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", 2019).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

import assay

SPREAD = 4.0
"""Ranges of channels differ by up to 10 to this power."""
PREPROCESS = {
    "kind": "image",
    "size": [16, 16],
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "interpolation": "bilinear",
    "mean": [0.5],
    "std": [0.5],
    "channels": 1,
}


@assay.register_model
def uneven_digits(**kwargs: Any) -> Any:
    """float32 (batch, 1, 16, 16) -> ten scores (batch, 10); ``width`` is the number of channels (12)."""
    width = kwargs.get("width", 12)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, groups=width),
        nn.ReLU(),
        nn.Conv2d(width, width, 1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * width, 10),
    )


uneven_digits.assay_inputs = ("input:batchx1x16x16",)
uneven_digits.assay_labels = tuple("0123456789")
uneven_digits.assay_preprocess = PREPROCESS


def uneven(model: Any, seed: int = 0, spread: float = SPREAD) -> None:
    """Scale the channels between one convolution and the next; in place, the function stays.

    A Relu lets a positive factor through, so what one layer is multiplied by, the next divides out.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = [layer for layer in model if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for before, after in itertools.pairwise(layers):
            factors = 10 ** (spread * (torch.rand(before.out_channels, generator=generator) - 0.5))
            before.weight *= factors[:, None, None, None]
            before.bias *= factors
            depthwise = after.groups > 1
            after.weight /= factors[:, None, None, None] if depthwise else factors[None, :, None, None]
