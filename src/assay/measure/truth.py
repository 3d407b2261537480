"""The truth, the noise floor and what a number format costs: everything an error is to be split by.

The truth is the reference run in float64.  The fp32 reference's own distance from it is the noise
floor; the candidate's distance is what has to be explained.  What the candidate's format *must* cost is
measured on this very network: the reference with that format's rounding put in, its sums in random
orders, against the truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from assay.core.compare import Accumulator, Measures
from assay.core.engine import Session
from assay.core.errors import AssayError
from assay.core.tensors import Array, Feed, Signature
from assay.measure.observe import Observed, Outputs

SEEDS = (1, 2)


class Arithmetic(Protocol):
    """The reference in exact arithmetic, and with a format's rounding put in."""

    def exact(self, feed: Feed) -> Outputs: ...

    def rounded(self, feed: Feed, precision: str, seed: int) -> Outputs: ...


class Truth:
    """Exact outputs, computed once per row and shared by all batch sizes and orders.

    A model whose rows cannot be told apart (a static batch, an unbatched output) is computed once per
    feed instead.
    """

    def __init__(self, exact: Callable[[Feed], Outputs], signature: Signature) -> None:
        self._exact = exact
        self._signature = signature
        self._by_row = signature.is_batched and signature.static_batch is None
        self._known: dict[bytes, dict[str, Array]] = {}

    def __call__(self, feed: Feed) -> dict[str, Array]:
        """Raises whatever the exact arithmetic raises."""
        if not self._by_row:
            key = _digest(feed)
            if key not in self._known:
                self._known[key] = dict(self._exact(feed))
            return self._known[key]
        rows = [self._row(feed, i) for i in range(self._signature.batch_of(feed))]
        keys = [_digest(row) for row in rows]
        new = {key: index for index, key in enumerate(keys) if key not in self._known}
        if new:
            self._compute(feed, new)
        return {
            spec.name: np.concatenate([self._known[key][spec.name] for key in keys], _axis(spec.batch_axis))
            for spec in self._signature.outputs
        }

    def _row(self, feed: Feed, index: int) -> dict[str, Array]:
        return {s.name: _take(feed[s.name], [index], s.batch_axis) for s in self._signature.inputs}

    def _compute(self, feed: Feed, new: Mapping[bytes, int]) -> None:
        """All unknown rows in one call."""
        places = list(new.values())
        wanted = {s.name: _take(feed[s.name], places, s.batch_axis) for s in self._signature.inputs}
        found = self._exact(wanted)
        for place, key in enumerate(new):
            self._known[key] = {
                s.name: np.array(_take(found[s.name], [place], s.batch_axis)) for s in self._signature.outputs
            }


def _axis(axis: int | None) -> int:
    return 0 if axis is None else axis


def _take(array: Array, places: Sequence[int], axis: int | None) -> Array:
    return array if axis is None else np.asarray(array.take(places, axis))


def _digest(feed: Mapping[str, Array]) -> bytes:
    sha = hashlib.sha256()
    for name in sorted(feed):
        array = feed[name]
        content = repr(array.tolist()).encode() if array.dtype == object else np.ascontiguousarray(array).tobytes()
        sha.update(f"{name}{array.dtype}{array.shape}".encode() + content)
    return sha.digest()


