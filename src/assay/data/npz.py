"""``npz:FILE``: model inputs kept as arrays, one array per input and perhaps one of targets.

``np.savez("data.npz", tokens=tokens, mask=mask, target=labels)``; rows lie along each input's
batch axis (the first, when the model's inputs are not known).  Pickled arrays are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.archives import check_members
from assay.core.dataset import Item
from assay.core.errors import BadInput
from assay.core.tensors import Array, TensorSpec
from assay.data.context import ReaderContext
from assay.data.files import path_of

TARGET_NAMES = ("target", "targets", "label", "labels", "y")


class NpzReader:
    """Holds the arrays in memory; an item is a mapping of input names to one row each."""

    synthetic = False
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = None

    def __init__(self, path: Path, inputs: tuple[TensorSpec, ...] | None) -> None:
        self.name = f"npz:{path}"
        arrays = _load(path)
        target = _target_name(arrays, inputs, path)
        self._targets = None if target is None else arrays.pop(target)
        self._arrays = arrays
        self._axes = _batch_axes(arrays, inputs, path)
        self._count = _rows(arrays, self._axes, self._targets, path)

    def __len__(self) -> int:
        return self._count

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for index in range(*slice(start, stop).indices(self._count)):
            content = {name: self._row(name, index) for name in self._arrays}
            yield Item(f"row{index:06d}", content, self._target(index))

    def _row(self, name: str, index: int) -> Array:
        axis = self._axes[name]
        array = self._arrays[name]
        return array if axis is None else np.asarray(np.take(array, index, axis=axis))

    def _target(self, index: int) -> Any:
        if self._targets is None:
            return None
        row = self._targets[index]
        return row.item() if np.ndim(row) == 0 else row


def open_npz(argument: str | None, context: ReaderContext) -> NpzReader:
    """Raises BadInput for a missing or broken file and for names that are not the model's inputs."""
    if not argument:
        raise BadInput("--data npz needs a file", remedy="--data npz:FILE.npz")
    path = path_of(argument)
    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    return NpzReader(path, context.inputs)


def _load(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise BadInput(
                    f"{path} holds one unnamed array", remedy="write it with np.savez(FILE, input=…, target=…)"
                )
            with loaded:
                assert loaded.zip is not None  # until it is closed
                check_members(loaded.zip, path)
                arrays = {name: loaded[name] for name in loaded.files}
    except BadInput:
        raise
    except MemoryError as error:
        raise BadInput(f"{path} claims more values than there is memory for ({error})") from error
    except Exception as error:  # numpy parses headers as Python, and each way of packing raises its own
        raise BadInput(f"{path} is not a readable .npz file without pickled objects ({error})") from error
    if not arrays:
        raise BadInput(f"{path} holds no arrays")
    others = [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]
    if others:
        raise BadInput(f"{path} holds what is no array: {', '.join(others)}", remedy="write it with np.savez alone")
    return arrays


def _target_name(arrays: Mapping[str, Array], inputs: tuple[TensorSpec, ...] | None, path: Path) -> str | None:
    names = {s.name for s in inputs or ()}
    found = [n for n in TARGET_NAMES if n in arrays and n not in names]
    if len(found) > 1:
        raise BadInput(f"{path} holds several arrays of targets: {', '.join(found)}", remedy="keep one")
    return found[0] if found else None


def _batch_axes(
    arrays: Mapping[str, Array], inputs: tuple[TensorSpec, ...] | None, path: Path
) -> dict[str, int | None]:
    if inputs is None:
        return dict.fromkeys(arrays, 0)
    axes = {s.name: s.batch_axis for s in inputs}
    if set(axes) != set(arrays):
        found = ", ".join(arrays) or "(targets only)"
        raise BadInput(
            f"{path} holds the arrays {found}; the model's inputs are {', '.join(axes)}",
            remedy=f"name the arrays like the inputs, and the targets one of {', '.join(TARGET_NAMES)}",
        )
    return axes


def _rows(arrays: Mapping[str, Array], axes: Mapping[str, int | None], targets: Array | None, path: Path) -> int:
    sizes: dict[str, int] = {}
    for name, array in arrays.items():
        axis = axes[name]
        if axis is None:
            continue
        if array.ndim <= axis:
            raise BadInput(f"{path}: {name} has shape {array.shape}, without the batch axis {axis}")
        sizes[name] = array.shape[axis]
    if targets is not None:
        if targets.ndim == 0:
            raise BadInput(f"{path}: the targets are a single number, not one per row")
        sizes["the targets"] = len(targets)
    if len(set(sizes.values())) > 1:
        raise BadInput(f"{path}: unequal numbers of rows: {', '.join(f'{n} {s}' for n, s in sizes.items())}")
    count = next(iter(sizes.values()), 1)
    if count == 0:
        raise BadInput(f"{path} holds no rows")
    return count
