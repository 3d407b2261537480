"""ImageTransform: from an encoded picture to a normalised float32 array, bit for bit like timm.

The reference is ``timm.data.create_transform(..., is_training=False)`` on a decoded image
converted to RGB (or L), as ``timm``'s own evaluation does it: Pillow decodes and resizes, so Pillow
does it here, or what gives Pillow's bits faster (``fast_path``); sizes are rounded as torchvision
rounds them; ``x / 255``, ``- mean`` and ``/ std`` are three float32 operations in this order.  A byte
has 256 values, so those three become a table of 256 floats per channel, which has equal bits by
construction.  EXIF rotation is not applied, since timm does not apply it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.data import fast_path, pillow_path
from assay.data.geometry import MOST_EDGE, Placement, place

if TYPE_CHECKING:
    from PIL.Image import Image

CROP_MODES = ("center", "squash", "border")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


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

    ``fast`` False leaves everything to Pillow and numpy, which gives the same bits.  Raises BadInput for
    what is not a whole image, and for more pixels than Pillow's ``Image.MAX_IMAGE_PIXELS`` (about 89
    million), which guards against decompression bombs.
    """

    def __init__(self, settings: ImageSettings, *, fast: bool = True) -> None:
        self.settings = settings
        self._table = _normalise_table(settings)
        self._fill = _fill(settings)
        self._finish = fast_path.Finish(self._table, self._fill)
        self._fast = fast

    def __call__(self, item: Any) -> Array:
        out = np.empty((self.settings.channels, *self.settings.size), dtype=np.float32)
        self.into(item, out)
        return out

    def into(self, item: Any, out: Array) -> None:
        """Write the result into ``out``: float32 (channels, height, width), contiguous, such as a row of a batch."""
        expected = (self.settings.channels, *self.settings.size)
        if out.shape != expected or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise BadInput(f"out must be contiguous float32 {expected}, not {out.dtype} {out.shape}")
        if not self._fast_into(item, out):
            self._normalise_into(self._window(self._image(item, self.ways())), out)

    def bytes_into(self, item: Any, out: Array) -> None:
        """``pixels`` written into ``out``: uint8 (height, width, channels), contiguous, such as a row of a batch."""
        expected = (*self.settings.size, self.settings.channels)
        if out.shape != expected or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise BadInput(f"out must be contiguous uint8 {expected}, not {out.dtype} {out.shape}")
        if not self._fast_into(item, out):
            out[...] = self.pixels(item)

    def _fast_into(self, item: Any, out: Array) -> bool:
        """False where Pillow has to do it."""
        ways = self.ways()
        if ways.resampler == "pillow" or self.settings.interpolation not in fast_path.FILTERS:
            return False
        pixels = self._pixels(item, ways)
        if max(pixels.shape) > MOST_EDGE:
            return False
        placement = self._place(pixels.shape[0], pixels.shape[1])
        fast_path.resample(pixels, placement, self.settings.interpolation, ways.order, self._finish, out)
        return True

    def pixels(self, item: Any) -> Array:
        """Decoded, resized and cropped, not yet normalised: uint8 (height, width, channels)."""
        return self._window(self._image(item, self.ways()))

    def normalise(self, pixels: Array) -> Array:
        """uint8 (height, width, channels) -> float32 (channels, height, width)."""
        height, width, channels = pixels.shape
        out = np.empty((channels, height, width), dtype=np.float32)
        self._normalise_into(pixels, out)
        return out

    def ways(self) -> fast_path.Ways:
        """Which decoder and resampler this transform uses here, and why not the fast ones."""
        return fast_path.ways() if self._fast and _has_pillow() else fast_path.PILLOW

    def to_json(self) -> Mapping[str, Any]:
        data = asdict(self.settings)
        return {"kind": "image", **{k: list(v) if isinstance(v, tuple) else v for k, v in data.items()}}

    def _place(self, height: int, width: int) -> Placement:
        s = self.settings
        return place((height, width), s.size, s.scale_size, s.crop_mode)

    def _pixels(self, item: Any, ways: fast_path.Ways) -> Array:
        if ways.decoder == "simplejpeg" and isinstance(item, bytes):
            found = fast_path.decode_jpeg(item, self.settings.channels)
            if found is not None:
                return found
        return pillow_path.pixels(pillow_path.decode(item, self.settings.channels))

    def _image(self, item: Any, ways: fast_path.Ways) -> Image:
        if ways.decoder == "simplejpeg" and isinstance(item, bytes):
            return pillow_path.decode(self._pixels(item, ways), self.settings.channels)
        return pillow_path.decode(item, self.settings.channels)

    def _window(self, image: Image) -> Array:
        placement = self._place(image.height, image.width)
        resized = pillow_path.resize(image, placement, self.settings.interpolation)
        return pillow_path.pixels(pillow_path.cut(resized, placement, self.settings.size, self._fill))

    def _normalise_into(self, pixels: Array, out: Array) -> None:
        for channel in range(pixels.shape[2]):
            np.take(self._table[channel], pixels[:, :, channel], out=out[channel])


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
    if not _all_numbers(s.size, 2) or not all(isinstance(v, int) and v >= 1 for v in s.size):
        return f"size must be two positive whole numbers [height, width], not {s.size}"
    if not isinstance(s.channels, int) or s.channels not in pillow_path.MODES:
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


def _fill(settings: ImageSettings) -> bytes:
    """The colour where the image does not reach: the mean in border mode, else black."""
    if settings.crop_mode != "border":
        return bytes(settings.channels)
    return bytes(min(255, max(0, round(255 * m))) for m in settings.mean)


def _has_pillow() -> bool:
    """Without Pillow nothing can be checked; decoding then says what to install."""
    return importlib.util.find_spec("PIL") is not None
