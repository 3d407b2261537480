"""CIFAR-10's files, made from packaged photographs, since nothing is downloaded here.

A class is a photograph: which one a crop of it comes from is the question, and CIFAR's class names mean nothing.  A
photograph is cut into squares; every second one is trained on, the others are tested on, so no pixel is in both.

    python pictures.py --out runs/genet_cifar10/made --train 250 --test 100
"""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_image

SQUARE, SMALLEST = 64, 40  # pixels along the edge of a square, and of the smallest crop in it
FOLDER = "cifar-10-batches-py"


def photographs() -> list[Image.Image]:
    """Ten colour photographs, in the order of their names."""
    names = ("astronaut", "chelsea", "coffee", "hubble_deep_field", "immunohistochemistry", "retina", "rocket")
    found = {name: getattr(skimage.data, name)() for name in names}
    found["motorcycle"] = skimage.data.stereo_motorcycle()[0]
    found |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return [Image.fromarray(found[name]) for name in sorted(found)]


def crops(picture: Image.Image, count: int, odd: bool, draw: np.random.Generator) -> list[np.ndarray]:
    """``count`` crops of the odd or of the even squares as CIFAR's rows, uint8 (3072,): red, green, blue planes."""
    columns, rows = (extent // SQUARE for extent in picture.size)
    places = [(x, y) for y in range(rows) for x in range(columns) if (x + y) % 2 == odd]
    found = []
    for _ in range(count):
        x, y = places[int(draw.integers(len(places)))]
        side = int(draw.integers(SMALLEST, SQUARE + 1))
        left, top = (SQUARE * place + int(draw.integers(0, SQUARE - side + 1)) for place in (x, y))
        small = picture.crop((left, top, left + side, top + side)).resize((32, 32), Image.Resampling.BICUBIC)
        found.append(np.asarray(small).transpose(2, 0, 1).reshape(-1))
    return found


def write_batch(path: Path, rows: list[tuple[int, np.ndarray]]) -> None:
    """A pickle as CIFAR-10's python version has them."""
    content = {
        "batch_label": path.name,
        "labels": [label for label, _ in rows],
        "data": np.stack([pixels for _, pixels in rows]),
        "filenames": [f"{number:05d}.png" for number in range(len(rows))],
    }
    path.write_bytes(pickle.dumps(content, protocol=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--train", type=int, default=250, help="crops of each photograph to train on")
    parser.add_argument("--test", type=int, default=100, help="crops of each photograph to test on")
    settings = parser.parse_args()
    draw = np.random.default_rng(0)
    folder = settings.out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for odd, count in ((False, settings.train), (True, settings.test)):
        rows = [(label, row) for label, p in enumerate(photographs()) for row in crops(p, count, odd, draw)]
        rows = [rows[place] for place in draw.permutation(len(rows))]
        if odd:
            write_batch(folder / "test_batch", rows)
            continue
        for number in range(5):
            write_batch(folder / f"data_batch_{number + 1}", rows[number::5])
    print(f"{folder}: {10 * settings.train} pictures to train on, {10 * settings.test} to test on")


if __name__ == "__main__":
    main()
