"""The exported file against PyTorch at several sizes: is it equal, and is what should be free really free?

An exporter may quietly write the example's size into the graph; then the file runs at that size
only, or worse, gives other numbers elsewhere.  So every free dim is run at further sizes.

Tolerance, on the root-mean-square error relative to the reference's root mean square: two correct
fp32 implementations differ by the rounding of their sums, about sqrt(K)·2**-24 per layer with dot
products of K terms, growing with the square root of the depth (Higham, *Accuracy and Stability of
Numerical Algorithms*, §4.2).  K = 4608 (a 3x3 convolution over 512 channels) and 100 layers give
4e-5; 1e-4 leaves a factor of two.  For narrower formats it is 32 units of roundoff.  A model that
loses more than that in PyTorch itself is held to what it amplifies rounding by (conditioning.py), as long as that
stays below one percent; above, the failure names that and not the size it was seen at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.compare import Accumulator, Measures
from assay.core.errors import BadInput, ExportFailed
from assay.core.tensors import Array, Feed
from assay.export.conditioning import Sides, conditioning
from assay.export.inputs import InputPlan
from assay.export.options import ExportOptions
from assay.export.reference import Reference, name_outputs, unit_roundoff
from assay.graph.arithmetic import RunOnnx
from assay.graph.feeds import draw_feed
from assay.graph.signature import read_signature

TOLERANCE = 1e-4
BATCHES = (2, 1, 5)
_ROUNDOFFS = 32
_MOST_LOSS = 1e-2
"""A model whose correct float32 results differ by more than this cannot be shown equal to anything."""
_INTEGER_SHARE = 1e-3
"""Integer outputs such as an argmax may flip where two scores are equal but for rounding."""
_GUESSES = (64, 32, 224, 16, 12, 128, 8, 256)


@dataclass(frozen=True)
class Trial:
    """One feed with PyTorch's outputs; ``dim`` is the free dim it is there to vary, None for the base."""

    dim: str | None
    sizes: Mapping[str, int]
    feed: Feed
    reference: Mapping[str, Array]


@dataclass(frozen=True)
class DimProof:
    """A free dim, the sizes at which file and PyTorch were compared, and the largest relative error there."""

    name: str
    sizes: tuple[int, ...]
    error: float

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "sizes": list(self.sizes), "error": self.error}


class Specialised(ExportFailed):
    """The exporter fixed a dim that was to be free."""


def make_trials(reference: Reference, options: ExportOptions) -> tuple[Trial, ...]:
    """Feeds at all sizes, the base first, with PyTorch's outputs.

    Raises BadInput when the module itself does not accept the sizes that were asked to be free.
    """
    plan = reference.plan
    base = _base_sizes(reference, options)
    found = tuple(reference.run(_feed(plan, options, base, 0)))
    reference.names = name_outputs(found, options.output_names, [s.name for s in plan.specs])
    trials = [_trial(reference, options, None, base, 0)]
    if plan.batch_name is None:
        trials.append(_trial(reference, options, None, base, 1))
    else:
        for index, batch in enumerate(BATCHES[1:], 1):
            sizes = {**base, plan.batch_name: batch}
            try:
                trials.append(_trial(reference, options, plan.batch_name, sizes, index))
            except BadInput as error:
                raise BadInput(
                    f"the batch cannot be free: {error.message}", remedy="export a fixed batch with --batch 1"
                ) from error
    for dim in plan.free_dims:
        trials += _further(reference, options, dim, base, len(trials))
    return tuple(trials)


def _base_sizes(reference: Reference, options: ExportOptions) -> dict[str, int]:
    """Example sizes of all free dims; guessed, the same for all, where neither user nor source says."""
    plan = reference.plan
    fixed = {d: plan.known[d] for d in plan.free_dims if d in plan.known}
    if plan.batch_name is not None:
        fixed[plan.batch_name] = plan.batch
    unknown = [d for d in plan.free_dims if d not in fixed]
    refused = None
    for guess in _GUESSES if unknown else (0,):
        sizes = {**fixed, **dict.fromkeys(unknown, guess)}
        try:
            reference.run(_feed(plan, options, sizes, 0))
        except BadInput as error:
            refused = refused or error
        else:
            return sizes
    assert refused is not None
    if unknown:
        raise BadInput(
            f"no size was found that the model accepts for {', '.join(unknown)}; {refused.message}",
            remedy=f"give an example, such as --opt-shape with a number in place of {unknown[0]}",
        )
    raise refused


