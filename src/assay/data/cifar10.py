"""``cifar10:DIR``: the python pickles (read without executing them) or the binary version.

The test images, or with ``cifar10:DIR:train`` the training images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.dataset import Item
from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.data.context import ReaderContext
from assay.data.files import existing_folder, read_bytes
from assay.data.pickled import load_arrays

PARTS = {"test": ("test_batch",), "train": tuple(f"data_batch_{i}" for i in range(1, 6))}
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FOLDERS = ("", "cifar-10-batches-py", "cifar-10-batches-bin")
_PIXELS = 3 * 32 * 32


class Cifar10Reader:
    """An item is a uint8 image (32, 32, 3), its id ``test/00000``; all images are held in memory (31 MB for test)."""

    synthetic = False

    def __init__(self, folder: Path, split: str, suffix: str) -> None:
        self.name = f"cifar10:{folder}:{split}"
        self.labels: tuple[str, ...] | None = NAMES
        self.preprocess: Mapping[str, Any] | None = {
            "kind": "image",
            "size": [32, 32],
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "interpolation": "bicubic",
            "mean": [0.4914, 0.4822, 0.4465],
            "std": [0.2470, 0.2435, 0.2616],
        }
        self._split = split
        read = _read_binary if suffix else _read_pickle
        parts = [read(folder / f"{part}{suffix}") for part in PARTS[split]]
        self._images = np.concatenate([p[0] for p in parts])
        self._targets = np.concatenate([p[1] for p in parts])

    def __len__(self) -> int:
        return len(self._targets)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for index in range(*slice(start, stop).indices(len(self))):
            image = np.ascontiguousarray(self._images[index].reshape(3, 32, 32).transpose(1, 2, 0))
            yield Item(f"{self._split}/{index:05d}", image, int(self._targets[index]))


def open_cifar10(argument: str | None, context: ReaderContext) -> Cifar10Reader:
    """Raises BadInput for a folder without the split's files and for files that are not CIFAR-10's."""
    split = "test"
    for name in PARTS:
        if argument and argument.endswith(f":{name}"):
            argument, split = argument[: -len(name) - 1], name
    root = existing_folder(argument, "cifar10")
    for folder in (root / f for f in _FOLDERS):
        for suffix in ("", ".bin"):
            if all((folder / f"{part}{suffix}").is_file() for part in PARTS[split]):
                return Cifar10Reader(folder, split, suffix)
    raise BadInput(
        f"{root} holds no CIFAR-10 {split} images (looked for {', '.join(PARTS[split])}, with and without .bin)",
        remedy="give the folder cifar-10-batches-py or cifar-10-batches-bin",
    )


def _read_pickle(path: Path) -> tuple[Array, Array]:
    found = load_arrays(read_bytes(path), str(path))
    images, labels = found.get("data"), found.get("labels")
    if "fine_labels" in found:
        raise BadInput(f"{path} is a part of CIFAR-100, not of CIFAR-10")
    if not isinstance(images, np.ndarray) or images.ndim != 2 or images.shape[1] != _PIXELS:
        raise BadInput(f"{path} holds no array 'data' of {_PIXELS} bytes an image")
    if not len(images):
        raise BadInput(f"{path} holds no images")
    if not isinstance(labels, list) or len(labels) != len(images):
        raise BadInput(f"{path} holds {len(images)} images and no list 'labels' of as many numbers")
    if not all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 10 for v in labels):
        raise BadInput(f"{path} holds labels that are not 0 … 9")
    return images, np.asarray(labels, dtype=np.int64)


def _read_binary(path: Path) -> tuple[Array, Array]:
    content = np.frombuffer(read_bytes(path), dtype=np.uint8)
    if content.size == 0 or content.size % (1 + _PIXELS):
        raise BadInput(f"{path} has {content.size} bytes, not a whole number of records of {1 + _PIXELS}")
    rows = content.reshape(-1, 1 + _PIXELS)
    if rows[:, 0].max() > 9:
        raise BadInput(f"{path} holds labels that are not 0 … 9")
    return rows[:, 1:], rows[:, 0].astype(np.int64)
