"""Requests that are run together."""

from __future__ import annotations

from dataclasses import dataclass

from assay.batching.request import Request
from assay.core.units import Seconds


@dataclass(eq=False, slots=True)
class Batch:
    """Requests started together: ``rows`` rows, padded to ``size``.  ``number`` counts batches from 0.

    ``alone``: nothing else runs beside it, because nothing waited or what waited waits for it (``OneByOne``).
    ``apart``: it was run by the session for such batches, whose durations say nothing about t(b) under load.
    """

    requests: list[Request]
    rows: int
    size: int
    number: int
    started_s: Seconds
    predicted_s: Seconds
    alone: bool = False
    apart: bool = False
