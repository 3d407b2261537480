"""Another function, or the same one with its rounding amplified?

A file that differs from PyTorch at one size only may have that size written into it.  It may also be
a network that turns the last bits of its sums, which fall differently in every batch, into visible
differences.  Three measurements tell them apart: how far PyTorch's float32 is from its own float64, how far a
change of the inputs in their last bit moves PyTorch, and how much of the difference is left when file and PyTorch
both compute in float64, where a difference of functions stays and one of rounding is gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assay.core.compare import Accumulator
from assay.core.errors import AssayError
from assay.core.tensors import Array, Feed
from assay.export.reference import Reference, unit_roundoff
from assay.graph.arithmetic import GraphArithmetic, RunOnnx

GONE = 1e-3
"""Share of the float32 difference that may be left in float64: rounding leaves about 2**-29, another function all."""
LEFT = 0.5
"""Share of it above which no rounding explains it, however much the model amplifies."""
ALIKE = 4.0
"""Times PyTorch's own movement by which correct float32 results may differ."""


@dataclass(frozen=True)
class Conditioning:
    """Relative errors of one output: of PyTorch against its float64 (``own``), after a change of the inputs in their
    last bit (``moved``), of the file against PyTorch with both in float64 (``exact``); None: it cannot be had."""

    own: float | None
    moved: float | None
    exact: float | None

    def explains(self, error: float) -> bool:
        """Whether a difference of ``error`` between file and PyTorch is amplified rounding."""
        if self.exact is not None and self.exact <= GONE * error:
            return True
        return self._alike(error) and (self.exact is None or self.exact <= LEFT * error)

    def _alike(self, error: float) -> bool:
        return error <= ALIKE * max(self.own or 0.0, self.moved or 0.0)

    def __str__(self) -> str:
        said = []
        if self.own is not None:
            said.append(f"PyTorch's float32 itself is {self.own:.1e} away from its float64")
        if self.moved is not None:
            said.append(f"a change of the inputs in their last bit moves it by {self.moved:.1e}")
        if self.exact is not None:
            said.append(f"with both in float64 they differ by {self.exact:.1e}")
        return ", ".join(said)


@dataclass(frozen=True)
class Sides:
    """The file, how it is run, and the module."""

    path: Path
    run: RunOnnx
    reference: Reference


def conditioning(sides: Sides, name: str, feeds: tuple[Feed, Feed], outputs: Mapping[str, Array]) -> Conditioning:
    """Of the output ``name``; ``feeds`` are the module's and the file's, ``outputs`` are PyTorch's on the first."""
    double = sides.reference.run_double(feeds[0])
    expected = outputs[name]
    own = exact = None
    if double is not None and double[name].shape == expected.shape:
        own = _error(double[name], expected)
        exact = _exact(sides, name, feeds[1], double[name])
    return Conditioning(own, _moved(sides.reference, name, feeds[0], expected), exact)


def _exact(sides: Sides, name: str, feed: Feed, double: Array) -> float | None:
    # What an engine lacks in float64 it says in an exception of its own.
    with contextlib.suppress(Exception), contextlib.closing(GraphArithmetic(sides.path, sides.run)) as graph:
        found = graph.exact(feed).get(name)
        return _error(double, found) if found is not None and found.shape == double.shape else None
    return None


def _moved(reference: Reference, name: str, feed: Feed, expected: Array) -> float | None:
    rng = np.random.default_rng(0)
    changed = {n: _nudged(a, rng) for n, a in feed.items()}
    if all(changed[n] is feed[n] for n in feed):
        return None
    with contextlib.suppress(AssayError):
        found = reference.run(changed)[name]
        return _error(expected, found) if found.shape == expected.shape else None
    return None


def _nudged(array: Array, rng: np.random.Generator) -> Array:
    """Every value one unit roundoff up or down; other than floating point as it is."""
    roundoff = unit_roundoff(array)
    if roundoff is None:
        return array
    signs = rng.integers(0, 2, array.shape) * 2.0 - 1.0
    return np.asarray(array.astype(np.float64) * (1 + 2 * roundoff * signs)).astype(array.dtype)


def _error(expected: Array, found: Array) -> float:
    accumulator = Accumulator()
    accumulator.add(expected, found)
    return accumulator.measures().relative_rms
