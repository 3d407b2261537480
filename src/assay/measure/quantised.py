"""A quantised candidate's error in two parts: of the file against the float truth, of the engine against the file.

The scales and zero points stored in the file *are* its format.  Run exactly as they say, it is a second
truth, from which a faithful engine differs only by roundings that fall the other way.  And what the
file's own quantisers must cost is measured on them: every rounding made random, every weight moved
within its half step, and, apart, what the ends of the ranges cut off.

A quantiser whose range is much smaller than what the samples reach is *narrow*: what it cuts off is no format cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from assay.core.compare import Accumulator, Measures
from assay.core.engine import Session
from assay.core.errors import AssayError
from assay.core.tensors import Array, Feed, Signature
from assay.measure.observe import Observed, Outputs
from assay.measure.truth import SEEDS, Truth

REACH = 1.5
"""How far beyond its range a sample's largest value may lie, on average over the samples.  Quantisers that
average the samples' extremes have 1.0, and up to 1.3 on samples other than those they were calibrated on."""
CUT = 0.002
"""A quantiser that cuts off fewer values than this is not narrow, however far those lie outside: quantisers that keep a
percentile do that."""
_FLIPPED = 0.1
"""Share of the file's own rounding cost that an engine may always add: in a small network the draws may not happen to
meet a value near a tie, and the engine may."""
_ROWS = 8


class QuantisedRuns(Protocol):
    """The candidate's file; see graph.quantised_runs.QuantisedGraph."""

    def exact(self, feed: Feed) -> Outputs: ...

    def engine(self, feed: Feed, seed: int) -> Outputs: ...

    def smooth(self, feed: Feed) -> Outputs: ...

    def rounded(self, feed: Feed, seed: int) -> Outputs: ...

    def cut(self, feed: Feed, narrow: frozenset[str]) -> Outputs: ...

    def reaches(self, feeds: Sequence[Feed]) -> Mapping[str, tuple[str, float, float]]: ...


@dataclass(frozen=True)
class Narrow:
    """``reach`` is how far the samples reach as a multiple of the range, ``cut`` the share of values outside it."""

    node: str
    reach: float
    cut: float

    def __str__(self) -> str:
        return f"{self.node} holds 1/{self.reach:.2g} of what these samples reach and cuts off {self.cut:.1%}"


@dataclass(frozen=True)
class PartCost:
    """For one output, relative rms and that of the worst row: what a part of the candidate may cost."""

    rounding: float
    rounding_row: float
    cutting: float = 0.0
    cutting_row: float = 0.0

    def to_json(self) -> dict[str, float | None]:
        return {k: (v if np.isfinite(v) else None) for k, v in vars(self).items()}


@dataclass(frozen=True)
class Quantised:
    """``engine`` holds the candidate's measures against the exactly evaluated file, per batch size and output;
    ``file`` those of the file against the truth, empty without one.  ``engine_costs`` and ``file_costs`` are per
    output."""

    engine: Mapping[int, Mapping[str, Measures]]
    engine_costs: Mapping[str, PartCost]
    file: Mapping[str, Measures] = field(default_factory=dict)
    file_costs: Mapping[str, PartCost] = field(default_factory=dict)
    narrow: tuple[Narrow, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "engine": {str(b): {n: _brief(m) for n, m in found.items()} for b, found in self.engine.items()},
            "engine_costs": {n: c.to_json() for n, c in self.engine_costs.items()},
            "file": {n: _brief(m) for n, m in self.file.items()},
            "file_costs": {n: c.to_json() for n, c in self.file_costs.items()},
            "narrow": [vars(n) for n in self.narrow],
        }


