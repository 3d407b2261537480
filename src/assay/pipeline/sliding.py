"""Sliding windows: a model of fixed size over an image or volume of any size."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array, Feed, Signature


@dataclass(frozen=True)
class Windows:
    """``overlap`` is the share of a window that its neighbour covers again; overlapping scores are averaged with
    weights that fall linearly towards a window's edges, where a model sees least around a pixel."""

    overlap: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise BadInput(f"the overlap of windows is at least 0 and below 1, not {self.overlap}")


def sliding(
    infer: Callable[[Feed], Mapping[str, Array]], signature: Signature, windows: Windows
) -> tuple[Callable[[Feed], Mapping[str, Array]], Signature]:
    """(infer for one sample of any size, its signature), for a model with one input (N, channels, sizes …) and
    outputs (N, classes, the same sizes …).

    What is smaller than a window is filled up with zeros, which are cut off the result.  Raises BadInput for
    other models.
    """
    if len(signature.inputs) != 1 or not signature.is_batched:
        raise BadInput("sliding windows need a model with one input and a batch axis")
    spec = signature.inputs[0]
    window = tuple(d for d in spec.shape[2:] if isinstance(d, int))
    if not window or len(window) != len(spec.shape) - 2:
        raise BadInput(f"sliding windows need an input of fixed sizes, not {spec}")
    for output in signature.outputs:
        if output.shape[2:] != spec.shape[2:]:
            raise BadInput(f"sliding windows need outputs of the input's sizes; {output} is not")
    rows = signature.static_batch or 1
    weight = _weight(window)

    def run(feed: Feed) -> Mapping[str, Array]:
        (image,) = feed[spec.name]
        sizes = image.shape[1:]
        padded = _padded(image, window)
        places = list(itertools.product(*map(_starts, padded.shape[1:], window, [windows.overlap] * len(window))))
        sums: dict[str, Array] = {}
        weights = np.zeros(padded.shape[1:], dtype=np.float64)
        for first in range(0, len(places), rows):
            group = places[first : first + rows]
            parts = [padded[(slice(None), *_cut(place, window))] for place in group]
            parts += [parts[-1]] * (rows - len(parts))
            outputs = infer({spec.name: np.ascontiguousarray(np.stack(parts))})
            for row, place in enumerate(group):
                weights[_cut(place, window)] += weight
                for name, array in outputs.items():
                    if name not in sums:
                        sums[name] = np.zeros((array.shape[1], *padded.shape[1:]), dtype=np.float64)
                    sums[name][(slice(None), *_cut(place, window))] += array[row].astype(np.float64) * weight
        whole = tuple(slice(0, s) for s in sizes)
        return {n: (a / weights)[(slice(None), *whole)].astype(np.float32)[None] for n, a in sums.items()}

    free = tuple(f"size{i}" for i in range(len(window)))
    inputs = (replace(spec, shape=("batch", spec.shape[1], *free), batch_axis=0),)
    made = tuple(
        replace(o, shape=("batch", o.shape[1], *free), batch_axis=0, dtype="float32") for o in signature.outputs
    )
    return run, Signature(inputs, made)


def _starts(size: int, window: int, overlap: float) -> list[int]:
    """Where windows begin along one edge: evenly spread, the last one ending at the edge."""
    step = max(1, int(window * (1 - overlap)))
    count = 1 + -(-(size - window) // step)
    return [round(i * (size - window) / max(1, count - 1)) for i in range(count)]


def _cut(place: tuple[int, ...], window: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(p, p + w) for p, w in zip(place, window, strict=True))


def _padded(image: Array, window: tuple[int, ...]) -> Array:
    missing = [(0, max(0, w - s)) for s, w in zip(image.shape[1:], window, strict=True)]
    return np.pad(image, [(0, 0), *missing]) if any(m for _, m in missing) else image


def _weight(window: tuple[int, ...]) -> Array:
    """The product of triangles that are largest in the middle and never zero."""
    weight = np.ones((1,) * len(window))
    for axis, size in enumerate(window):
        line = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)) / ((size + 1) // 2)
        weight = weight * line.reshape([-1 if a == axis else 1 for a in range(len(window))])
    return np.asarray(weight)
