"""A mean over samples as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.core.record import Figure
from assay.core.stats import mean_interval


def mean_figure(values: Sequence[float], unit: str, reason: str | None = None) -> Figure:
    """The mean with its interval; ``reason`` is what there is to say about it, and too few samples for an interval are
    said as well.  Raises ValueError for no values."""
    found = mean_interval(np.asarray(values, dtype=np.float64))
    few = None if found.low is not None else f"too few samples ({found.n}) for an interval"
    said = "; ".join(filter(None, (reason, few))) or None
    confidence = None if found.low is None else found.confidence
    return Figure(found.value, unit, found.low, found.high, confidence, found.n, said)