class QuantisedTally:
    """Looks on while the candidate is run, and holds it against what its file says."""

    def __init__(self, runs: QuantisedRuns, signature: Signature, truth: Callable[[Feed], Outputs] | None) -> None:
        self._runs = runs
        self._signature = signature
        self._exact = Truth(runs.exact, signature)
        self._truth = truth
        self._engine: dict[int, dict[str, Accumulator]] = {}
        self._file: dict[str, Accumulator] = {}
        self.failed: str | None = None

    def candidate(self, session: Session) -> Observed:
        return Observed(session, lambda feed, outputs: self._look(feed, outputs))

    def _look(self, feed: Feed, outputs: Outputs) -> None:
        if self.failed is not None:
            return
        try:
            says = self._exact(feed)
            exact = self._truth(feed) if self._truth is not None else {}
        except AssayError as error:
            self.failed = error.message
            return
        of_batch = self._engine.setdefault(self._signature.batch_of(feed), {})
        for name, array in outputs.items():
            if name in says and says[name].shape == array.shape and array.dtype != object:
                of_batch.setdefault(name, Accumulator()).add(says[name], array)
                if name in exact and exact[name].shape == array.shape:
                    self._file.setdefault(name, Accumulator()).add(exact[name], says[name])

    def evidence(self, feeds: Sequence[Feed]) -> Quantised | None:
        """``feeds`` are what the costs are measured on; None, with ``failed`` set, where they cannot be."""
        if self.failed is not None or not self._engine:
            return None
        try:
            return self._evidence(feeds)
        except AssayError as error:
            self.failed = error.message
            return None

    def _evidence(self, feeds: Sequence[Feed]) -> Quantised:
        engine, file, narrow = costs_of(self._runs, self._signature, feeds, self._exact)
        return Quantised(
            {b: {n: a.measures() for n, a in found.items()} for b, found in self._engine.items()},
            engine,
            {n: a.measures() for n, a in self._file.items()},
            file,
            narrow,
        )


def costs_of(
    runs: QuantisedRuns, signature: Signature, feeds: Sequence[Feed], exact: Callable[[Feed], Outputs] | None = None
) -> tuple[dict[str, PartCost], dict[str, PartCost], tuple[Narrow, ...]]:
    """Per output what an engine and what the file may cost, and the narrow quantisers.  Raises what a run raises."""
    exact = exact or Truth(runs.exact, signature)
    rows = [row for feed in feeds for row in _rows(feed, signature)][:_ROWS]
    reaches = runs.reaches(rows)
    narrow = {k: Narrow(*v) for k, v in reaches.items() if v[1] > REACH and v[2] > CUT}
    smooth = Truth(runs.smooth, signature)
    engine = [_apart(feeds, exact, partial(runs.engine, seed=seed)) for seed in SEEDS]
    rounded = [_apart(feeds, smooth, partial(runs.rounded, seed=seed)) for seed in SEEDS]
    cut = _apart(feeds, smooth, lambda f: runs.cut(f, frozenset(narrow)))
    file = {n: PartCost(*_worst([r[n] for r in rounded]), *_worst([cut[n]])) for n in rounded[0]}
    return (
        {n: _at_least(PartCost(*_worst([e[n] for e in engine])), file[n]) for n in engine[0]},
        file,
        tuple(sorted(narrow.values(), key=lambda n: -n.reach)),
    )


def _rows(feed: Feed, signature: Signature) -> list[Feed]:
    """Single rows where the batch is free: how far each sample reaches."""
    if not signature.is_batched or signature.static_batch is not None:
        return [feed]
    batched = [s for s in signature.inputs if s.batch_axis is not None]
    return [
        {**feed, **{s.name: np.asarray(feed[s.name].take([i], s.batch_axis)) for s in batched}}
        for i in range(signature.batch_of(feed))
    ]


def _apart(
    feeds: Sequence[Feed], first: Callable[[Feed], Outputs], second: Callable[[Feed], Outputs]
) -> dict[str, Measures]:
    sums: dict[str, Accumulator] = {}
    for feed in feeds:
        expected: Outputs = first(feed)
        found: Mapping[str, Array] = second(feed)
        for name, array in found.items():
            if array.dtype != object:
                sums.setdefault(name, Accumulator()).add(expected[name], array)
    return {name: a.measures() for name, a in sums.items()}


def _at_least(engine: PartCost, file: PartCost) -> PartCost:
    return PartCost(
        max(engine.rounding, _FLIPPED * file.rounding), max(engine.rounding_row, _FLIPPED * file.rounding_row)
    )


def _worst(found: Sequence[Measures]) -> tuple[float, float]:
    return max(m.relative_rms for m in found), max(m.worst_row for m in found)


def _brief(m: Measures) -> dict[str, float | None]:
    return {k: (v if np.isfinite(v) else None) for k, v in (("relative_rms", m.relative_rms), ("row", m.worst_row))}
