"""From an encoded picture to a model's input with Pillow and numpy alone: copied beside Triton's ``model.py``.

The same bits as ``assay.data.image`` and ``assay.data.pixels`` give, which tests compare.  A copied file
cannot import them, so what is said there is said here again, more briefly.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")
"""Among Pillow's other formats is one that runs Ghostscript."""


def transform_of(data: Mapping[str, Any]) -> Callable[[bytes], Array]:
    """preprocess.json -> a function of encoded bytes giving float32 (channels, height, width).

    The function raises ValueError for what is no whole picture, or one of too many pixels.
    """
    kind = data.get("kind")
    if kind == "image":
        return _Image(data)
    if kind == "pixels":
        return _Pixels(data)
    raise ValueError(f"preprocessing of the kind {kind!r} cannot be done here")


class _Pixels:
    def __init__(self, data: Mapping[str, Any]) -> None:
        self._white, self._order = data.get("white", 1.0), data.get("order", "RGB")
        self._channels = data.get("channels", 3)

    def __call__(self, encoded: bytes) -> Array:
        pixels = _array(_decoded(encoded, self._channels))
        if self._order == "BGR":
            pixels = pixels[:, :, ::-1]
        values = pixels.transpose(2, 0, 1).astype(np.float32)
        if self._white != 255:
            values *= np.float32(self._white / 255)
        return np.ascontiguousarray(values)


class _Image:
    def __init__(self, data: Mapping[str, Any]) -> None:
        self._size: tuple[int, int] = (int(data["size"][0]), int(data["size"][1]))
        self._channels = data.get("channels", 3)
        self._mode, self._interpolation = data.get("crop_mode", "center"), data.get("interpolation", "bicubic")
        part = data.get("crop_pct", 0.875)
        self._scale = (math.floor(self._size[0] / part), math.floor(self._size[1] / part))
        mean, std = data.get("mean", (0.485, 0.456, 0.406)), data.get("std", (0.229, 0.224, 0.225))
        unit = np.arange(256, dtype=np.float32) / np.float32(255)
        self._table = np.stack([(unit - np.float32(m)) / np.float32(s) for m, s in zip(mean, std, strict=True)])
        border = self._mode == "border"
        self._fill = tuple(min(255, max(0, round(255 * m))) if border else 0 for m in mean)

    def __call__(self, encoded: bytes) -> Array:
        from PIL import Image

        image = _decoded(encoded, self._channels)
        height, width = self._resized((image.height, image.width))
        if min(height, width) < 1:
            raise ValueError(f"a picture of {image.width}×{image.height} pixels is too thin")
        if (height, width) != (image.height, image.width):
            image = image.resize((width, height), Image.Resampling[self._interpolation.upper()])
        pixels = _array(self._window(image))
        out = np.empty((self._channels, *self._size), dtype=np.float32)
        for channel in range(self._channels):
            np.take(self._table[channel], pixels[:, :, channel], out=out[channel])
        return out

    def _resized(self, image: tuple[int, int]) -> tuple[int, int]:
        if self._mode == "squash":
            return self._scale
        if self._mode == "center" and self._scale[0] == self._scale[1]:
            short, long = sorted(image)
            other = int(self._scale[0] * long / short)
            return (other, self._scale[0]) if image[1] <= image[0] else (self._scale[0], other)
        ratios = (image[0] / self._scale[0], image[1] / self._scale[1])
        ratio = max(ratios) if self._mode == "border" else min(ratios)
        return round(image[0] / ratio), round(image[1] / ratio)

    def _window(self, image: Any) -> Any:
        from PIL import Image

        height, width = self._size
        top, left = _offset(image.height, height), _offset(image.width, width)
        if height > image.height or width > image.width:
            color = self._fill[0] if image.mode == "L" else self._fill
            padded = Image.new(image.mode, (max(width, image.width), max(height, image.height)), color)
            padded.paste(image, (max(0, -left), max(0, -top)))
            image, top, left = padded, max(0, top), max(0, left)
        return image.crop((left, top, left + width, top + height))


def _decoded(encoded: bytes, channels: int) -> Any:
    from PIL import Image

    try:
        image: Any = Image.open(io.BytesIO(encoded), formats=_FORMATS)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise ValueError(f"it has {image.width}×{image.height} pixels, more than {limit}")
        if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
            image.load()
            image = image.copy()
            del image.info["transparency"]
        return image.convert("L" if channels == 1 else "RGB")
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise ValueError(f"not a whole picture that Pillow can read ({error})") from error


def _array(image: Any) -> Array:
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)


def _offset(have: int, want: int) -> int:
    return round((have - want) / 2.0) if have >= want else -((want - have) // 2)
