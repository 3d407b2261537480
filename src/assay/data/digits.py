"""``digits``: scikit-learn's 1797 handwritten digits of 8×8 pixels, which come with its package.

Three splits that do not overlap and do not depend on any seed: ``test`` (450, the default),
``calibration`` (150) and ``train`` (the other 1197).  Each class is divided in proportion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from assay.core.dataset import Item
from assay.core.errors import NotAvailable, UnknownName
from assay.core.tensors import Array
from assay.data.context import ReaderContext

SPLITS = ("test", "train", "calibration")
_TEST, _CALIBRATION = 450, 150


class DigitsReader:
    """An item is a uint8 image (8, 8) with 0 for paper and 255 for full ink; its id is ``digits/NNNN``."""

    synthetic = False

    def __init__(self, split: str = "test") -> None:
        if split not in SPLITS:
            raise UnknownName("split of digits", split, SPLITS)
        self.name = f"digits:{split}"
        self.labels: tuple[str, ...] | None = tuple("0123456789")
        self.preprocess: Mapping[str, Any] | None = {
            "kind": "image",
            "size": [32, 32],
            "crop_pct": 1.0,
            "crop_mode": "squash",
            "interpolation": "bilinear",
            "mean": [0.5],
            "std": [0.5],
            "channels": 1,
        }
        self._images, self._targets = _load()
        self._indices = split_indices(self._targets)[split]

    def __len__(self) -> int:
        return len(self._indices)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for index in self._indices[start:stop]:
            yield Item(f"digits/{index:04d}", self._images[index].copy(), int(self._targets[index]))


def open_digits(argument: str | None, context: ReaderContext) -> DigitsReader:
    """Raises UnknownName for another split, NotAvailable without scikit-learn."""
    return DigitsReader("test" if argument is None else argument)


def split_indices(targets: Array) -> dict[str, list[int]]:
    """Split name -> sorted indices, stratified by target.

    Within a class the images are ordered by the SHA-256 of their index, which no library
    version and no seed can change; the first go to the test split, the next to calibration.
    """
    places: list[tuple[float, str, int]] = []
    for target in np.unique(targets):
        members = sorted(np.flatnonzero(targets == target).tolist(), key=_shuffle_key)
        places += [((rank + 0.5) / len(members), _shuffle_key(i), i) for rank, i in enumerate(members)]
    order = [index for _, _, index in sorted(places)]
    return {
        "test": sorted(order[:_TEST]),
        "calibration": sorted(order[_TEST : _TEST + _CALIBRATION]),
        "train": sorted(order[_TEST + _CALIBRATION :]),
    }


def _shuffle_key(index: int) -> str:
    return hashlib.sha256(f"digits split {index}".encode()).hexdigest()


def _load() -> tuple[Array, Array]:
    """Images uint8 (1797, 8, 8) and targets int64 (1797,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise NotAvailable(
            f"the digits come with scikit-learn, which cannot be imported ({error})", remedy="pip install 'assay[data]'"
        ) from error
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target.astype(np.int64)
