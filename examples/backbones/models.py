"""The backbones that are benched, registered by name: ``assay models --from examples/backbones/models.py``.

Adding your own model is three lines:

    @backbone
    def my_net():
        return MyNet()  # any torch.nn.Module that takes (batch, 3, 224, 224)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import assay

TIMM = ("resnet18", "resnet50", *(f"convnextv2_{size}" for size in ("atto", "femto", "pico", "nano", "tiny")))


def backbone(build: Callable[[], Any]) -> Callable[[], Any]:
    """Registers ``build`` under its name, with the input that all backbones here share."""
    build.assay_inputs = ("input:batchx3x224x224",)
    return assay.register_model(build)


def _timm(name: str) -> Any:
    return assay.create_model(f"timm:{name}")


for _name in TIMM:
    _build = functools.partial(_timm, _name)
    _build.__name__ = _name
    globals()[_name] = backbone(_build)


def _faster_vit(name: str) -> Any:
    # A torchvision built for CUDA beside a torch for CPUs would stop the import of timm.
    from assay.sources.torchvision_ops import make_importable

    make_importable()
    import fastervit

    return fastervit.create_model(name)


@backbone
def faster_vit_0_224() -> Any:
    return _faster_vit("faster_vit_0_224")


@backbone
def faster_vit_1_224() -> Any:
    return _faster_vit("faster_vit_1_224")
