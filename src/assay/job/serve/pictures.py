"""A bundle's own decoding and preprocessing, guarded: what a stranger sends is measured before it is decoded."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from assay import data as readers
from assay.core.errors import BadInput
from assay.core.tensors import Array, Signature
from assay.core.transform import FunctionTransform, Transform
from assay.job.user_code import user_transform

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


class Pictures:
    """Encoded bytes -> one row (no batch axis) of the model's input; any thread may call it."""

    def __init__(self, transform: Transform, most_pixels: int) -> None:
        self._transform = transform
        self._most_pixels = most_pixels

    def __call__(self, content: bytes) -> Array:
        """Raises BadInput for what is no picture, is broken, or has more pixels than allowed."""
        check_pixels(content, self._most_pixels)
        return self._transform(content)


def check_pixels(content: bytes, most: int) -> None:
    """Raises BadInput.  Only the header is read; the formats are those people send, not all that Pillow knows."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise BadInput(f"the picture is too large ({error})") from None
    except Exception as error:  # Pillow raises whatever a broken header makes its readers raise
        raise BadInput(f"this is no {', '.join(FORMATS)} picture ({type(error).__name__})") from None
    if width * height > most:
        raise BadInput(f"the picture has {width}×{height} pixels; at most {most} are decoded")


def picture_decoder(
    described: Mapping[str, Any] | None, signature: Signature, preprocess: str | None, most_pixels: int
) -> Callable[[bytes], Array] | None:
    """The decoder for a model of one input whose transform takes pictures; None for others."""
    if len(signature.inputs) != 1:
        return None
    if preprocess:
        return Pictures(FunctionTransform(user_transform(preprocess), preprocess), most_pixels)
    if described is None or described.get("kind") not in ("image", "pixels"):
        return None
    settings = dict(described)
    shape = signature.inputs[0].shape
    if settings["kind"] == "image" and len(shape) == 4 and all(isinstance(d, int) for d in shape[2:]):
        settings["size"] = list(shape[2:])
    return Pictures(readers.transform_from_json(settings), most_pixels)
