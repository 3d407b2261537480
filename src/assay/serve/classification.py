"""Classes out of scores: the classification extension (``value:index:label``) and answers for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from assay.core.tensors import Array
from assay.serve.errors import INVALID, ServeError


def classified(scores: Array, most: object, labels: Sequence[str] | None, *, batched: bool) -> Array:
    """The ``most`` largest of each row as ``b"value:index[:label]"``, largest first.

    Rows run along axis 0 where ``batched``; all other axes are one list.  Returns an object array of
    shape (rows, most) or (most,).  Raises ServeError (invalid) for a ``most`` that is no positive
    number and for scores that are no numbers.
    """
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ServeError(INVALID, f"the classification parameter must be a positive number of classes, not {most!r}")
    if scores.dtype == object or scores.dtype == np.bool_:
        raise ServeError(INVALID, "only an output of numbers can be classified")
    rows = scores.reshape(len(scores), -1) if batched else scores.reshape(1, -1)
    most = min(most, rows.shape[1])
    made = np.empty((len(rows), most), dtype=object)
    for row, values in enumerate(rows):
        # Like Triton: in descending order, the first of equal values first.
        best = np.argsort(-values.astype(np.float64), kind="stable")[:most]
        for column, index in enumerate(best):
            made[row, column] = _text(values[index], int(index), labels)
    return made if batched else made[0]


def _text(value: Any, index: int, labels: Sequence[str] | None) -> bytes:
    shown = f"{float(value):f}" if np.issubdtype(type(value), np.floating) or _is_bfloat(value) else str(int(value))
    label = f":{labels[index]}" if labels is not None and index < len(labels) else ""
    return f"{shown}:{index}{label}".encode()


def _is_bfloat(value: Any) -> bool:
    return type(value).__name__ == "bfloat16"


def ranked(scores: Array, most: int, labels: Sequence[str] | None) -> list[dict[str, Any]]:
    """The best classes of one row with their probabilities: the scores where they already are some, else their
    softmax.  Raises ServeError (invalid) for NaN and for scores without a largest finite one."""
    wide = scores.astype(np.float64).ravel()
    if np.isnan(wide).any():
        raise ServeError(INVALID, f"{int(np.isnan(wide).sum())} of {wide.size} scores are NaN")
    if not wide.size or not np.isfinite(wide.max()):  # a score of -inf is a class that is ruled out
        raise ServeError(INVALID, f"{wide.size} scores without a largest one that is finite have no probabilities")
    if wide.min() < 0 or abs(wide.sum() - 1) > 1e-3:
        wide = np.exp(wide - wide.max())
        wide /= wide.sum()
    best = np.argsort(-wide, kind="stable")[:most]
    named = labels if labels is not None and len(labels) == wide.size else None
    return [
        {"class": int(c), "label": None if named is None else named[c], "probability": float(wide[c])} for c in best
    ]
