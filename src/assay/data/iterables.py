"""Any Python iterable as a Reader: a list, a DataLoader, a map-style Dataset, a generator.

An element may be

* ``(input, target)``: ``input`` is an array or tensor, a mapping of names to arrays, or a tuple of
  arrays in the order of the model's inputs;
* a mapping of input names to arrays, the target under ``target``, ``targets``, ``label``,
  ``labels`` or ``y`` (a name the model uses for an input is an input);
* an array, or a tuple of one: no target.

Arrays decide by their rank whether an element is one sample or a batch: as many dims as the
model's first batched input makes a batch, one less a single sample.  A batch's targets must be as
many as its rows.  Content that is not an array (bytes, a PIL image) is one item for the transform.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.dataset import Item
from assay.core.errors import BadInput
from assay.core.tensors import Array, TensorSpec
from assay.data.npz import TARGET_NAMES


@dataclass(frozen=True)
class _Element:
    """One element taken apart: named arrays, or (``arrays`` None) one thing for the transform."""

    arrays: Mapping[str, Array] | None
    content: Any
    target: Any


class IterableReader:
    """Walks the iterable anew for each pass and checks that the order is the same every time.

    A one-shot iterator (a generator) is kept as a list.  The first pass remembers a digest of
    every item, so a shuffling or augmenting loader is refused rather than compared with itself.
    ``len`` needs one whole pass.
    """

    synthetic = False
    streams = True
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = None

    def __init__(self, iterable: Iterable[Any], name: str, inputs: tuple[TensorSpec, ...]) -> None:
        if not inputs:
            raise BadInput("the model's inputs must be known before data can be cut into samples")
        self.name = name
        self._inputs = inputs
        self._source: Any = list(iterable) if isinstance(iterable, Iterator) else iterable
        self._digests: list[bytes] = []
        self._count: int | None = None
        if next(self._items(), None) is None:
            raise BadInput(f"{name} gives no samples")

    def __len__(self) -> int:
        if self._count is None:
            for _ in self._items():
                pass
        assert self._count is not None
        return self._count

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        if start < 0 or (stop is not None and stop < 0):
            start, stop, _ = slice(start, stop).indices(len(self))
        if stop is not None and stop <= start:
            return
        for index, item in enumerate(self._items()):
            if index >= start:
                yield item
            if stop is not None and index + 1 >= stop:
                return

    def _items(self) -> Iterator[Item]:
        index = 0
        for number, element in enumerate(_elements(self._source)):
            where = f"{self.name}: element {number}"
            for part in _rows(_take_apart(element, self._inputs, where), self._inputs, where):
                content = part.content if part.arrays is None else part.arrays
                item = Item(f"sample{index:08d}", content, part.target)
                self._check_order(index, item)
                yield item
                index += 1
        if self._count is not None and self._count != index:
            raise BadInput(f"{self.name} gave {self._count} samples on the first pass and {index} on this one")
        self._count = index

    def _check_order(self, index: int, item: Item) -> None:
        digest = _digest(item)
        if index == len(self._digests):
            self._digests.append(digest)
        elif self._digests[index] != digest:
            raise BadInput(
                f"{self.name} gives another sample {index} on each pass, so no two results could be compared",
                remedy="turn shuffling and random augmentation off (DataLoader(…, shuffle=False))",
            )


def from_iterable(iterable: Iterable[Any], name: str, inputs: tuple[TensorSpec, ...]) -> IterableReader:
    """A Reader over ``(input, target)`` pairs and the like; see the module for the forms.

    ``inputs`` are the model's, with their batch axes.  Raises BadInput for something that cannot be
    iterated, holds nothing, or whose first element does not fit the model.
    """
    if isinstance(iterable, (str, bytes, Mapping)) or not (hasattr(iterable, "__iter__") or _is_map_style(iterable)):
        raise BadInput(
            f"{name}: a {type(iterable).__name__} is not an iterable of samples",
            remedy="give a list, a DataLoader or a generator of (input, target)",
        )
    return IterableReader(iterable, name, inputs)


def _is_map_style(source: Any) -> bool:
    """``__getitem__`` and ``__len__`` without ``__iter__``: torch's Dataset, which need not raise IndexError."""
    return hasattr(source, "__getitem__") and hasattr(source, "__len__") and not hasattr(source, "__iter__")


def _elements(source: Any) -> Iterator[Any]:
    if _is_map_style(source):
        return (source[i] for i in range(len(source)))
    return iter(source)


def _take_apart(element: Any, inputs: tuple[TensorSpec, ...], where: str) -> _Element:
    if isinstance(element, Mapping):
        names = {s.name for s in inputs}
        found = [n for n in TARGET_NAMES if n in element and n not in names]
        if len(found) > 1:
            raise BadInput(f"{where} has several targets: {', '.join(found)}")
        arrays = {k: v for k, v in element.items() if k not in found}
        return _Element(_named(arrays, inputs, where), None, element[found[0]] if found else None)
    content, target = element, None
    if isinstance(element, (tuple, list)):
        if not 1 <= len(element) <= 2:
            raise BadInput(
                f"{where} has {len(element)} parts", remedy="give (input, target); several inputs as a mapping"
            )
        content, target = element if len(element) == 2 else (element[0], None)
    if isinstance(content, Mapping):
        return _Element(_named(content, inputs, where), None, target)
    if isinstance(content, (tuple, list)) and len(content) == len(inputs) and all(_is_array(c) for c in content):
        return _Element({s.name: _array(c) for s, c in zip(inputs, content, strict=True)}, None, target)
    if _is_array(content) and len(inputs) == 1:
        return _Element({inputs[0].name: _array(content)}, None, target)
    if len(inputs) > 1 or isinstance(content, (tuple, list)):
        raise BadInput(
            f"{where} is a {type(content).__name__} for the {len(inputs)} inputs {', '.join(s.name for s in inputs)}",
            remedy="give (mapping of input names to arrays, target)",
        )
    return _Element(None, content, target)


