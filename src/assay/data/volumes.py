"""``volumes:DIR``: images/ and labels/ with arrays of two or three dims, matched by name.

``.npy``, ``.npz`` (one array, or one named ``image``/``label``), and ``.nii``/``.nii.gz`` where nibabel is installed.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.archives import check_members, check_size
from assay.core.dataset import Item
from assay.core.errors import BadInput, NotAvailable
from assay.core.tensors import Array
from assay.data.context import ReaderContext
from assay.data.files import existing_folder
from assay.data.pairs import match

SUFFIXES = (".npy", ".npz", ".nii", ".nii.gz")


class VolumesReader:
    """An item is float32 (channels, [depth,] H, W) and its target, the labels, integer ([depth,] H, W).

    An image with as many dims as its labels gets a channel axis; one with a dim more has its channels first
    (NIfTI keeps them last: they are moved).  Only the paths are held in memory.
    """

    synthetic = False
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = {"kind": "none"}

    def __init__(self, root: Path) -> None:
        self.name = f"volumes:{root}"
        self._files = match(root / "images", root / "labels", _is_volume)

    def __len__(self) -> int:
        return len(self._files)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for image, label in self._files[start:stop]:
            target = _labels(label)
            yield Item(image.name, _image(image, target.shape), target)


def open_volumes(argument: str | None, context: ReaderContext) -> VolumesReader:
    """Raises BadInput for missing folders and files without counterpart, NotAvailable for NIfTI without nibabel."""
    reader = VolumesReader(existing_folder(argument, "volumes"))
    if any(_is_nifti(path) for pair in reader._files for path in pair):
        _nibabel()
    return reader


def _is_volume(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name.lower().endswith(SUFFIXES)


def _is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def _image(path: Path, shape: tuple[int, ...]) -> Array:
    array = _load(path, "image")
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{path} holds {array.dtype}, not numbers")
    if array.ndim == len(shape) + 1 and _is_nifti(path):
        array = np.moveaxis(array, -1, 0)
    if array.ndim == len(shape):
        array = array[None]
    if array.shape[1:] != shape:
        raise BadInput(f"{path} has shape {array.shape}, its labels {shape}")
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(made).all():
        raise BadInput(f"{path} holds values that are not finite, or not as float32")
    return made


def _labels(path: Path) -> Array:
    array = _load(path, "label")
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{path} holds {array.dtype}, not class numbers 0, 1, …")
    with np.errstate(invalid="ignore"):  # NaN, which no whole number equals
        whole = array.astype(np.int64)
    if not np.array_equal(whole, array) or (whole.size and whole.min() < 0):
        raise BadInput(f"{path} holds values that are not class numbers 0, 1, …")
    if whole.ndim not in (2, 3) or whole.size == 0:
        raise BadInput(f"{path} has shape {whole.shape}; labels have two or three dims")
    return whole


def _load(path: Path, name: str) -> Array:
    try:
        if _is_nifti(path):
            found = _nibabel().load(path)
            check_size(path, math.prod(found.shape) * found.get_data_dtype().itemsize)
            return np.asarray(found.dataobj)
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            check_members(loaded.zip, path)
            chosen = name if name in loaded.files else loaded.files[0] if len(loaded.files) == 1 else None
            if chosen is None:
                raise BadInput(
                    f"{path} holds {', '.join(loaded.files) or 'nothing'}", remedy=f"name the array {name!r}"
                )
            return np.asarray(loaded[chosen])
    except (BadInput, NotAvailable):
        raise
    except MemoryError as error:
        raise BadInput(f"{path} claims more values than there is memory for ({error})") from error
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{path} is not a readable volume ({error})") from error
    except Exception as error:  # nibabel's own kinds of error
        raise BadInput(f"{path} is not a readable volume ({type(error).__name__}: {error})") from error


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise NotAvailable(
            f"NIfTI files need nibabel, which cannot be imported ({error})", remedy="pip install nibabel"
        ) from error
    return nibabel
