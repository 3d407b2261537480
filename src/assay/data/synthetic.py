"""``synthetic[:N]``: seeded random inputs drawn from the model's input specs.  Never accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.dataset import Item
from assay.core.errors import BadInput, UnknownName
from assay.core.tensors import DTYPES, Array, TensorSpec, is_float
from assay.data.context import ReaderContext

DEFAULT_COUNT = 64
MOST_DIGITS = 15


@dataclass(frozen=True)
class Draw:
    """How one input is drawn: uniform in ``low``..``high`` (both included), or standard normal when None."""

    spec: TensorSpec
    shape: tuple[int, ...]
    low: float | None
    high: float | None


class SyntheticReader:
    """Each item depends on the seed and its own index alone, so any part can be drawn again.

    Floats are standard normal; ``bool``, ``int8`` and ``uint8`` use all their values; wider integers
    are 0 or 1, which no embedding table is too small for, unless a range is given.  ``notes`` says
    where that was done.
    """

    synthetic = True
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = None

    def __init__(self, inputs: tuple[TensorSpec, ...], count: int, context: ReaderContext) -> None:
        self.name = f"synthetic:{count}"
        self._count = count
        self._seed = context.seed
        unknown = set(context.ranges) - {s.name for s in inputs}
        if unknown:
            raise UnknownName("input", sorted(unknown)[0], [s.name for s in inputs])
        self._draws = [_plan(s, context.ranges.get(s.name)) for s in inputs]
        self.notes = tuple(_notes(self._draws, context.ranges))

    def __len__(self) -> int:
        return self._count

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for index in range(*slice(start, stop).indices(self._count)):
            rng = np.random.default_rng([self._seed, index])
            yield Item(f"synthetic/{index:06d}", {d.spec.name: _draw(d, rng) for d in self._draws})


def open_synthetic(argument: str | None, context: ReaderContext) -> SyntheticReader:
    """Raises BadInput when the inputs are unknown, have free sizes besides the batch, or hold strings."""
    if not context.inputs:
        raise BadInput(
            "random data need the model's input shapes, and this model does not tell them",
            remedy="--shape NAME:batchx3x224x224, one per input",
        )
    if argument is not None:
        count = int(argument) if argument.isdecimal() and len(argument) <= MOST_DIGITS else 0
    else:
        count = DEFAULT_COUNT if context.count is None else context.count
    if count < 1:
        raise BadInput(f"synthetic:{argument or count} is not a number of samples", remedy="--data synthetic:64")
    return SyntheticReader(context.inputs, count, context)


def _plan(spec: TensorSpec, span: tuple[float, float] | None) -> Draw:
    if spec.dtype == "string":
        raise BadInput(f"input {spec.name!r} holds strings, which cannot be drawn at random", remedy="give real --data")
    row = spec.row_shape()
    free = [str(d) for d in row if not isinstance(d, int)]
    if free:
        fixed = "x".join(["batch", *(str(d) if isinstance(d, int) else "N" for d in row)])
        raise BadInput(
            f"input {spec} has free sizes ({', '.join(free)}); random data need numbers",
            remedy=f"--shape {spec.name}:{fixed}, with numbers for N",
        )
    shape = tuple(d for d in row if isinstance(d, int))
    low, high = span if span is not None else _default_span(spec.dtype)
    if span is not None:
        _check_span(spec, *span)
    return Draw(spec, shape, low, high)


def _default_span(dtype: str) -> tuple[float | None, float | None]:
    if is_float(dtype):
        return None, None
    if dtype in ("int8", "uint8"):
        info = np.iinfo(DTYPES[dtype])
        return info.min, info.max
    return 0, 1


def _check_span(spec: TensorSpec, low: float, high: float) -> None:
    if not low <= high:
        raise BadInput(f"the range of {spec.name!r}, {low:g}..{high:g}, is empty")
    if is_float(spec.dtype):
        with np.errstate(over="ignore"):
            ends = np.array([low, high, high - low]).astype(DTYPES[spec.dtype])
        if not np.isfinite(ends.astype(np.float64)).all():
            raise BadInput(f"the range of {spec.name!r}, {low:g}..{high:g}, does not fit into {spec.dtype}")
        return
    if low != int(low) or high != int(high):
        raise BadInput(f"the range of {spec.name!r}, {low:g}..{high:g}, has fractions; it holds {spec.dtype}")
    least, most = (0, 1) if spec.dtype == "bool" else _limits(spec.dtype)
    if low < least or high > most:
        raise BadInput(f"the range of {spec.name!r}, {low:g}..{high:g}, does not fit into {spec.dtype}")


def _limits(dtype: str) -> tuple[int, int]:
    info = np.iinfo(DTYPES[dtype])
    return int(info.min), int(info.max)


def _draw(plan: Draw, rng: np.random.Generator) -> Array:
    dtype = DTYPES[plan.spec.dtype]
    if plan.low is None or plan.high is None:
        return np.asarray(rng.standard_normal(plan.shape)).astype(dtype)
    if is_float(plan.spec.dtype):
        return np.asarray(rng.uniform(plan.low, plan.high, plan.shape)).astype(dtype)
    if plan.spec.dtype == "bool":
        return np.asarray(rng.integers(int(plan.low), int(plan.high), plan.shape, endpoint=True)).astype(dtype)
    return np.asarray(rng.integers(int(plan.low), int(plan.high), plan.shape, dtype=dtype, endpoint=True))


def _notes(draws: list[Draw], ranges: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for draw in draws:
        name, dtype = draw.spec.name, draw.spec.dtype
        if name not in ranges and dtype not in ("bool", "int8", "uint8") and not is_float(dtype):
            yield f"input {name!r} ({dtype}) is drawn from 0 and 1 alone; --range {name}:LOW..HIGH widens it"
