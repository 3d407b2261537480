"""The fast way from JPEG bytes to a normalised array, and the check that it gives Pillow's bits here.

simplejpeg decodes into a buffer that each thread keeps; ``_resample`` resizes, crops and normalises
in one call without the interpreter lock.  Whether both equal the Pillow that is installed depends on
versions of libraries, so it is looked at once per process on a few packaged JPEGs: any differing
bit turns the part concerned off, with a RuntimeWarning and a note in ``ways()``.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import numpy as np

from assay.core.tensors import Array
from assay.data import pillow_path
from assay.data.geometry import Placement

# As _resample.c numbers them; "nearest" has no weights and is left to Pillow.
FILTERS = {"box": 0, "bilinear": 1, "hamming": 2, "bicubic": 3, "lanczos": 4}
PICTURES = ("444.jpg", "422.jpg", "420.jpg", "progressive.jpg", "grey.jpg")
# Whether (height, width) -> (height, width) filters columns before rows.  The order changes bits, and it changed
# with Pillow's versions: never at first, then for very tall images, since 13 by what either direction loses.
ORDERS: dict[str, Callable[[int, int, int, int], bool]] = {
    "by-loss": lambda h, w, to_h, to_w: to_h < h and h - to_h > 2 * (w - to_w),
    "tall": lambda h, w, to_h, to_w: to_h < h and h > 100 * w,
    "rows": lambda h, w, to_h, to_w: False,
}
LARGEST_KEPT_BYTES = 2**26
"""A thread keeps its buffer for the next picture; one for a giant is not kept, since a server's threads live on."""
_JPEG_START = b"\xff\xd8\xff"
# Sizes below, near and above the packaged pictures' 64×48, and one of each order of the two passes.
_SIZES = ((23, 31), (48, 40), (70, 101), (20, 60), (30, 55), (30, 56))

Decoder = Callable[[bytes], Array | None]


@dataclass(frozen=True)
class Ways:
    """What is used here: ``decoder`` is simplejpeg or pillow, ``resampler`` is c or pillow, ``order`` (of the
    compiled one) is a key of ORDERS; ``notes`` say why not the fast ones."""

    decoder: str
    resampler: str
    order: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """With the libraries' versions: exactness holds for those it was checked with."""
        return {
            "decoder": self.decoder,
            "resampler": self.resampler,
            "order": self.order,
            "notes": list(self.notes),
            **_versions(),
        }


PILLOW = Ways("pillow", "pillow")
_lock = threading.Lock()
_found: Ways | None = None
_buffers = threading.local()


def ways() -> Ways:
    """What this process uses; the first call looks and checks (some milliseconds)."""
    global _found
    if _found is None:
        with _lock:
            if _found is None:
                _found = check(packaged())
    return _found


def packaged() -> dict[str, bytes]:
    """The JPEGs that come with the package, by name."""
    folder = resources.files("assay.data").joinpath("selfcheck")
    return {name: folder.joinpath(name).read_bytes() for name in PICTURES}


def check(pictures: Mapping[str, bytes]) -> Ways:
    """Compare both parts with Pillow on ``pictures``, bit for bit."""
    found = Ways("simplejpeg", "c")
    why = _missing("simplejpeg") or next(filter(None, (_decodes_otherwise(n, p) for n, p in pictures.items())), None)
    if why:
        found = replace(found, decoder="pillow", notes=(*found.notes, why))
    why = _missing("assay.data._resample")
    if why is None:
        order = next((o for o in ORDERS if _resizes_alike(pictures, o)), None)
        if order is not None:
            return replace(found, order=order)
        why = _differs("the compiled resize of the packaged images differs from the Pillow installed here")
    return replace(found, resampler="pillow", notes=(*found.notes, why))


def decode_jpeg(content: bytes, channels: int) -> Array | None:
    """uint8 (height, width, channels), valid until this thread decodes again; None where Pillow must do it.

    None for what is no JPEG, is neither YCbCr nor grey (CMYK, RGB without transform), is larger than
    Pillow's limit, is asked for in grey but has colour, or makes the library complain in any way.
    """
    size = decode_jpeg_header(content, channels)
    if size is None:
        return None
    import simplejpeg

    try:
        buffer = _buffer(size[0] * size[1] * channels)
        found: Array = simplejpeg.decode_jpeg(content, "RGB" if channels == 3 else "GRAY", buffer=buffer)
    except ValueError:  # a damaged or unusual file: Pillow decides what it is
        return None
    return found


def decode_jpeg_header(content: bytes, channels: int) -> tuple[int, int] | None:
    """(height, width) of a JPEG that is simplejpeg's to decode, None for what is left to Pillow."""
    if content[:3] != _JPEG_START:
        return None
    import simplejpeg
    from PIL import Image

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:  # a damaged or unusual file: Pillow decides what it is
        return None
    limit = Image.MAX_IMAGE_PIXELS
    if space not in ("YCbCr", "Gray") or (limit is not None and height * width > limit):
        return None
    return None if channels == 1 and space != "Gray" else (height, width)


