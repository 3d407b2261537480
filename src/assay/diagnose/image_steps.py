"""Image preprocessing as seven steps, each of which can be done in the ways that are mixed up in practice.

decode → size before the crop → resize kernel → antialias → crop rounding → channel order → normalise.
``Recipe`` says how each is done; ``levels`` gives the pixels before normalising, ``apply`` the model's input.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import BadInput, NotAvailable
from assay.core.pictures import FORMATS
from assay.core.tensors import Array

if TYPE_CHECKING:
    from PIL.Image import Image

STEPS = ("decode", "size", "kernel", "antialias", "crop", "order", "normalise")
WORDS = {
    "decode": "decode",
    "size": "size before the crop",
    "kernel": "resize kernel",
    "antialias": "antialias",
    "crop": "crop rounding",
    "order": "channel order",
    "normalise": "normalise",
}
DECODERS = ("pillow", "exif", "fast", "scaled", "grey")
"""As Pillow does it; turned as EXIF says; libjpeg's fast transform and upsampling; shrunk while decoding (Pillow's
``draft``); through grey."""
FITS = ("shorter", "shorter-rounded", "shorter-up", "squash", "longer")
"""The shorter edge to the scale, the other one cut off, rounded or rounded up; both edges, whatever the ratio; the
longer edge to the scale."""
KERNELS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
SHARP = ("nearest", "bilinear", "bicubic")
"""Kernels that are also found without antialiasing: 1, 2 and 4 source pixels, however much is shrunk."""
CROPS = ("even", "down", "up", "corner")
"""Where half a pixel goes: to the even side (torchvision, timm), down, up; or cut from the top left corner."""
_ROUNDED: dict[str, Callable[[float], int]] = {
    "shorter": math.floor,
    "shorter-rounded": lambda x: round(x),
    "shorter-up": math.ceil,
}
_CUBIC = -0.75
"""Of the cubic kernel without antialiasing in torch and OpenCV; Pillow's antialiased one has -0.5."""


@dataclass(frozen=True)
class Recipe:
    """``out`` and ``scale`` are (height, width), of the result and before the crop; ``order`` says which channel of
    RGB stands in each place; ``gain`` and ``offset`` make the input of a level 0–255: gain·level + offset."""

    out: tuple[int, int]
    scale: tuple[int, int]
    gain: tuple[float, ...]
    offset: tuple[float, ...]
    decode: str = "pillow"
    fit: str = "shorter"
    kernel: str = "bicubic"
    antialias: bool = True
    crop: str = "even"
    order: tuple[int, ...] = (0, 1, 2)
    fill: float = 0.0

    @property
    def channels(self) -> int:
        return len(self.order)

    def said(self, step: str) -> str:
        """How this recipe does a step, in words."""
        if step == "size":
            return f"{self.fit} to {self.scale[0]}×{self.scale[1]}"
        if step == "antialias":
            return "on" if self.antialias else "off"
        if step == "order":
            return "".join("RGB"[i] for i in self.order) if self.channels == 3 else "grey"
        if step == "normalise":
            mean = ", ".join(f"{round(-b / a / 255, 6) + 0.0:.4g}" for a, b in zip(self.gain, self.offset, strict=True))
            std = ", ".join(f"{1 / a / 255:.4g}" for a in self.gain)
            return f"mean {mean}; std {std} (white = 1)"
        return str(getattr(self, step))


def apply(recipe: Recipe, item: Any) -> Array:
    """Encoded bytes, a PIL image or a uint8 array -> float32 (channels, height, width)."""
    found = levels(recipe, item)[:, :, list(recipe.order)] if recipe.channels > 1 else levels(recipe, item)
    made = found * np.array(recipe.gain) + np.array(recipe.offset)
    return np.ascontiguousarray(made.transpose(2, 0, 1), np.float32)


def levels(recipe: Recipe, item: Any) -> Array:
    """Decoded, resized and cropped: float64 (height, width, channels), 0–255, in RGB order."""
    return Picture(item).levels(recipe)


class Picture:
    """One file; what several recipes have in common is done once."""

    def __init__(self, item: Any) -> None:
        self._item = item
        self._decoded: dict[tuple[str, int, tuple[int, int] | None], Array] = {}
        self._resized: tuple[tuple[Any, ...], Array] | None = None

    def levels(self, recipe: Recipe) -> Array:
        """See ``levels``; recipes that differ in their crop alone, asked for in a row, share the resizing."""
        key = self._before_crop(recipe)
        if self._resized is None or self._resized[0] != key:
            self._resized = key, _resized(self._pixels(recipe), key[1], (recipe.kernel, recipe.antialias))
        return _cropped(recipe, self._resized[1])

    def key(self, recipe: Recipe) -> tuple[Any, ...]:
        """Equal for recipes that give the same levels here."""
        size = self._before_crop(recipe)[1]
        windows = tuple(_window(have, want, recipe.crop) for have, want in zip(size, recipe.out, strict=True))
        return (*self._before_crop(recipe), windows)

    def _before_crop(self, recipe: Recipe) -> tuple[Any, ...]:
        pixels = self._pixels(recipe)
        how = (recipe.kernel, recipe.antialias)
        return self._way(recipe), _size(recipe, pixels.shape[0], pixels.shape[1]), how, recipe.channels

    def _way(self, recipe: Recipe) -> tuple[str, int, tuple[int, int] | None]:
        return recipe.decode, recipe.channels, recipe.scale if recipe.decode == "scaled" else None

    def _pixels(self, recipe: Recipe) -> Array:
        way = self._way(recipe)
        if way not in self._decoded:
            self._decoded[way] = np.asarray(_decoded(recipe, self._item))
        return self._decoded[way]