def _named(arrays: Mapping[str, Any], inputs: tuple[TensorSpec, ...], where: str) -> Mapping[str, Array]:
    expected = [s.name for s in inputs]
    if set(arrays) != set(expected):
        found = ", ".join(map(str, arrays)) or "none"
        raise BadInput(f"{where} gives the inputs {found}; the model's are {', '.join(expected)}")
    try:
        return {name: _array(arrays[name]) for name in expected}
    except ValueError as error:  # lists of unequal lengths
        raise BadInput(f"{where} gives an input that is no array: {error}") from error


def _rows(element: _Element, inputs: tuple[TensorSpec, ...], where: str) -> Iterator[_Element]:
    """The element itself when it is one sample, else its rows."""
    if element.arrays is None:
        yield _Element(None, element.content, _plain(element.target))
        return
    batched = [s for s in inputs if s.batch_axis is not None]
    if not batched or element.arrays[batched[0].name].ndim == len(batched[0].shape) - 1:
        yield _Element(element.arrays, None, _plain(element.target))
        return
    rows = _row_count(element.arrays, batched, where)
    targets = _row_targets(element.target, rows, where)
    axes = {s.name: s.batch_axis for s in inputs}
    for row in range(rows):
        arrays = {
            n: a if (axis := axes[n]) is None else np.asarray(a.take(row, axis)) for n, a in element.arrays.items()
        }
        yield _Element(arrays, None, targets[row])


def _row_count(arrays: Mapping[str, Array], batched: list[TensorSpec], where: str) -> int:
    first = batched[0]
    shape = arrays[first.name].shape
    if len(shape) != len(first.shape):
        raise BadInput(
            f"{where}: input {first.name!r} has shape {shape}; the model takes {first}",
            remedy=f"give {len(first.shape)} dims for a batch, {len(first.shape) - 1} for a single sample",
        )
    for spec in batched:
        if arrays[spec.name].ndim != len(spec.shape):
            raise BadInput(f"{where}: {first.name!r} is a batch, but {spec.name!r} has shape {arrays[spec.name].shape}")
    counts = {s.name: arrays[s.name].shape[s.batch_axis or 0] for s in batched}
    if len(set(counts.values())) > 1:
        raise BadInput(f"{where}: unequal numbers of rows: {', '.join(f'{n} {c}' for n, c in counts.items())}")
    return int(counts[first.name])


def _row_targets(target: Any, rows: int, where: str) -> list[Any]:
    """One target per row.  A batch of one may have a target without batch axis."""
    if target is None:
        return [None] * rows
    values = _array(target) if _is_array(target) else target
    several = isinstance(values, (list, tuple)) or (isinstance(values, np.ndarray) and values.ndim > 0)
    if rows == 1 and not several:
        return [_plain(values)]
    if several and len(values) == rows:
        return [_plain(v) for v in values]
    if isinstance(values, np.ndarray):
        found = str(values.shape)
    else:
        found = f"for {len(values)}" if several else f"of one {type(values).__name__}"
    raise BadInput(f"{where}: {rows} rows of input, but targets {found}", remedy="one target per row")


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "numpy"))


def _array(value: Any) -> Array:
    """numpy arrays as they are, tensors from any device without a change of value or dtype."""
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "detach") and hasattr(value, "numpy"):
        tensor = value.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            import ml_dtypes
            import torch

            bits: Array = tensor.contiguous().view(torch.int16).numpy()
            return bits.view(ml_dtypes.bfloat16)
        return np.asarray(tensor.numpy())
    return np.asarray(value)


def _plain(target: Any) -> Any:
    """A target as a Python number where it is one, as a numpy array where it is a tensor."""
    if _is_array(target):
        target = _array(target)
    return target.item() if isinstance(target, (np.ndarray, np.generic)) and np.ndim(target) == 0 else target


def _digest(item: Item) -> bytes:
    """16 bytes that change with the content; of content that is no array, only bytes can be told apart."""
    sha = hashlib.blake2b(digest_size=16)
    parts = item.content if isinstance(item.content, Mapping) else {"": item.content}
    for name, value in (*parts.items(), ("target", item.target)):
        sha.update(str(name).encode())
        if isinstance(value, np.ndarray) and value.dtype != object:
            sha.update(f"{value.dtype}{value.shape}".encode())
            sha.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, np.ndarray):  # of objects: its own bytes are addresses
            sha.update(f"{value.shape}{value.tolist()!r}".encode())
        elif isinstance(value, bytes):
            sha.update(value)
        elif hasattr(value, "tobytes"):
            sha.update(value.tobytes())
        else:
            sha.update(repr(value).encode() if isinstance(value, (str, int, float, bool, type(None))) else b"?")
    return sha.digest()