def _further(
    reference: Reference, options: ExportOptions, dim: str, base: Mapping[str, int], index: int
) -> list[Trial]:
    """Two more sizes of one free dim, among those the module accepts."""
    size = base[dim]
    candidates = dict.fromkeys((size + 1, size * 2, size + size // 2, size + 32, size // 2, size + 8))
    found: list[Trial] = []
    for candidate in candidates:
        if candidate < 1 or candidate == size or len(found) == 2:
            continue
        try:
            found.append(_trial(reference, options, dim, {**base, dim: candidate}, index + len(found)))
        except BadInput as error:
            refused = error
    if not found:
        raise BadInput(
            f"the dim {dim!r} cannot be free, PyTorch accepts only {size} of the sizes tried: {refused.message}",
            remedy=f"write {size} in place of {dim}",
        )
    return found


def _trial(
    reference: Reference, options: ExportOptions, dim: str | None, sizes: Mapping[str, int], index: int
) -> Trial:
    feed = _feed(reference.plan, options, sizes, index)
    outputs = reference.run(feed)
    for name, array in outputs.items():
        if unit_roundoff(array) is not None and not np.isfinite(array.astype(np.float64)).all():
            raise ExportFailed(
                f"PyTorch's own output {name!r} has NaN or infinite values, so nothing can be compared with it",
                remedy="bound the drawn inputs with --range NAME:LOW..HIGH, or check the weights",
            )
    return Trial(dim, dict(sizes), feed, outputs)


def _feed(plan: InputPlan, options: ExportOptions, sizes: Mapping[str, int], index: int) -> dict[str, Array]:
    batch = sizes.get(plan.batch_name, plan.batch) if plan.batch_name is not None else plan.batch
    ranges = {name: (low, high) for name, low, high in options.ranges}
    fixed = {s.batch for s in plan.specs if isinstance(s.batch, int)}
    return draw_feed(plan.specs, fixed.pop() if fixed else batch, options.seed + index, ranges, sizes)


def prove(
    path: Path, trials: Sequence[Trial], reference: Reference, run: RunOnnx, extra: Feed | None = None
) -> tuple[dict[str, Measures], tuple[DimProof, ...], list[str]]:
    """Compare at every trial; give back measures per output, a proof per free dim, and notes.

    ``extra`` is fed besides (weights that became inputs).  Raises ExportFailed naming output and
    figures, Specialised when only a size other than the example's fails.
    """
    present = set(read_signature(path).input_names)
    totals: dict[str, Accumulator] = {}
    errors: dict[int, float] = {}
    notes: list[str] = []
    for index, trial in enumerate(trials):
        feed = {n: a for n, a in {**trial.feed, **(extra or {})}.items() if n in present}
        try:
            found = run(path, feed)
        except Exception as error:
            said = " ".join(str(error).split())[:400]
            raise _failure(trial, f"the exported file cannot be run: {type(error).__name__}: {said}") from error
        try:
            errors[index] = _compare(trial, (feed, found), totals, Sides(path, run, reference), notes)
        except ExportFailed as error:
            if not (dropped := sorted(set(trial.feed) - present)):
                raise
            said = f"input {dropped[0]!r} is not in the exported file, its example's value was written into it"
            raise Specialised(f"{said}: {error.message}", remedy="try the other exporter") from error
    proofs = []
    for dim in dict.fromkeys(t.dim for t in trials if t.dim is not None):
        rows = [(t.sizes[dim], errors[i]) for i, t in enumerate(trials) if t.dim == dim or i == 0]
        proofs.append(DimProof(dim, tuple(r[0] for r in rows), max(r[1] for r in rows)))
    return {n: a.measures() for n, a in totals.items()}, tuple(proofs), list(dict.fromkeys(notes))


def _compare(
    trial: Trial,
    ran: tuple[Feed, Mapping[str, Array]],
    totals: dict[str, Accumulator],
    sides: Sides,
    notes: list[str],
) -> float:
    """One trial; the largest relative error over its outputs.  ``ran`` is the file's feed and what it gave."""
    feed, found = ran
    missing = sorted(set(trial.reference) - set(found))
    if missing:
        raise ExportFailed(f"the exported file has no output {missing[0]!r}; it gives {', '.join(found) or 'none'}")
    worst = 0.0
    for name, expected in trial.reference.items():
        array = found[name]
        if array.shape != expected.shape:
            raise _failure(trial, f"output {name!r} has the shape {array.shape}, PyTorch's has {expected.shape}")
        if array.dtype != expected.dtype:
            raise _failure(trial, f"output {name!r} is {array.dtype}, PyTorch's is {expected.dtype}")
        if expected.size == 0:
            raise _failure(trial, f"output {name!r} is empty, so nothing was compared")
        totals.setdefault(name, Accumulator()).add(expected, array)
        one = Accumulator()
        one.add(expected, array)
        worst = max(worst, _judge(trial, name, one.measures(), (feed, array), sides, notes))
    return worst


def _judge(
    trial: Trial,
    name: str,
    measures: Measures,
    ran: tuple[Feed, Array],
    sides: Sides,
    notes: list[str],
) -> float:
    """The relative error of one output, or ExportFailed when it is not within the tolerance."""
    feed, array = ran
    expected = trial.reference[name]
    if measures.bad_reference or measures.bad_candidate:
        raise _failure(trial, f"output {name!r} has {measures.bad_candidate} NaN or infinite values")
    roundoff = unit_roundoff(expected)
    if roundoff is None:
        share = float(np.mean(expected != array))
        if share > _INTEGER_SHARE:
            raise _failure(trial, f"output {name!r} differs from PyTorch in {share:.2%} of its elements")
        if share:
            notes.append(f"output {name!r}: {share:.3%} of its integers differ from PyTorch")
        return share
    error = measures.relative_rms
    allowed = max(TOLERANCE, _ROUNDOFFS * roundoff)
    if error <= allowed:
        return error
    said = (
        f"output {name!r} differs from PyTorch: relative error {error:.2e} (allowed {allowed:.1e}), "
        f"largest absolute {measures.max_abs:.3g}"
    )
    if not np.array_equal(sides.reference.run(trial.feed)[name], expected):
        raise _failure(trial, f"{said}; PyTorch itself gives another result each time it is run")
    found = conditioning(sides, name, (trial.feed, feed), trial.reference)
    if not found.explains(error):
        raise _failure(trial, said)
    if error > _MOST_LOSS:
        raise ExportFailed(
            f"the model amplifies rounding, so the file cannot be shown equal to it, at this size or another: {said}"
            f"{_at(trial)}; {found}",
            remedy="check the weights (random ones do this); if they are right, bound the drawn inputs with "
            "--range NAME:LOW..HIGH to values the model knows",
        )
    notes.append(f"output {name!r}: relative error {error:.1e}, above {allowed:.1e}, but {found}")
    return error


def _at(trial: Trial) -> str:
    where = ", ".join(f"{d}={s}" for d, s in trial.sizes.items())
    return f" (at {where})" if where else ""


def _failure(trial: Trial, message: str) -> ExportFailed:
    at = _at(trial)
    if trial.dim is None:
        return ExportFailed(f"{message}{at}")
    return Specialised(
        f"the dim {trial.dim!r} is not free in the exported file, it was specialised: {message}{at}",
        remedy="try the other exporter, or fix this dim with a number in --shape (the batch with --batch N)",
    )


def vacuous(trials: Sequence[Trial], axes: Mapping[str, int | None]) -> list[str]:
    """Outputs that do not depend on the input: comparing them shows nothing."""
    constant = []
    for name, axis in axes.items():
        rows: dict[tuple[int, ...], list[Array]] = {}
        for trial in trials:
            array = trial.reference[name].astype(np.float64)
            parts = [array] if axis is None else np.split(array, array.shape[axis], axis)
            for part in parts:
                rows.setdefault(part.shape, []).append(part)
        groups = [np.stack(group) for group in rows.values() if len(group) > 1]
        if groups and all(np.ptp(g, 0).max() <= 1e-6 * max(np.abs(g).max(), 1e-30) for g in groups):
            constant.append(name)
    return constant