def _decoded(recipe: Recipe, item: Any) -> Image:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise NotAvailable("comparing preprocessing needs Pillow", remedy="pip install 'assay[data]'") from error
    mode = "RGB" if recipe.channels == 3 else "L"
    if isinstance(item, np.ndarray):
        array = item[:, :, 0] if item.ndim == 3 and item.shape[2] == 1 else item
        return Image.fromarray(np.ascontiguousarray(array)).convert(mode)
    if not isinstance(item, bytes | bytearray | memoryview):
        return item.convert(mode)
    try:
        image = Image.open(io.BytesIO(item), formats=FORMATS)
        if recipe.decode == "fast":
            return _fast(bytes(item), image).convert(mode)
        if recipe.decode == "scaled":
            image.draft(mode, (recipe.scale[1], recipe.scale[0]))
        if recipe.decode == "exif":
            image = ImageOps.exif_transpose(image)
        return image.convert("L").convert(mode) if recipe.decode == "grey" else image.convert(mode)
    except OSError as error:
        raise BadInput(f"not a whole image that Pillow can read: {error}") from error


def _fast(item: bytes, image: Image) -> Image:
    """simplejpeg's fast mode, where there is such a thing: a JPEG in colour."""
    from PIL import Image as images

    if image.format != "JPEG" or image.mode != "RGB":
        return image
    try:
        import simplejpeg
    except ImportError:
        return image
    return images.fromarray(simplejpeg.decode_jpeg(item, "RGB", fastdct=True, fastupsample=True))


def _size(recipe: Recipe, height: int, width: int) -> tuple[int, int]:
    """(height, width) after resizing, as timm and torchvision compute it and as others do."""
    scale = recipe.scale
    if recipe.fit == "squash":
        return scale
    if recipe.fit == "longer" or (recipe.fit == "shorter" and scale[0] != scale[1]):
        ratios = (height / scale[0], width / scale[1])
        ratio = max(ratios) if recipe.fit == "longer" else min(ratios)
        return round(height / ratio), round(width / ratio)
    edge = scale[0]
    exact = edge * max(height, width) / min(height, width)
    other = _ROUNDED[recipe.fit](exact)
    return (other, edge) if width <= height else (edge, other)


def _resized(image: Array, size: tuple[int, int], how: tuple[str, bool]) -> Array:
    """float64 (height, width, channels); antialiased by Pillow, whose results are whole numbers."""
    kernel, antialias = how
    array = image if image.ndim == 3 else image[:, :, None]
    if min(size) < 1:
        raise BadInput(f"an image of {array.shape[1]}×{array.shape[0]} pixels is too thin to be resized to {size}")
    if array.shape[:2] == size:
        return array.astype(np.float64)
    if antialias:
        from PIL import Image

        made = Image.fromarray(image).resize((size[1], size[0]), Image.Resampling[kernel.upper()])
        return np.asarray(made, np.float64).reshape(*size, -1)
    rows, columns = _taps(array.shape[0], size[0], kernel), _taps(array.shape[1], size[1], kernel)
    wide = np.einsum("jt,ijtc->ijc", columns[1], array[:, columns[0]].astype(np.float64))
    return np.asarray(np.clip(np.einsum("it,itjc->ijc", rows[1], wide[rows[0]]), 0, 255))


@lru_cache(maxsize=64)
def _taps(have: int, want: int, kernel: str) -> tuple[Array, Array]:
    """Source places (want, taps) and weights, pixel centres at halves, edges repeated; "nearest" takes the corner."""
    if kernel == "nearest":
        places = np.minimum((np.arange(want) * (have / want)).astype(int), have - 1)
        return places[:, None], np.ones((want, 1))
    centre = (np.arange(want) + 0.5) * (have / want) - 0.5
    first = np.floor(centre).astype(int)
    reach = (0, 1) if kernel == "bilinear" else (-1, 0, 1, 2)
    far = np.abs(centre[:, None] - (first[:, None] + np.array(reach)))
    if kernel == "bilinear":
        weights = np.maximum(0.0, 1 - far)
    else:
        near = ((_CUBIC + 2) * far - (_CUBIC + 3)) * far * far + 1
        weights = np.where(far <= 1, near, ((_CUBIC * far - 5 * _CUBIC) * far + 8 * _CUBIC) * far - 4 * _CUBIC)
    return np.clip(first[:, None] + np.array(reach), 0, have - 1), weights


def _cropped(recipe: Recipe, image: Array) -> Array:
    """The window of ``out``; what the image does not reach is filled up."""
    made = np.full((*recipe.out, image.shape[2]), recipe.fill, np.float64)
    places = [_window(have, want, recipe.crop) for have, want in zip(image.shape[:2], recipe.out, strict=True)]
    (r, r0, rows), (c, c0, columns) = places
    made[r0 : r0 + rows, c0 : c0 + columns] = image[r : r + rows, c : c + columns]
    return made


def _window(have: int, want: int, crop: str) -> tuple[int, int, int]:
    """First source place, first target place, length."""
    if have < want:
        return 0, (want - have) // 2, have
    half = (have - want) / 2
    return {"even": round(half), "down": math.floor(half), "up": math.ceil(half), "corner": 0}[crop], 0, want
