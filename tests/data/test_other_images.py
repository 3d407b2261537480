"""Pictures as bytes equal what the exact transform has before it normalises; fast ones are near it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from assay.core.errors import BadInput
from assay.data import fast_image, transform_from_json
from assay.data.fast_path import Ways
from assay.data.image import ImageTransform

SETTINGS = {
    "size": [96, 80],
    "crop_pct": 0.875,
    "interpolation": "bicubic",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
}


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).resize((width, height)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(300, 200), (90, 400), (60, 50), (1000, 900)])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("interpolation", ["bicubic", "nearest"])
def test_bytes_normalised_are_the_floats(size: tuple[int, int], mode: str, interpolation: str) -> None:
    settings = {**SETTINGS, "crop_mode": mode, "interpolation": interpolation}
    exact, as_bytes = (transform_from_json({"kind": kind, **settings}) for kind in ("image", "image_bytes"))
    assert isinstance(exact, ImageTransform)
    found = as_bytes(jpeg(*size))
    assert (found.dtype, found.shape) == (np.uint8, (96, 80, 3))
    assert np.array_equal(exact.normalise(found), exact(jpeg(*size)))
    assert transform_from_json(as_bytes.to_json()).to_json() == as_bytes.to_json()
    with pytest.raises(BadInput, match="uint8"):
        as_bytes.into(jpeg(*size), np.empty((96, 80, 3), np.float32))  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [(300, 200), (1000, 900), (60, 50)])
@pytest.mark.parametrize("compiled", [True, False])
def test_fast_is_near_the_exact_one(size: tuple[int, int], compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a few grey levels on average; with the compiled filter, small pictures are equal."""
    if not compiled:
        pytest.importorskip("torch")
        pillow: Any = Ways("pillow", "pillow")
        monkeypatch.setattr(ImageTransform, "ways", lambda self: pillow)
    fast = transform_from_json({"kind": "fast_image", **SETTINGS})
    exact = transform_from_json({"kind": "image", **SETTINGS})
    content = jpeg(*size)
    levels = np.abs(fast(content) - exact(content)).mean() * 255 * 0.3
    assert levels < 2
    assert fast.to_json()["resize"] in ("c", "torch")
    if not compiled:
        assert fast.to_json()["resize"] == "torch"
    row = np.empty((3, 96, 80), np.float32)
    fast.into(content, row)  # type: ignore[attr-defined]
    assert np.array_equal(row, fast(content))


def test_fast_refuses_what_it_cannot() -> None:
    with pytest.raises(BadInput, match="borders"):
        transform_from_json({"kind": fast_image.KIND, **SETTINGS, "crop_mode": "border"})
