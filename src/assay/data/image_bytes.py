"""ImageBytesTransform: pictures as bytes, for a model that normalises them itself (``graph.fuse_normalise``).

A quarter of the bytes of floats go to the model, and the normalising is done where the model runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from assay.core.tensors import Array
from assay.data import fast_path
from assay.data.image import ImageTransform, image_transform

KIND = "image_bytes"


class ImageBytesTransform:
    """Encoded bytes, a PIL image or a uint8 array -> uint8 (height, width, channels): what ImageTransform has before it
    normalises, bit for bit.  ``mean`` and ``std`` are kept to say what the model does.  Raises as ImageTransform does.
    """

    def __init__(self, image: ImageTransform) -> None:
        self._image = image
        self.settings = image.settings

    def __call__(self, item: Any) -> Array:
        out = np.empty((*self.settings.size, self.settings.channels), dtype=np.uint8)
        self.into(item, out)
        return out

    def into(self, item: Any, out: Array) -> None:
        """Write the result into ``out``: uint8 (height, width, channels), contiguous, such as a row of a batch."""
        self._image.bytes_into(item, out)

    def ways(self) -> fast_path.Ways:
        """As ImageTransform's."""
        return self._image.ways()

    def to_json(self) -> Mapping[str, Any]:
        return {**self._image.to_json(), "kind": KIND}


def image_bytes_transform(data: Mapping[str, Any]) -> ImageBytesTransform:
    """From ``{"kind": "image_bytes", …}`` with the settings of an image transform.  Raises BadInput."""
    return ImageBytesTransform(image_transform(data))