@dataclass(frozen=True)
class Cost:
    """For one output, as relative rms against the truth: the reference's own error (``floor``) and what the
    format costs over all draws (``format``), with the worst single row of either."""

    floor: float
    floor_row: float
    format: float
    format_row: float

    def to_json(self) -> dict[str, float | None]:
        return {k: (v if np.isfinite(v) else None) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Split:
    """What a comparison with the truth gave.

    ``candidate`` holds the candidate's measures against the truth per batch size and output, ``costs``
    the due per output; ``missing`` says why there is no truth, or no cost, and then what depends on it is
    empty.  ``rows`` and ``draws`` say what the cost was measured on.  ``quantised`` stands in place of ``costs`` where
    the candidate's own scales could be read (measure/quantised.py).
    """

    precision: str
    candidate: Mapping[int, Mapping[str, Measures]] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    missing: str | None = None
    rows: int = 0
    draws: int = 0
    quantised: Any = None

    def to_json(self) -> dict[str, Any]:
        outputs = {str(b): {n: _brief(m) for n, m in found.items()} for b, found in self.candidate.items()}
        return {
            "precision": self.precision,
            "candidate_against_truth": outputs,
            "costs": {n: c.to_json() for n, c in self.costs.items()},
            "missing": self.missing,
            "rows": self.rows,
            "draws": self.draws,
            **({"quantised": self.quantised.to_json()} if self.quantised is not None else {}),
        }


def _brief(m: Measures) -> dict[str, float | None]:
    return {"relative_rms": _finite(m.relative_rms), "worst_row": _finite(m.worst_row)}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


class Tally:
    """Looks on while two sessions are compared, and holds both against the truth."""

    def __init__(self, truth: Truth | None, why: str | None = None) -> None:
        self._truth = truth
        self._why = None if truth else (why or "there is no exact run of the reference")
        self._reference: dict[str, Accumulator] = {}
        self._candidate: dict[int, dict[str, Accumulator]] = {}
        self._signature: Signature | None = None

    def reference(self, session: Session) -> Observed:
        return Observed(session, lambda feed, outputs: self._look(feed, outputs, self._reference))

    def candidate(self, session: Session) -> Observed:
        self._signature = session.signature

        def look(feed: Feed, outputs: Outputs) -> None:
            self._look(feed, outputs, self._candidate.setdefault(session.signature.batch_of(feed), {}))

        return Observed(session, look)

    def _look(self, feed: Feed, outputs: Outputs, into: dict[str, Accumulator]) -> None:
        if self._truth is None:
            return
        try:
            exact = self._truth(feed)
        except AssayError as error:
            self._truth, self._why = None, error.message
            return
        for name, array in outputs.items():
            if name in exact and exact[name].shape == array.shape and array.dtype != object:
                into.setdefault(name, Accumulator()).add(exact[name], array)

    def errors(self, precision: str, feeds: Sequence[Feed], quantised: Any) -> Split:
        """The candidate's errors against the truth, beside costs that were measured elsewhere (``quantised``)."""
        candidate = {b: {n: a.measures() for n, a in found.items()} for b, found in self._candidate.items()}
        return Split(precision, candidate, {}, self._why, self._rows(feeds), len(SEEDS), quantised)

    def split(self, arithmetic: Arithmetic | None, precision: str, feeds: Sequence[Feed]) -> Split:
        """``feeds`` are what the format's cost is measured on; call it when the comparison is done."""
        if self._truth is None or arithmetic is None:
            return Split(precision, missing=self._why or "there is no exact run of the reference")
        candidate = {b: {n: a.measures() for n, a in found.items()} for b, found in self._candidate.items()}
        floors = {n: a.measures() for n, a in self._reference.items()}
        try:
            drawn = self._draw(arithmetic, precision, feeds)
        except AssayError as error:
            return Split(precision, candidate, missing=f"what {precision} costs could not be measured: {error.message}")
        costs = {
            n: Cost(
                floors[n].relative_rms,
                floors[n].worst_row,
                max((m.relative_rms for m in found), default=0.0),
                max((m.worst_row for m in found), default=0.0),
            )
            for n, found in drawn.items()
            if n in floors
        }
        return Split(precision, candidate, costs, None, self._rows(feeds), len(SEEDS))

    def _rows(self, feeds: Sequence[Feed]) -> int:
        return 0 if self._signature is None else sum(self._signature.batch_of(feed) for feed in feeds)

    def _draw(self, arithmetic: Arithmetic, precision: str, feeds: Sequence[Feed]) -> dict[str, list[Measures]]:
        assert self._truth is not None
        found: dict[str, list[Measures]] = {}
        for seed in SEEDS:
            sums: dict[str, Accumulator] = {}
            for feed in feeds:
                exact = self._truth(feed)
                for name, array in arithmetic.rounded(feed, precision, seed).items():
                    if array.dtype != object:
                        sums.setdefault(name, Accumulator()).add(exact[name], array)
            for name, accumulator in sums.items():
                found.setdefault(name, []).append(accumulator.measures())
        return found
