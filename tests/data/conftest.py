"""timm's real transforms, and pictures to try them on."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def timm_data() -> ModuleType:
    """``timm.data``, made importable beside a torchvision whose compiled operators do not load."""
    if find_spec("timm") is None or find_spec("torchvision") is None:
        pytest.skip("timm or torchvision is not installed, so there is nothing to compare with")
    try:
        import torchvision  # noqa: F401
    except RuntimeError:  # "operator torchvision::nms does not exist"
        import torch

        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                torch.library.define(
                    f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )
    import timm.data

    return timm.data


def encode(image: object, format: str, **options: object) -> bytes:
    """A PIL image as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format, **options)  # type: ignore[attr-defined]
    return buffer.getvalue()


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def zoo() -> dict[str, bytes]:
    """Encoded pictures of many kinds, made from photographs that come with scikit-learn and scikit-image."""
    import numpy as np
    import skimage.data
    from PIL import Image
    from sklearn.datasets import load_sample_image

    china = Image.fromarray(load_sample_image("china.jpg")).resize((320, 214), Image.Resampling.LANCZOS)
    flower = Image.fromarray(load_sample_image("flower.jpg")).crop((100, 60, 331, 417))
    cat = Image.fromarray(skimage.data.chelsea()).crop((10, 20, 211, 170))
    grey = Image.fromarray(skimage.data.camera()).resize((173, 173))
    transparent = cat.convert("RGBA")
    transparent.putalpha(grey.resize(cat.size))
    palette = cat.quantize(64)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (97, 131, 3), dtype=np.uint8))
    return {
        "444": encode(china, "JPEG", quality=95, subsampling="4:4:4"),
        "422": encode(flower, "JPEG", quality=80, subsampling="4:2:2"),
        "420": encode(cat, "JPEG", quality=60, subsampling="4:2:0"),
        "progressive": encode(flower, "JPEG", quality=85, progressive=True),
        "odd-size": encode(china.crop((0, 0, 317, 211)), "JPEG", quality=75),
        "tall": encode(flower.crop((0, 0, 41, 357)), "JPEG"),
        "grey-jpeg": encode(grey, "JPEG"),
        "cmyk-jpeg": encode(cat.convert("CMYK"), "JPEG"),
        "rotated-by-exif": encode(cat, "JPEG", exif=_turned()),
        "rgba-png": encode(transparent, "PNG"),
        "palette-png": encode(palette, "PNG"),
        "palette-transparent-png": encode(palette, "PNG", transparency=bytes(range(64))),
        "16-bit-png": encode(Image.fromarray(np.asarray(grey).astype(np.uint16) * 200), "PNG"),
        "bilevel-png": encode(grey.convert("1"), "PNG"),
        "noise-png": encode(noise, "PNG"),
        "tiny": encode(cat.resize((7, 5)), "PNG"),
        "one-pixel": encode(cat.resize((1, 1)), "PNG"),
        "gif": encode(palette, "GIF"),
        "bmp": encode(cat, "BMP"),
        "webp": encode(cat, "WEBP", lossless=True),
    }


def _turned() -> object:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.fixture(scope="session")
def decoded_as_timm() -> Callable[[bytes, str], object]:
    """Decode and convert as ``timm.data.ImageDataset`` does."""
    from PIL import Image

    def decode(content: bytes, mode: str) -> object:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Palette images with Transparency")
            return Image.open(io.BytesIO(content)).convert(mode)

    return decode


@pytest.fixture
def image_tree(tmp_path: Path, zoo: dict[str, bytes]) -> Path:
    """Two classes, with a sub-folder, a file that is no image and suffixes in capitals."""
    root = tmp_path / "val"
    (root / "cat" / "more").mkdir(parents=True)
    (root / "dog").mkdir()
    (root / "dog" / "b.JPG").write_bytes(zoo["420"])
    (root / "dog" / "a.png").write_bytes(zoo["tiny"])
    (root / "cat" / "z.jpeg").write_bytes(zoo["444"])
    (root / "cat" / "more" / "c.jpg").write_bytes(zoo["tall"])
    (root / "cat" / "notes.txt").write_text("not an image")
    return root
