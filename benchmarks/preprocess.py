"""JPEG bytes to float32: assay's transform against timm's own, one thread, in turn on the same pictures.

Prints images per second and CPU time of each and their ratio, after comparing every bit of every
result.  The pictures are 500×375, 4:2:0, quality 95, made from photographs that come with
scikit-learn and scikit-image::

    python benchmarks/preprocess.py [PICTURES]
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from verdict import MISSED

from assay.core import clock
from assay.core.units import format_rate, format_seconds
from assay.data import transform_from_json
from assay.data.fast_path import ways

SETTINGS = {"size": [224, 224], "crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"}
TARGET = 1.8
ROUNDS = 5


def pictures(count: int, size: tuple[int, int] = (500, 375)) -> list[bytes]:
    """Seeded crops of packaged photographs, each scaled to ``size`` and encoded: as varied as real ones."""
    import skimage.data
    from PIL import Image
    from sklearn.datasets import load_sample_image

    photos = [load_sample_image("china.jpg"), load_sample_image("flower.jpg"), skimage.data.chelsea()]
    photos += [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket()]
    rng = np.random.default_rng(0)
    encoded = []
    for index in range(count):
        photo = Image.fromarray(photos[index % len(photos)][:, :, :3])
        share = rng.uniform(0.6, 1.0)
        width = int(min(photo.width, photo.height * size[0] / size[1]) * share)
        height = int(width * size[1] / size[0])
        left, top = rng.integers(0, photo.width - width + 1), rng.integers(0, photo.height - height + 1)
        crop = photo.crop((int(left), int(top), int(left) + width, int(top) + height))
        buffer = io.BytesIO()
        crop.resize(size, Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=95, subsampling="4:2:0")
        encoded.append(buffer.getvalue())
    return encoded


def timms() -> Callable[[bytes], Any]:
    """As timm's evaluation does it: Pillow opens and converts, its own transform does the rest."""
    from assay.sources.torchvision_ops import make_importable

    make_importable()
    import torch
    from PIL import Image
    from timm.data import create_transform

    torch.set_num_threads(1)
    transform = create_transform(
        input_size=(3, *SETTINGS["size"]),  # type: ignore[misc]
        is_training=False,
        crop_pct=SETTINGS["crop_pct"],
        crop_mode=SETTINGS["crop_mode"],
        interpolation=SETTINGS["interpolation"],
    )
    return lambda content: transform(Image.open(io.BytesIO(content)).convert("RGB")).numpy()


def main(count: int) -> int:
    encoded = pictures(count)
    ours, theirs = transform_from_json({"kind": "image", **SETTINGS}), timms()
    differing = sum(ours(c).tobytes() != theirs(c).tobytes() for c in encoded)
    mean_size = sum(map(len, encoded)) / count
    print(f"{count} JPEGs of 500×375, 4:2:0, quality 95, {mean_size / 1000:.0f} kB on average; {ways().to_json()}")
    print(f"pictures with any differing bit: {differing} of {count}")
    took: dict[str, list[float]] = {"timm": [], "assay": []}
    processor: dict[str, list[float]] = {"timm": [], "assay": []}
    for _ in range(ROUNDS):
        for name, function in (("timm", theirs), ("assay", ours)):
            started, busy = clock.now(), time.process_time()
            for content in encoded:
                function(content)
            took[name].append((clock.now() - started) / count)
            processor[name].append((time.process_time() - busy) / count)
    for name, values in took.items():
        middle, busy = statistics.median(values), format_seconds(statistics.median(processor[name]))
        rate = f"{format_rate(1 / middle):>6} images/s, one thread"
        print(f"{name:<6} {format_seconds(middle):>8} an image, of which {busy} processor time   {rate}")
    reached = differing == 0
    for what, times in (("wall time", took), ("processor time", processor)):
        ratios = [t / a for t, a in zip(times["timm"], times["assay"], strict=True)]
        spread = f"{min(ratios):.2f} to {max(ratios):.2f} over {ROUNDS} rounds"
        print(f"ratio of {what}: {statistics.median(ratios):.2f}× ({spread}; target {TARGET}×)")
        reached &= statistics.median(ratios) >= TARGET
    return 0 if reached else MISSED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
