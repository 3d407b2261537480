"""Error measures between two sets of outputs.  Pure; accumulates in float64.

Definitions, for reference r and candidate c over all elements of one output:

* ``max_abs``, ``mean_abs``: of \\|c − r\\|.
* ``max_rel``: of \\|c − r\\| / max(\\|r\\|, floor), the floor being 1e-6 of r's root mean square
  so that zeros in r do not decide; ``mean_rel`` likewise.  Where r is zero throughout: 0 or infinity.
* ``cosine``: r·c / (‖r‖ ‖c‖); 1 when both are zero.
* ``snr_db``: 10 log10(Σr² / Σ(c − r)²); infinite when equal.
* ``top1_agreement``: the share of rows whose largest element along the last axis is the same
  one; only for outputs of rank 2 with at least two columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assay.core.tensors import Array


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

    @property
    def relative_rms(self) -> float:
        """Root mean square of the error over that of the reference, 10^(−SNR/20): 0 when equal."""
        return 10 ** (-self.snr_db / 20) if self.snr_db > -math.inf else math.inf

    def to_json(self) -> dict[str, Any]:
        return {k: (None if isinstance(v, float) and not math.isfinite(v) else v) for k, v in asdict(self).items()}


class Accumulator:
    """Compares one output batch by batch without keeping the batches."""

    def __init__(self) -> None:
        self._n = 0
        self._rows = 0
        self._agree = 0
        self._classified = False
        self._max_abs = self._sum_abs = self._max_rel = self._sum_rel = 0.0
        self._rr = self._cc = self._rc = self._ee = 0.0
        self._bad_r = self._bad_c = 0

    def add(self, reference: Array, candidate: Array) -> None:
        """Add a pair of arrays of equal shape (ValueError otherwise)."""
        if reference.shape != candidate.shape:
            raise ValueError(f"shapes differ: {reference.shape} and {candidate.shape}")
        r = reference.astype(np.float64, copy=False)
        c = candidate.astype(np.float64, copy=False)
        good_r, good_c = np.isfinite(r), np.isfinite(c)
        self._bad_r += int(r.size - good_r.sum())
        self._bad_c += int(c.size - good_c.sum())
        self._count_top1(r, c)
        both = good_r & good_c
        r, c = r[both], c[both]
        self._n += r.size
        if not r.size:
            return
        error = np.abs(c - r)
        rr = float(np.dot(r.ravel(), r.ravel()))
        floor = 1e-6 * math.sqrt(rr / r.size)
        # A reference of zeros has no scale: any error at all is then infinitely large.
        relative = error / np.maximum(np.abs(r), floor) if floor else np.where(error > 0, np.inf, 0.0)
        self._max_abs = max(self._max_abs, float(error.max()))
        self._sum_abs += float(error.sum())
        self._max_rel = max(self._max_rel, float(relative.max()))
        self._sum_rel += float(relative.sum())
        self._rr += rr
        self._cc += float(np.dot(c.ravel(), c.ravel()))
        self._rc += float(np.dot(r.ravel(), c.ravel()))
        self._ee += float(np.dot(error.ravel(), error.ravel()))

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
        return Measures(
            n=self._n,
            max_abs=self._max_abs,
            mean_abs=self._sum_abs / n,
            max_rel=self._max_rel,
            mean_rel=self._sum_rel / n,
            cosine=1.0 if both_zero else (self._rc / norm if norm else 0.0),
            snr_db=_snr(self._rr, self._ee),
            rms_reference=math.sqrt(self._rr / n),
            bad_reference=self._bad_r,
            bad_candidate=self._bad_c,
            top1_agreement=self._agree / self._rows if self._classified and self._rows else None,
            rows=self._rows if self._classified else None,
        )


def _snr(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0.0 else -math.inf


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
