"""A small Gather-Excite ResNet for scikit-learn's handwritten digits.

    assay run examples/demo/model.py:ge_resnet_digits --weights weights.pt --data digits

In the manner of GENet (Hu et al., "Gather-Excite: Exploiting Feature Context in Convolutional
Neural Networks", 2018, the variant without parameters): every residual block gathers its features
over the whole map and gates them with what it found.
"""

from __future__ import annotations

import functools
from typing import Any

import assay

PREPROCESS = {
    "kind": "image",
    "size": [32, 32],
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "interpolation": "bilinear",
    "mean": [0.5],
    "std": [0.5],
    "channels": 1,
}


@assay.register_model
def ge_resnet_digits(**kwargs: Any) -> Any:
    """float32 (batch, 1, 32, 32) -> ten scores (batch, 10); 0.32 M parameters.

    ``kwargs`` override the arguments of timm's ``ResNet``.
    """
    # A torchvision built for CUDA beside a torch for CPUs would stop the import of timm.
    from assay.sources.torchvision_ops import make_importable

    make_importable()
    from timm.layers import GatherExcite
    from timm.models.resnet import BasicBlock, ResNet

    settings: dict[str, Any] = {
        "layers": [1, 1, 1, 1],
        "channels": (16, 32, 64, 128),
        "in_chans": 1,
        "num_classes": 10,
        # use_mlp=False: the layer's mlp form does not build in timm 1.0.31.
        "block_args": {"attn_layer": functools.partial(GatherExcite, use_mlp=False)},
        **kwargs,
    }
    return ResNet(BasicBlock, **settings)


# What assay needs to know and a module cannot tell: shapes, class names, preprocessing.
ge_resnet_digits.assay_inputs = ("input:batchx1x32x32",)
ge_resnet_digits.assay_labels = tuple("0123456789")
ge_resnet_digits.assay_preprocess = PREPROCESS
