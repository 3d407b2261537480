"""Measures that suit what an output is, told by its shape; streamed and pure.

* ``psnr_db`` for images, shape (n, 1 or 3, h, w): 10 log10(span² / mean squared error), the span being
  the reference's largest minus its smallest value.
* ``dice`` for masks, shape (n, classes, h, w) or (n, classes, d, h, w): every pixel's class is its largest
  channel (one channel: above ½ where all of the reference's are probabilities, else above 0), and the score is the
  mean of 2·|A ∩ B| / (|A| + |B|) over the classes that occur.
* ``kl_mean``, ``kl_max`` for rows of scores, shape (n, classes): KL(reference ‖ candidate) in nats; rows that
  are no distributions are made into ones by softmax.
* ``top5_agreement``, shape (n, more than 5): the mean share of the reference's five largest that are among
  the candidate's five largest.
"""

from __future__ import annotations

import math

import numpy as np

from assay.core.tensors import Array

_MOST_CLASSES = 256


class Meaning:
    """Accumulates what suits an output; it keeps its shape from batch to batch, but for the rows."""

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf
        self._overlap: Array = np.zeros(0)
        self._sizes: Array = np.zeros(0)
        self._divergences: list[Array] = []
        self._top5: list[Array] = []

    def add(self, r: Array, c: Array) -> None:
        """Finite float64 arrays of equal shape."""
        if not r.size:
            return
        if r.ndim == 4 and r.shape[1] in (1, 3):
            self._low, self._high = min(self._low, float(r.min())), max(self._high, float(r.max()))
        if r.ndim in (4, 5) and r.shape[1] <= _MOST_CLASSES:
            above = 0.5 if _are_probabilities(r) else 0.0  # of both: rounding may push one of the candidate's past 1
            self._add_masks(_classes(r, above), _classes(c, above), max(r.shape[1], 2))
        if r.ndim == 2 and r.shape[1] >= 2:
            self._divergences.append(_divergence(r, c))
            if r.shape[1] > 5:
                a, b = np.argpartition(r, -5, 1)[:, -5:], np.argpartition(c, -5, 1)[:, -5:]
                self._top5.append((a[:, :, None] == b[:, None, :]).any(2).mean(1))

    def _add_masks(self, a: Array, b: Array, count: int) -> None:
        overlap = np.bincount(a[a == b].ravel(), minlength=count)
        sizes = np.bincount(a.ravel(), minlength=count) + np.bincount(b.ravel(), minlength=count)
        if self._sizes.size == count:
            self._overlap, self._sizes = self._overlap + overlap, self._sizes + sizes
        else:
            self._overlap, self._sizes = overlap, sizes

    def found(self, mean_squared_error: float) -> dict[str, float | None]:
        span = self._high - self._low
        psnr = None
        if span > 0:
            psnr = 10 * math.log10(span * span / mean_squared_error) if mean_squared_error else math.inf
        present = self._sizes > 0
        dice = float((2 * self._overlap[present] / self._sizes[present]).mean()) if present.any() else None
        kl = np.concatenate(self._divergences) if self._divergences else None
        return {
            "psnr_db": psnr,
            "dice": dice,
            "kl_mean": None if kl is None else float(kl.mean()),
            "kl_max": None if kl is None else float(kl.max()),
            "top5_agreement": float(np.concatenate(self._top5).mean()) if self._top5 else None,
        }


def _are_probabilities(scores: Array) -> bool:
    return bool(scores.min() >= 0 and scores.max() <= 1)


def _classes(scores: Array, above: float) -> Array:
    if scores.shape[1] > 1:
        return np.asarray(scores.argmax(1))
    return (scores[:, 0] > above).astype(np.int64)


def _divergence(r: Array, c: Array) -> Array:
    if all(bool((x >= 0).all()) and bool(np.allclose(x.sum(1), 1, atol=1e-3)) for x in (r, c)):
        p, q = r / r.sum(1, keepdims=True), c / c.sum(1, keepdims=True)
        with np.errstate(divide="ignore"):
            log_p, log_q = np.log(p), np.log(q)
    else:
        log_p, log_q = _log_softmax(r), _log_softmax(c)
        p = np.exp(log_p)
    with np.errstate(invalid="ignore"):  # 0 · ∞ where neither has any mass: not counted
        terms = np.where(p > 0, p * (np.where(p > 0, log_p, 0.0) - log_q), 0.0)
    return np.asarray(np.maximum(terms.sum(1), 0.0))


def _log_softmax(x: Array) -> Array:
    shifted = x - x.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
