"""ImageTransform: from an encoded picture to a normalised float32 array, bit for bit like timm.

The reference is ``timm.data.create_transform(..., is_training=False)`` on a decoded image
converted to RGB (or L), as ``timm``'s own evaluation does it: Pillow decodes and resizes, so Pillow
does it here; sizes are rounded as torchvision rounds them; ``x / 255``, ``- mean`` and ``/ std`` are
three float32 operations in this order.  A byte has 256 values, so those three become a table of
256 floats per channel, which has equal bits by construction.  EXIF rotation is not applied,
since timm does not apply it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import BadInput, NotAvailable
from assay.core.tensors import Array

if TYPE_CHECKING:
    from PIL.Image import Image

CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class ImageSettings:
    """``size`` is (height, width) of the output in pixels, ``mean`` and ``std`` are in units of white = 1.

    ``crop_mode``: ``center`` resizes the shorter edge to size / crop_pct and cuts the centre out;
    ``squash`` resizes both edges, whatever the aspect ratio; ``border`` resizes the longer edge and fills up
    with the mean colour.
    """

    size: tuple[int, int]
    crop_pct: float = 0.875
    crop_mode: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    channels: int = 3

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise BadInput(f"image transform: {problem}")

    @property
    def scale_size(self) -> tuple[int, int]:
        """(height, width) before the crop."""
        return math.floor(self.size[0] / self.crop_pct), math.floor(self.size[1] / self.crop_pct)


class ImageTransform:
    """Encoded bytes, a PIL image or a uint8 array (H, W) or (H, W, C) -> float32 (channels, height, width).

    Raises BadInput for what is not a whole image, and for more pixels than Pillow's
    ``Image.MAX_IMAGE_PIXELS`` (about 89 million), which guards against decompression bombs.
    """

    def __init__(self, settings: ImageSettings) -> None:
        self.settings = settings
        self._table = _normalise_table(settings)

    def __call__(self, item: Any) -> Array:
        return self.normalise(self.pixels(item))

    def pixels(self, item: Any) -> Array:
        """Decoded, resized and cropped, not yet normalised: uint8 (height, width, channels)."""
        image = _resized(_decoded(item, _MODES[self.settings.channels]), self.settings)
        return np.asarray(image, dtype=np.uint8).reshape(*self.settings.size, self.settings.channels)

    def normalise(self, pixels: Array) -> Array:
        """uint8 (height, width, channels) -> float32 (channels, height, width)."""
        height, width, channels = pixels.shape
        out = np.empty((channels, height, width), dtype=np.float32)
        for channel in range(channels):
            np.take(self._table[channel], pixels[:, :, channel], out=out[channel])
        return out

    def to_json(self) -> Mapping[str, Any]:
        data = asdict(self.settings)
        return {"kind": "image", **{k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}}


def image_transform(data: Mapping[str, Any]) -> ImageTransform:
    """From ``{"kind": "image", "size": [H, W], …}``.  Raises BadInput, naming the setting that is wrong."""
    known = ImageSettings.__dataclass_fields__
    settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "kind"}
    unknown = [k for k in settings if k not in known]
    if unknown:
        raise BadInput(f"image transform: unknown setting {unknown[0]!r}", remedy=f"known: {', '.join(known)}")
    if "size" not in settings:
        raise BadInput("image transform: no size", remedy='"size": [224, 224]')
    channels = settings.get("channels", 3)
    if channels == 1:  # one channel has no default statistics; those of RGB would be wrong
        missing = [k for k in ("mean", "std") if k not in settings]
        if missing:
            raise BadInput(f"image transform: one channel needs {' and '.join(missing)}")
    return ImageTransform(ImageSettings(**settings))


def _problem(s: ImageSettings) -> str | None:
    if not _all_numbers(s.size, 2) or any(v != int(v) or v < 1 for v in s.size):
        return f"size must be two positive whole numbers [height, width], not {s.size}"
    if s.channels not in _MODES:
        return f"channels must be 1 or 3, not {s.channels}"
    if s.crop_mode not in CROP_MODES:
        return f"crop_mode must be one of {', '.join(CROP_MODES)}, not {s.crop_mode!r}"
    if s.interpolation not in INTERPOLATIONS:
        return f"interpolation must be one of {', '.join(INTERPOLATIONS)}, not {s.interpolation!r}"
    if not isinstance(s.crop_pct, (int, float)) or not 0 < s.crop_pct < math.inf:
        return f"crop_pct must be a positive number, not {s.crop_pct}"
    for name, values in (("mean", s.mean), ("std", s.std)):
        if not _all_numbers(values, s.channels) or not all(map(math.isfinite, values)):
            return f"{name} must be {s.channels} numbers, not {values}"
    return "std must not be zero" if any(np.float32(v) == 0 for v in s.std) else None


def _all_numbers(values: Any, count: int) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(isinstance(v, (int, float)) for v in values)


def _normalise_table(settings: ImageSettings) -> Array:
    """float32 (channels, 256): ``((v / 255) - mean) / std`` with every step rounded to float32."""
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    rows = [(unit - np.float32(m)) / np.float32(s) for m, s in zip(settings.mean, settings.std, strict=True)]
    return np.stack(rows)


def _decoded(item: Any, mode: str) -> Image:
    try:
        from PIL import Image
    except ImportError as error:
        raise NotAvailable(
            f"images need Pillow, which cannot be imported ({error})", remedy="pip install 'assay[data]'"
        ) from error
    try:
        image = _opened(item)
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and image.width * image.height > limit:
            raise BadInput(f"the image has {image.width}×{image.height} pixels, more than Pillow's limit of {limit}")
        return _converted(image, mode)
    except (BadInput, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(f"the image is too large: {error}") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error and more
        raise BadInput(f"not a whole image that Pillow can read ({type(error).__name__}: {error})") from error


def _opened(item: Any) -> Image:
    from PIL import Image

    if isinstance(item, Image.Image):
        return item
    if isinstance(item, (bytes, bytearray, memoryview)):
        if len(item) == 0:
            raise BadInput("the file is empty (0 bytes)")
        return Image.open(io.BytesIO(item))
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
    """All pixels decoded, in ``mode``."""
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        # Pillow warns that RGBA would suit such a palette; the colours do not depend on it.
        image.load()
        image = image.copy()
        del image.info["transparency"]
    return image.convert(mode)


def _resized(image: Image, s: ImageSettings) -> Image:
    scale_h, scale_w = s.scale_size
    if s.crop_mode == "squash":
        size = (scale_h, scale_w)
    elif s.crop_mode == "center" and scale_h == scale_w:
        size = _shorter_edge(image, scale_h)
    else:
        size = _keep_ratio(image, (scale_h, scale_w), longest=s.crop_mode == "border")
    if size != (image.height, image.width):
        if min(size) < 1:
            raise BadInput(f"an image of {image.width}×{image.height} pixels is too thin for {s.size[1]}×{s.size[0]}")
        image = image.resize((size[1], size[0]), _resampling(s.interpolation))
    fill = [round(255 * m) for m in s.mean] if s.crop_mode == "border" else [0] * s.channels
    return _center_crop(image, s.size, fill)


def _resampling(name: str) -> Any:
    from PIL import Image

    return Image.Resampling[name.upper()]


def _shorter_edge(image: Image, size: int) -> tuple[int, int]:
    """(height, width) with the shorter edge at ``size``; torchvision cuts the longer one's fraction off."""
    short, long = sorted((image.height, image.width))
    other = int(size * long / short)
    return (other, size) if image.width <= image.height else (size, other)


def _keep_ratio(image: Image, target: tuple[int, int], *, longest: bool) -> tuple[int, int]:
    """(height, width) that fits into ``target`` (``longest``) or covers it, rounded to even at .5 as timm does."""
    ratios = (image.height / target[0], image.width / target[1])
    ratio = max(ratios) if longest else min(ratios)
    return round(image.height / ratio), round(image.width / ratio)


def _center_crop(image: Image, size: tuple[int, int], fill: Sequence[int]) -> Image:
    """Cut or fill up to (height, width); what is odd goes to the right and the bottom when filling."""
    from PIL import Image

    height, width = size
    if width > image.width or height > image.height:
        missing_w, missing_h = max(0, width - image.width), max(0, height - image.height)
        color = fill[0] if image.mode == "L" else tuple(fill)
        padded = Image.new(image.mode, (image.width + missing_w, image.height + missing_h), color)
        padded.paste(image, (missing_w // 2, missing_h // 2))
        image = padded
    top = round((image.height - height) / 2.0)
    left = round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))