def decode_small(
    content: bytes, channels: int, least: Callable[[tuple[int, int]], tuple[int, int]], factor: float
) -> Array | None:
    """As ``decode_jpeg``, but the decoder may leave detail out: at a scale that keeps at least the (height, width) that
    ``least`` gives for the picture's own, where that saves a ``factor`` or more; near Pillow's bits, not equal."""
    whole = decode_jpeg_header(content, channels)
    if whole is None:
        return None
    import simplejpeg

    height, width = least(whole)
    if min(whole[0] / height, whole[1] / width) < factor:
        return decode_jpeg(content, channels)
    space = "RGB" if channels == 3 else "GRAY"
    sizes = {"min_height": height, "min_width": width, "min_factor": factor}
    try:
        found: Array = simplejpeg.decode_jpeg(content, space, **sizes)
    except ValueError:
        return None
    return found


@dataclass(frozen=True)
class Finish:
    """How bytes become floats: float32 ``table`` (channels, 256), and the colour where the image does not reach."""

    table: Array
    fill: bytes


def resample(pixels: Array, placement: Placement, filter: str, order: str, finish: Finish, out: Array) -> None:
    """uint8 (h, w, c) -> ``out``: float32 (c, height, width), or uint8 (height, width, c), which is not normalised;
    ``order`` is a key of ORDERS."""
    from assay.data import _resample

    as_bytes = out.dtype == np.uint8
    size = out.shape[:2] if as_bytes else out.shape[1:]
    window = (placement.top, placement.left, *size)
    columns_first = ORDERS[order](pixels.shape[0], pixels.shape[1], *placement.resized)
    resized = (*placement.resized, columns_first)
    _resample.resample(
        pixels, pixels.shape, resized, FILTERS[filter], window, finish.fill, finish.table, out, False, as_bytes
    )


def _buffer(size: int) -> Array:
    """A buffer of this thread with at least ``size`` bytes; a new array per picture would be paged in each time."""
    if size > LARGEST_KEPT_BYTES:
        return np.empty(size, dtype=np.uint8)
    buffer: Array | None = getattr(_buffers, "pixels", None)
    if buffer is None or buffer.size < size:
        buffer = _buffers.pixels = np.empty(size, dtype=np.uint8)
    return buffer[:size]


def _missing(module: str) -> str | None:
    import importlib

    try:
        importlib.import_module(module)
    except ImportError as error:
        advice = "pip install simplejpeg" if module == "simplejpeg" else "install from a wheel, or with a C compiler"
        return f"{module} cannot be imported ({error}); {advice} makes it faster, with equal bits"
    return None


def _decodes_otherwise(name: str, content: bytes) -> str | None:
    for channels in (3, 1):
        found = decode_jpeg(content, channels)
        if found is None:
            if channels == 1 and name != "grey.jpg":
                continue
            return _differs(f"simplejpeg does not decode the packaged {name}")
        if not np.array_equal(found, pillow_path.pixels(pillow_path.decode(content, channels))):
            return _differs(f"simplejpeg decodes the packaged {name} to other bits than the Pillow installed here")
    return None


def _resizes_alike(pictures: Mapping[str, bytes], order: str) -> bool:
    """The packaged pictures in every filter and size, and one tall strip: all bits as Pillow has them?"""
    images = [pillow_path.decode(content, 3) for content in pictures.values()]
    strip = pillow_path.decode(np.ascontiguousarray(np.resize(pillow_path.pixels(images[0]), (410, 4, 3))), 3)
    finish = Finish(np.tile(np.arange(256, dtype=np.float32), (3, 1)), b"\0\0\0")
    cases = [(image, size) for image in images for size in _SIZES] + [(strip, (409, 3)), (strip, (200, 5))]
    for image, size in cases:
        placement = Placement(size, 0, 0)
        for filter in FILTERS:
            out = np.empty((3, *size), dtype=np.float32)
            resample(pillow_path.pixels(image), placement, filter, order, finish, out)
            expected = pillow_path.pixels(pillow_path.resize(image, placement, filter))
            if not np.array_equal(out, expected.transpose(2, 0, 1)):
                return False
    return True


def _differs(what: str) -> str:
    text = f"{what}; Pillow is used instead, which is slower and right"
    warnings.warn(text, RuntimeWarning, stacklevel=2)
    return text


def _versions() -> dict[str, str | None]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {}
    for package in ("pillow", "simplejpeg"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    from PIL import features

    found["pillow_libjpeg"] = features.version("jpg")
    return found
