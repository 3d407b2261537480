"""Decoding and resizing by Pillow: the reference that the fast path equals, and its fallback."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import BadInput, NotAvailable
from assay.core.pictures import FORMATS
from assay.core.tensors import Array
from assay.data.geometry import Placement

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {1: "L", 3: "RGB"}


def decode(item: Any, channels: int) -> Image:
    """Encoded bytes, a PIL image or a uint8 array, all pixels decoded, in mode L or RGB.

    Raises BadInput for what is no whole image and for more pixels than ``Image.MAX_IMAGE_PIXELS``.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise NotAvailable(
            f"images need Pillow, which cannot be imported ({error})", remedy="pip install 'assay[data]'"
        ) from error
    try:
        image = _opened(item)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise BadInput(f"the image has {image.width}×{image.height} pixels, more than Pillow's limit of {limit}")
        return _converted(image, MODES[channels])
    except (BadInput, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"the image is too large: {error}") from error
    except UnidentifiedImageError as error:
        raise BadInput(
            f"not a whole image of a format that is read here ({', '.join(FORMATS)})",
            remedy="convert it, to PNG for example",
        ) from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise BadInput(f"not a whole image that Pillow can read ({type(error).__name__}: {error})") from error


def resize(image: Image, placement: Placement, interpolation: str) -> Image:
    from PIL import Image

    height, width = placement.resized
    if (height, width) == (image.height, image.width):
        return image
    return image.resize((width, height), Image.Resampling[interpolation.upper()])


def cut(image: Image, placement: Placement, size: tuple[int, int], fill: bytes) -> Image:
    """The window of (height, width) ``size``, filled up with ``fill`` where the image does not reach."""
    from PIL import Image

    top, left = placement.top, placement.left
    height, width = size
    if height > image.height or width > image.width:
        color: Any = fill[0] if image.mode == "L" else tuple(fill)
        padded = Image.new(image.mode, (max(width, image.width), max(height, image.height)), color)
        padded.paste(image, (max(0, -left), max(0, -top)))
        image, top, left = padded, max(0, top), max(0, left)
    return image.crop((left, top, left + width, top + height))


def pixels(image: Image) -> Array:
    """uint8 (height, width, channels)."""
    return np.asarray(image, dtype=np.uint8).reshape(image.height, image.width, -1)


def _opened(item: Any) -> Image:
    from PIL import Image

    if isinstance(item, Image.Image):
        return item
    if isinstance(item, (bytes, bytearray, memoryview)):
        if len(item) == 0:
            raise BadInput("the file is empty (0 bytes)")
        return Image.open(io.BytesIO(item), formats=FORMATS)
    if isinstance(item, np.ndarray):
        if item.dtype != np.uint8 or item.ndim not in (2, 3) or (item.ndim == 3 and item.shape[2] not in (1, 3, 4)):
            raise BadInput(
                f"an image array is uint8 (H, W) or (H, W, C) with 1, 3 or 4 channels; found {item.dtype} {item.shape}"
            )
        if item.size == 0:
            raise BadInput(f"the image has no pixels: shape {item.shape}")
        return Image.fromarray(np.ascontiguousarray(item[:, :, 0] if item.ndim == 3 and item.shape[2] == 1 else item))
    raise BadInput(f"an image is encoded bytes, a PIL image or a uint8 array, not {type(item).__name__}")


def _converted(image: Image, mode: str) -> Image:
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        # Pillow warns that RGBA would suit such a palette; the colours do not depend on it.
        image.load()
        image = image.copy()
        del image.info["transparency"]
    return image.convert(mode)
