"""The photographs that scikit-image and scikit-learn ship, halved: one half to train on, the other held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import skimage.data
from network import FACTOR
from PIL import Image
from sklearn.datasets import load_sample_image

LARGEST = 300  # pixels along an edge of a held-out original; a multiple of FACTOR
SCIKIT_IMAGE = (
    *("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field"),
    *("immunohistochemistry", "moon", "retina", "rocket"),
)


def photographs() -> dict[str, Image.Image]:
    """Sixteen photographs by name, RGB; those without colour have three equal channels."""
    found = {name: getattr(skimage.data, name)() for name in SCIKIT_IMAGE}
    found["motorcycle"] = skimage.data.stereo_motorcycle()[0]
    found |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: Image.fromarray(found[name]).convert("RGB") for name in sorted(found)}


def halves() -> tuple[dict[str, Image.Image], dict[str, Image.Image]]:
    """(to train on, held out): every second one by name is held out, whatever it shows."""
    everything = list(photographs().items())
    return dict(everything[1::2]), dict(everything[::2])


def pair(picture: Image.Image, largest: int) -> tuple[Image.Image, Image.Image]:
    """(small, original): the middle of the picture, and that reduced by FACTOR with Pillow's bicubic."""
    width, height = (min(largest, edge) // FACTOR * FACTOR for edge in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    original = picture.crop((left, top, left + width, top + height))
    return original.resize((width // FACTOR, height // FACTOR), Image.Resampling.BICUBIC), original


def write_pairs(pictures: dict[str, Image.Image], folder: Path) -> None:
    """``lr/`` and ``hr/`` as ``--data pairs:DIR`` reads them."""
    for name, picture in pictures.items():
        for side, image in zip(("lr", "hr"), pair(picture, LARGEST), strict=True):
            (folder / side).mkdir(parents=True, exist_ok=True)
            image.save(folder / side / f"{name}.png")


def as_array(picture: Image.Image) -> np.ndarray:
    """float32 (3, H, W), 0 to 1."""
    return np.ascontiguousarray(np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / 255)
