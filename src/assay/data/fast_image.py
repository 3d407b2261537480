"""FastImageTransform: near ImageTransform's bytes, not equal to them, in less time.

A JPEG far larger than needed is decoded at a smaller scale (the decoder leaves out the finest frequencies); what is
left is resized by the compiled filter or, where that is missing, by torch's antialiased one.  (Where both are there the
compiled one is faster: 0.25 against 0.8 ms for 500×375 on one core of an AMD EPYC, so a picture of that size gains
nothing and one of 2000×1500 takes about half the time.)

Opt-in, because a model trained on one resize is measurably, if slightly, another model on the other: who asks for it is
told the accuracy it costs on the data at hand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.core.errors import BadInput, NotAvailable
from assay.core.tensors import Array
from assay.data import fast_path, pillow_path
from assay.data.geometry import place
from assay.data.image import ImageTransform, image_transform

KIND = "fast_image"
TORCHS = ("bilinear", "bicubic")
_SMALLEST_FACTOR = 2.0
"""Scaling by less than a half takes the decoder longer than not scaling."""
_ROOM = 1.4
"""How much larger than needed the decoded picture stays: nearer, the decoder's own scaling is seen to cost most."""


class FastImageTransform:
    """Encoded bytes, a PIL image or a uint8 array -> normalised float32 (channels, height, width).

    Raises BadInput for the crop mode ``border``; without the compiled filter also for interpolations torch does not
    have antialiased, and NotAvailable without torch.
    """

    def __init__(self, image: ImageTransform) -> None:
        settings = image.settings
        if settings.crop_mode == "border":
            raise BadInput("the fast transform does not fill up borders", remedy="leave --preprocess fast out")
        self.settings = settings
        self._image = image
        self._compiled = image.ways().resampler == "c" and settings.interpolation in fast_path.FILTERS
        if not self._compiled:
            _check_torch(settings.interpolation)

    def __call__(self, item: Any) -> Array:
        pixels = self._decoded(item)
        return self._image(pixels) if self._compiled else self._image.normalise(self._by_torch(pixels))

    def into(self, item: Any, out: Array) -> None:
        """Write the result into ``out``, as ImageTransform does."""
        if self._compiled:
            self._image.into(self._decoded(item), out)
        else:
            out[...] = self(item)

    def ways(self) -> fast_path.Ways:
        """As ImageTransform's, with what resizes here."""
        found = self._image.ways()
        return fast_path.Ways(found.decoder, "c" if self._compiled else "torch", found.order, found.notes)

    def to_json(self) -> Mapping[str, Any]:
        return {**self._image.to_json(), "kind": KIND, "resize": "c" if self._compiled else "torch"}

    def _decoded(self, item: Any) -> Array:
        """uint8 (h, w, channels), no smaller than what it is resized to."""
        channels = self.settings.channels
        if isinstance(item, bytes) and self._image.ways().decoder == "simplejpeg":
            found = fast_path.decode_small(item, channels, self._least, _SMALLEST_FACTOR)
            if found is not None:
                return found
        return pillow_path.pixels(pillow_path.decode(item, channels)).copy()

    def _least(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that is enough of a picture of ``size``."""
        settings = self.settings
        height, width = place(size, settings.size, settings.scale_size, settings.crop_mode).resized
        return math.ceil(_ROOM * height), math.ceil(_ROOM * width)

    def _by_torch(self, pixels: Array) -> Array:
        """uint8 (height, width, channels), resized and cropped."""
        import torch
        from torch.nn.functional import interpolate

        settings = self.settings
        where = place(pixels.shape[:2], settings.size, settings.scale_size, settings.crop_mode)
        if min(where.top, where.left) < 0:  # smaller than the crop: Pillow's way fills up
            return self._image.pixels(pixels)
        planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # channels last in memory, which torch resizes fastest
        if where.resized != pixels.shape[:2]:
            planes = interpolate(planes, size=where.resized, mode=settings.interpolation, antialias=True)
        height, width = settings.size
        cut = planes[0, :, where.top : where.top + height, where.left : where.left + width]
        return np.asarray(cut.permute(1, 2, 0).numpy())


def fast_image_transform(data: Mapping[str, Any]) -> FastImageTransform:
    """From ``{"kind": "fast_image", …}`` with the settings of an image transform.  Raises BadInput, NotAvailable."""
    return FastImageTransform(image_transform({k: v for k, v in data.items() if k != "resize"}))


def _check_torch(interpolation: str) -> None:
    if interpolation not in TORCHS:
        raise BadInput(
            f"torch resizes {' and '.join(TORCHS)} with antialiasing; this preprocessing is {interpolation}",
            remedy="leave --preprocess fast out, or install assay with a C compiler",
        )
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise NotAvailable("the fast transform resizes with torch", remedy="pip install 'assay[torch]'") from error
