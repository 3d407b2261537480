"""Error measures between two sets of outputs.  Pure; accumulates in float64.

Definitions, for reference r and candidate c over all elements of one output:

* ``max_abs``, ``mean_abs``: of \\|c − r\\|.
* ``max_rel``: of \\|c − r\\| / max(\\|r\\|, floor), the floor being 1e-6 of r's root mean square
  so that zeros in r do not decide; ``mean_rel`` likewise.  Where r is zero throughout: 0 or infinity.
* ``cosine``: r·c / (‖r‖ ‖c‖); 1 when both are zero.
* ``snr_db``: 10 log10(Σr² / Σ(c − r)²); infinite when equal.
* ``top1_agreement``: the share of rows whose largest element along the last axis is the same
  one; only for outputs of rank 2 with at least two columns.
* ``worst_row``: the largest relative rms error of one row (first axis), against the rms of all rows,
  and ``worst_row_index`` which row that is; rows with NaN or infinity come first.
* ``abs_quantiles``, ``rel_quantiles`` (p50, p90, p99, p999), ``histogram``: see ``core.spread``.
* ``hull``: what ``excess(atol, rtol)`` is read from, exactly, for any limits named afterwards.
* ``psnr_db``, ``dice``, ``kl_mean``, ``kl_max``, ``top5_agreement``: see ``core.meaning``; None where
  the output's shape says that they would mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from assay.core.meaning import Meaning
from assay.core.spread import Hull, Spread
from assay.core.tensors import Array

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


@dataclass(frozen=True)
class Measures:
    """What is to be said of one output.  ``n`` is the number of elements compared."""

    n: int
    max_abs: float
    mean_abs: float
    max_rel: float
    mean_rel: float
    cosine: float
    snr_db: float
    rms_reference: float
    bad_reference: int
    bad_candidate: int
    top1_agreement: float | None = None
    rows: int | None = None
    worst_row: float = 0.0
    worst_row_index: int | None = None
    abs_quantiles: Mapping[str, float] = field(default_factory=dict)
    rel_quantiles: Mapping[str, float] = field(default_factory=dict)
    histogram: tuple[tuple[int, int], ...] = ()
    equal: int = 0
    hull: tuple[tuple[float, float], ...] = ()
    nan_reference: int = 0
    nan_candidate: int = 0
    denormal_reference: int = 0
    denormal_candidate: int = 0
    bad_rows: tuple[int, ...] = ()
    psnr_db: float | None = None
    dice: float | None = None
    kl_mean: float | None = None
    kl_max: float | None = None
    top5_agreement: float | None = None

    @property
    def relative_rms(self) -> float:
        """Root mean square of the error over that of the reference, 10^(−SNR/20): 0 when equal."""
        try:
            return 10.0 ** (-self.snr_db / 20) if self.snr_db > -math.inf else math.inf
        except OverflowError:
            return math.inf

    def excess(self, atol: float, rtol: float) -> float:
        """The largest \\|c − r\\| − (atol + rtol·\\|r\\|): zero or less is exactly numpy's ``allclose``.

        Infinite where any value was NaN or infinite; −infinity where nothing was compared.
        """
        if self.bad_reference or self.bad_candidate:
            return math.inf
        return excess(self.hull, atol, rtol)

    def to_json(self) -> dict[str, Any]:
        data = {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in asdict(self).items()}
        return {**data, "histogram": [list(p) for p in self.histogram], "hull": [list(p) for p in self.hull]}


def excess(hull: Any, atol: float, rtol: float) -> float:
    """``Measures.excess`` for a hull read back from JSON (pairs of \\|r\\| and \\|c − r\\|)."""
    return max((e - rtol * r - atol for r, e in hull), default=-math.inf)


class Accumulator:
    """Compares one output batch by batch without keeping the batches."""

    def __init__(self) -> None:
        self._n = 0
        self._rows = 0
        self._agree = 0
        self._classified = False
        self._max_abs = self._sum_abs = self._max_rel = self._sum_rel = 0.0
        self._rr = self._cc = self._rc = self._ee = 0.0
        self._bad_r = self._bad_c = self._nan_r = self._nan_c = self._tiny_r = self._tiny_c = 0
        self._seen_rows = 0
        self._bad_rows: list[int] = []
        self._row_errors: list[Array] = []
        self._absolute, self._relative, self._hull = Spread(), Spread(), Hull()
        self._meaning = Meaning()

    @np.errstate(over="ignore", invalid="ignore")  # what leaves the range of float64 is infinitely large
    def add(self, reference: Array, candidate: Array) -> None:
        """Add a pair of arrays of numbers of equal shape (ValueError otherwise)."""
        if reference.shape != candidate.shape:
            raise ValueError(f"shapes differ: {reference.shape} and {candidate.shape}")
        self._tiny_r += _denormals(reference)
        self._tiny_c += _denormals(candidate)
        r = reference.astype(np.float64, copy=False)
        c = candidate.astype(np.float64, copy=False)
        self._count_top1(r, c)
        good_r, good_c = np.isfinite(r), np.isfinite(c)
        both = good_r & good_c
        whole = bool(both.all())
        if not whole:
            self._count_bad((r, c), (good_r, good_c))
        error = _wide_errors(reference, candidate)
        if error is None:
            error = np.abs(c - r) if whole else np.abs(np.where(both, c, 0.0) - np.where(both, r, 0.0))
        self._add_rows(error)
        if whole:
            self._meaning.add(r, c)
        self._n += int(both.sum())
        if both.any():
            self._add_finite(*((a.ravel() for a in (r, c, error)) if whole else (r[both], c[both], error[both])))

    def _add_finite(self, r: Array, c: Array, error: Array) -> None:
        """Flat, finite values and \\|c − r\\|."""
        size = np.abs(r)
        rr = float(np.dot(r, r))
        floor = 1e-6 * math.sqrt(rr / r.size) if rr < math.inf else 1e-6 * float(size.max())
        # A reference of zeros has no scale: any error at all is then infinitely large.
        relative = error / np.maximum(size, floor) if floor else np.where(error > 0, np.inf, 0.0)
        self._max_abs = max(self._max_abs, float(error.max()))
        self._sum_abs += float(error.sum())
        self._max_rel = max(self._max_rel, float(relative.max()))
        self._sum_rel += float(relative.sum())
        self._rr += rr
        self._cc += float(np.dot(c, c))
        self._rc += float(np.dot(r, c))
        self._ee += float(np.dot(error, error))
        self._absolute.add(error)
        self._relative.add(relative)
        self._hull.add(size, error)

    def _count_bad(self, values: tuple[Array, Array], good: tuple[Array, Array]) -> None:
        (r, c), (good_r, good_c) = values, good
        self._bad_r += int(r.size - good_r.sum())
        self._bad_c += int(c.size - good_c.sum())
        self._nan_r += int(np.isnan(r).sum())
        self._nan_c += int(np.isnan(c).sum())
        if r.ndim:
            rows = (good_r & good_c).reshape(len(r), -1).all(1)
            self._bad_rows += [self._seen_rows + int(i) for i in np.flatnonzero(~rows)[:10]]

    def _add_rows(self, error: Array) -> None:
        """The mean squared error of every row; 0 stands where one of the two was NaN or infinite."""
        if not error.ndim or not error.size:
            return
        rows = error.reshape(len(error), -1)
        self._row_errors.append(np.einsum("ij,ij->i", rows, rows) / rows.shape[1])
        self._seen_rows += len(rows)

    def _count_top1(self, r: Array, c: Array) -> None:
        if r.ndim != 2 or r.shape[1] < 2:
            return
        self._classified = True
        self._rows += r.shape[0]
        self._agree += int((r.argmax(1) == c.argmax(1)).sum())

    def measures(self) -> Measures:
        n = max(self._n, 1)
        norm = math.sqrt(self._rr * self._cc)
        both_zero = self._rr == self._cc == 0.0
        rms = math.sqrt(self._rr / n)
        row, index = self._worst_row(rms)
        return Measures(
            n=self._n,
            max_abs=self._max_abs,
            mean_abs=self._sum_abs / n,
            max_rel=self._max_rel,
            mean_rel=self._sum_rel / n,
            cosine=1.0 if both_zero else (self._rc / norm if norm else 0.0),
            snr_db=_snr(self._rr, self._ee),
            rms_reference=rms,
            bad_reference=self._bad_r,
            bad_candidate=self._bad_c,
            top1_agreement=self._agree / self._rows if self._classified and self._rows else None,
            rows=self._rows if self._classified else None,
            worst_row=row,
            worst_row_index=index,
            abs_quantiles={name: self._absolute.quantile(q) for name, q in QUANTILES.items()} if self._n else {},
            rel_quantiles={name: self._relative.quantile(q) for name, q in QUANTILES.items()} if self._n else {},
            histogram=self._absolute.histogram(),
            equal=self._absolute.zeros,
            hull=self._hull.points(),
            nan_reference=self._nan_r,
            nan_candidate=self._nan_c,
            denormal_reference=self._tiny_r,
            denormal_candidate=self._tiny_c,
            bad_rows=tuple(self._bad_rows[:10]),
            **self._meaning.found(self._ee / n),
        )

    def _worst_row(self, rms: float) -> tuple[float, int | None]:
        if not self._row_errors:
            return 0.0, None
        errors = np.concatenate(self._row_errors)
        index = self._bad_rows[0] if self._bad_rows else int(errors.argmax())
        worst = math.sqrt(float(errors.max()))
        return (worst / rms if rms else (math.inf if worst else 0.0)), index


def _wide_errors(reference: Array, candidate: Array) -> Array | None:
    """\\|c − r\\| of 64-bit integers, which float64 does not tell apart beyond 2^53; None for any others."""
    dtype = reference.dtype
    if dtype != candidate.dtype or dtype.kind not in "iu" or dtype.itemsize < 8:
        return None
    a, b = reference.astype(np.uint64), candidate.astype(np.uint64)  # their differences are right modulo 2^64
    return np.asarray(np.where(candidate >= reference, b - a, a - b), np.float64)


def _denormals(array: Array) -> int:
    """How many values lie below the format's smallest normal number, zero aside."""
    try:
        tiny = float(ml_dtypes.finfo(array.dtype).smallest_normal)
    except ValueError:  # not a float format
        return 0
    size = np.abs(array)
    return int(((size < tiny) & (size > 0)).sum())


def _snr(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    ratio = signal / noise  # 0 where it is too small for a float64, NaN where both are infinite
    return 10 * math.log10(ratio) if ratio > 0.0 else -math.inf


def compare(reference: Mapping[str, Array], candidate: Mapping[str, Array]) -> dict[str, Measures]:
    """Measures per output, matched by name.  Raises ValueError for differing names or shapes."""
    if set(reference) != set(candidate):
        raise ValueError(f"outputs differ: {sorted(reference)} and {sorted(candidate)}")
    found = {}
    for name, array in reference.items():
        accumulator = Accumulator()
        accumulator.add(array, candidate[name])
        found[name] = accumulator.measures()
    return found
