"""Two image transforms side by side on real files: the first step in which they differ, and by how much.

The training transform is known step by step; the deployed one is a function whose inside nobody can see.  So
the steps are put together in every way that is mixed up in practice until the result is what the function gave,
up to a gain and an offset per channel, which are then fitted: that is the normalisation.  Distances are in
levels, 0–255: in units of the training transform's own gain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.diagnose.image_steps import (
    CROPS,
    DECODERS,
    FITS,
    KERNELS,
    SHARP,
    STEPS,
    WORDS,
    Picture,
    Recipe,
    apply,
    levels,
)

CLOSE = 0.6
"""Levels (rms) that are rounding: somewhere a result was kept as a float, or rounded once more."""
_BETTER = 0.02
_STRIDE = 3
"""Every third pixel of every third row decides the first round."""
_NEAREST = 12
_TELLING = 1.25
_FRACTIONS = (1.0, 0.96, 0.95, 0.9, 0.875, 0.8)
_FIELDS = {"size": ("fit", "scale"), "normalise": ("gain", "offset")}


@dataclass(frozen=True)
class StepDifference:
    """``mean`` and ``largest`` are in levels, of this step alone changed in the training transform."""

    step: str
    training: str
    deployed: str
    mean: float
    largest: float
    alone: Recipe

    @property
    def words(self) -> str:
        return WORDS[self.step]

    def to_json(self) -> dict[str, Any]:
        names = ("training", "deployed", "mean", "largest")
        return {"step": self.words, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True)
class Parity:
    """``steps`` are those that differ, in the order in which they are done; ``mean`` and ``largest`` the whole
    difference in levels; ``unexplained`` (rms, levels) what no known way of doing the steps accounts for.

    ``files`` were looked at; ``layout`` says what is to be done to the deployed arrays before they can be
    compared at all.
    """

    steps: tuple[StepDifference, ...]
    equal: bool
    mean: float
    largest: float
    unexplained: float
    files: int
    layout: str | None = None

    @property
    def explained(self) -> bool:
        """Whether the named steps are all there is."""
        return self.unexplained <= CLOSE

    @property
    def agree(self) -> bool:
        return self.layout is None and not self.steps and self.explained

    def to_json(self) -> dict[str, Any]:
        names = ("equal", "mean", "largest", "unexplained", "files", "layout")
        return {"steps": [s.to_json() for s in self.steps], **{name: getattr(self, name) for name in names}}


def parity(training: Recipe, items: Sequence[Any], ours: Sequence[Array], theirs: Sequence[Array]) -> Parity:
    """``ours`` and ``theirs`` are what the two transforms gave for ``items`` (the files' bytes), one each.

    Raises BadInput for nothing to compare, for arrays that are no images of the training size, and for NaN or
    infinity in one.
    """
    if not items:
        raise BadInput("there are no files to compare preprocessing on")
    laid, layout = zip(*(_laid_out(array, training) for array in theirs), strict=True)
    scale = 1 / np.abs(np.array(training.gain))[:, None, None]
    apart = [np.abs(a - b.astype(np.float64)) * scale for a, b in zip(ours, laid, strict=True)]
    mean, largest = float(np.mean([d.mean() for d in apart])), float(max(d.max() for d in apart))
    if largest == 0.0:
        return Parity((), layout[0] is None, 0.0, 0.0, 0.0, len(items), layout[0])
    found, unexplained = explain(training, items, laid)
    own = [levels(training, item) for item in items]
    bench = _Bench([Picture(item) for item in items], laid)
    named = [s for s in STEPS if _differs(s, training, (found, unexplained)) and _needed(s, training, found, bench)]
    steps = tuple(_difference(step, training, found, items, own) for step in named)
    return Parity(steps, False, mean, largest, unexplained, len(items), layout[0])


def _laid_out(array: Array, training: Recipe) -> tuple[Array, str | None]:
    """(channels, height, width), and what that took."""
    wanted = (training.channels, *training.out)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = array.size - int(np.isfinite(array).sum())
        raise BadInput(
            f"the deployed transform gives NaN or infinity in {bad} of {array.size} values",
            remedy="look for a division by zero, such as a standard deviation of 0",
        )
    if array.shape == wanted:
        return array, None
    if array.shape == (1, *wanted):
        return array[0], "the deployed transform adds a batch axis"
    if array.shape == (*wanted[1:], wanted[0]):
        return np.ascontiguousarray(array.transpose(2, 0, 1)), "the deployed transform leaves channels last"
    raise BadInput(f"the deployed transform gives {array.dtype} {array.shape}, the training transform float32 {wanted}")


def explain(start: Recipe, items: Sequence[Any], results: Sequence[Array]) -> tuple[Recipe, float]:
    """The recipe that comes nearest to ``results``, and how far off it is (rms, levels).

    Of recipes that are equally near, the one with the fewest differences from ``start``.
    """
    bench = _Bench([Picture(item) for item in items], results)
    best = bench.fitted(start)
    if best[1] > _BETTER:
        for decode in DECODERS:  # a turned picture would make nonsense of all that follows
            other = bench.fitted(replace(start, decode=decode))
            best = other if other[1] * _TELLING < best[1] else best
        first = _Bench([bench.pictures[0]], results[:1], _STRIDE)
        around = enumerate(_spatial(replace(start, decode=best[0].decode)))
        ranked = sorted((first.fitted(r)[1], _changes(start, r), n, r) for n, r in around)
        near = [r for error, _, _, r in ranked if error <= ranked[0][0] + _BETTER][:_NEAREST]
        for recipe in near:
            best = _nearer(start, best, bench.fitted(recipe))
    for _ in range(3):
        before = best
        for recipe in _one_step(best[0], start):
            best = _nearer(start, best, bench.fitted(recipe))
        if best is before:
            break
    return best


class _Bench:
    """Holds recipes against results; those that give the same pixels are tried once."""

    def __init__(self, pictures: Sequence[Picture], results: Sequence[Array], stride: int = 1) -> None:
        self.pictures = pictures
        self._stride = stride
        self._wanted = np.concatenate([self._flat(r.transpose(1, 2, 0)) for r in results])
        self._known: dict[tuple[Any, ...], tuple[Recipe, float]] = {}

    def _flat(self, array: Array) -> Array:
        thin = array[:: self._stride, :: self._stride]
        return thin.reshape(-1, thin.shape[2]).astype(np.float64)

    def fitted(self, recipe: Recipe) -> tuple[Recipe, float]:
        """With the channel order, gain and offset that suit best, and the rms distance in levels that is left."""
        try:
            key = tuple(p.key(recipe) for p in self.pictures)
            if key not in self._known:
                pixels = np.concatenate([self._flat(p.levels(recipe)) for p in self.pictures])
                self._known[key] = _fitted(recipe, pixels, self._wanted)
        except BadInput:
            return recipe, math.inf
        found, error = self._known[key]
        return replace(recipe, order=found.order, gain=found.gain, offset=found.offset), error


def _nearer(start: Recipe, one: tuple[Recipe, float], other: tuple[Recipe, float]) -> tuple[Recipe, float]:
    if abs(one[1] - other[1]) <= _BETTER:
        return min(one, other, key=lambda found: (_changes(start, found[0]), found[1]))
    return min(one, other, key=lambda found: found[1])


def _changes(start: Recipe, recipe: Recipe) -> int:
    names = ("decode", "fit", "scale", "kernel", "antialias", "crop", "order")
    return sum(getattr(start, name) != getattr(recipe, name) for name in names)


def _spatial(start: Recipe) -> Iterator[Recipe]:
    """Everything that moves or mixes pixels, with the training decoder."""
    for (fit, scale), (kernel, antialias), crop in itertools.product(_sizes(start), _kernels(), CROPS):
        yield replace(start, fit=fit, scale=scale, kernel=kernel, antialias=antialias, crop=crop)


def _sizes(start: Recipe) -> list[tuple[str, tuple[int, int]]]:
    scales = [start.scale]
    for height, width in ((start.out[0] / f, start.out[1] / f) for f in _FRACTIONS):
        scales += [(math.floor(height), math.floor(width)), (round(height), round(width))]
    fits = [start.fit, *FITS]
    return list(dict.fromkeys((fit, scale) for scale in scales for fit in fits))


def _kernels() -> list[tuple[str, bool]]:
    return [(k, True) for k in KERNELS] + [(k, False) for k in SHARP]


def _one_step(recipe: Recipe, start: Recipe) -> Iterator[Recipe]:
    yield from (replace(recipe, decode=d) for d in DECODERS)
    yield from (replace(recipe, fit=f, scale=s) for f, s in _sizes(start))
    yield from (replace(recipe, kernel=k, antialias=a) for k, a in _kernels())
    yield from (replace(recipe, crop=c) for c in CROPS)


def _fitted(recipe: Recipe, pixels: Array, wanted: Array) -> tuple[Recipe, float]:
    found: tuple[Recipe, float] = (recipe, math.inf)
    for order in _orders(recipe):
        fits = [_line(pixels[:, source], wanted[:, place]) for place, source in enumerate(order)]
        error = math.sqrt(sum(f[2] ** 2 for f in fits) / len(fits))
        if error < found[1] - _BETTER:
            gain, offset = tuple(f[0] for f in fits), tuple(f[1] for f in fits)
            found = replace(recipe, order=order, gain=gain, offset=offset), error
    return found


def _orders(recipe: Recipe) -> list[tuple[int, ...]]:
    if recipe.channels != 3:
        return [recipe.order]
    return list(dict.fromkeys([recipe.order, (0, 1, 2), (2, 1, 0)]))


def _line(x: Array, y: Array) -> tuple[float, float, float]:
    """Least squares y ≈ gain·x + offset, and the rms of what is left over the gain."""
    spread = float(np.var(x))
    gain = float(np.mean((x - x.mean()) * (y - y.mean()))) / spread if spread else 0.0
    if not gain > 0 or not math.isfinite(gain):
        return 1.0, 0.0, math.inf
    offset = float(y.mean() - gain * x.mean())
    return gain, offset, float(np.sqrt(np.mean((y - gain * x - offset) ** 2))) / gain


def _differs(step: str, training: Recipe, best: tuple[Recipe, float]) -> bool:
    found, unexplained = best
    if step != "normalise":
        return any(getattr(training, name) != getattr(found, name) for name in _FIELDS.get(step, (step,)))
    both = zip(training.gain, training.offset, found.gain, found.offset, strict=True)
    ends = (((a * v + b) - (c * v + d)) / a for a, b, c, d in both for v in (0, 255))
    return max(abs(e) for e in ends) > 2 * max(CLOSE, unexplained)


def _needed(step: str, training: Recipe, found: Recipe, bench: _Bench) -> bool:
    """Whether doing this step as in training would explain clearly less: what a blur has moved a little is no step."""
    if step in ("order", "normalise"):  # told by the fit itself
        return True
    back = replace(found, **{name: getattr(training, name) for name in _FIELDS.get(step, (step,))})
    return bench.fitted(back)[1] > _TELLING * bench.fitted(found)[1] + _BETTER


def _difference(
    step: str, training: Recipe, found: Recipe, items: Sequence[Any], own: Sequence[Array]
) -> StepDifference:
    names = _FIELDS.get(step, (step,))
    alone = replace(training, **{name: getattr(found, name) for name in names})
    scale = 1 / np.abs(np.array(training.gain))[:, None, None]
    plain = [_normalised(training, pixels) for pixels in own]
    apart = [np.abs(apply(alone, item) - before) * scale for item, before in zip(items, plain, strict=True)]
    mean, largest = float(np.mean([d.mean() for d in apart])), float(max(d.max() for d in apart))
    return StepDifference(step, training.said(step), found.said(step), mean, largest, alone)


def _normalised(recipe: Recipe, pixels: Array) -> Array:
    chosen = pixels[:, :, list(recipe.order)] if recipe.channels > 1 else pixels
    return np.asarray((chosen * np.array(recipe.gain) + np.array(recipe.offset)).transpose(2, 0, 1))
