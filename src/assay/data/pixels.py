"""PixelTransform: a picture at its own size as floats, for models that map pictures to pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.data import pillow_path

ORDERS = ("RGB", "BGR")


@dataclass(frozen=True)
class PixelSettings:
    """``white`` is the value of full intensity (1 or 255); ``channels`` 1 is grey."""

    white: float = 1.0
    order: str = "RGB"
    channels: int = 3

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise BadInput(f"pixel transform: order must be {' or '.join(ORDERS)}, not {self.order!r}")
        if not isinstance(self.channels, int) or self.channels not in pillow_path.MODES:
            raise BadInput(f"pixel transform: channels must be 1 or 3, not {self.channels}")
        if not isinstance(self.white, (int, float)) or isinstance(self.white, bool) or not 0 < self.white < math.inf:
            raise BadInput(f"pixel transform: white must be a positive number, not {self.white}")


class PixelTransform:
    """Encoded bytes, a PIL image or a uint8 array -> float32 (channels, H, W), 0 … ``white``, nothing resized."""

    def __init__(self, settings: PixelSettings) -> None:
        self.settings = settings

    def __call__(self, item: Any) -> Array:
        pixels = pillow_path.pixels(pillow_path.decode(item, self.settings.channels))
        if self.settings.order == "BGR":
            pixels = pixels[:, :, ::-1]
        values = pixels.transpose(2, 0, 1).astype(np.float32)
        if self.settings.white != 255:
            values *= np.float32(self.settings.white / 255)
        return np.ascontiguousarray(values)

    def to_json(self) -> Mapping[str, Any]:
        return {"kind": "pixels", **asdict(self.settings)}


def pixel_transform(data: Mapping[str, Any]) -> PixelTransform:
    """From ``{"kind": "pixels", "white": 1.0, …}``.  Raises BadInput, naming the setting that is wrong."""
    settings = {k: v for k, v in data.items() if k != "kind"}
    unknown = [k for k in settings if k not in PixelSettings.__dataclass_fields__]
    if unknown:
        raise BadInput(f"pixel transform: unknown setting {unknown[0]!r}")
    return PixelTransform(PixelSettings(**settings))
