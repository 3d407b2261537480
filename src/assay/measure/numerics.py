"""Two sessions on the same feeds, output by output, matched by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assay.core.compare import Accumulator, Measures
from assay.core.engine import Session
from assay.core.errors import AssayError
from assay.core.record import Figure, withheld
from assay.core.tensors import Array, Feed

_MOST_FAILURES = 20


@dataclass(frozen=True)
class NumericResult:
    """Measures per batch size and output; ``failures`` is whatever keeps them from meaning equality.

    ``rows`` is the number of rows compared, over all batch sizes.  ``warnings`` say where agreement
    shows little, such as an output that is the same for every row.
    """

    outputs: Mapping[int, Mapping[str, Measures]]
    failures: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    rows: int = 0

    def to_json(self) -> dict[str, Any]:
        """``{batch: {output: measures}}``, the ``outputs`` of a verify Record's details."""
        return {str(b): {name: m.to_json() for name, m in found.items()} for b, found in self.outputs.items()}

    def figures(self) -> dict[str, Figure]:
        """The worst of every measure over all outputs and batch sizes; withheld when nothing was compared."""
        return _figures([m for found in self.outputs.values() for m in found.values() if m.n])


def compare_sessions(reference: Session, candidate: Session, batches: Mapping[int, Sequence[Feed]]) -> NumericResult:
    """Run both on every feed of every batch size and compare the outputs.

    ``batches`` maps a batch size to feeds of exactly that many rows.  Where a session accepts one batch
    size only, the others are listed as not checked.  Nothing to compare, outputs of different names,
    shapes or dtypes, NaN or infinity on either side, and a session that fails are failures in the
    result, each in words; nothing is raised for them.
    """
    comparison = _Comparison()
    if not batches:
        comparison.fail("nothing was compared: there are no feeds")
    for batch, feeds in batches.items():
        if reason := _refused(reference, candidate, batch):
            comparison.not_checked.append(reason)
            continue
        if not feeds:
            comparison.fail(f"batch {batch}: nothing was compared, there are no feeds")
        for feed in feeds:
            comparison.add(batch, _both(reference, candidate, feed, batch, comparison), _rows(reference, feed))
    if batches and not comparison.measured and not comparison.failures:
        comparison.fail(f"nothing was compared: {'; '.join(comparison.not_checked)}")
    return comparison.result()


def _refused(reference: Session, candidate: Session, batch: int) -> str | None:
    for name, session in (("reference", reference), ("candidate", candidate)):
        static = session.signature.static_batch
        if static not in (None, batch):
            return f"batch {batch}: the {name} accepts only batch {static}"
    return None


Outputs = Mapping[str, Array]


def _both(
    reference: Session, candidate: Session, feed: Feed, batch: int, comparison: _Comparison
) -> tuple[Outputs, Outputs] | None:
    """Both sides' outputs, or None with a failure that says which side failed and how."""
    if (rows := _rows(reference, feed)) != batch and reference.signature.is_batched:
        comparison.fail(f"batch {batch}: a feed has {rows} rows")
        return None
    found = []
    for name, session in (("reference", reference), ("candidate", candidate)):
        try:
            found.append(session.run(feed))
        except AssayError as error:
            comparison.fail(f"batch {batch}: the {name} failed: {error.message}")
            return None
    return found[0], found[1]


def _rows(session: Session, feed: Feed) -> int:
    return session.signature.batch_of(feed)


@dataclass
class _Comparison:
    """What was found so far."""

    failures: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    measured: dict[int, dict[str, Accumulator]] = field(default_factory=dict)
    varied: dict[str, _Variation] = field(default_factory=dict)
    rows: int = 0

    def fail(self, text: str) -> None:
        if text not in self.failures and len(self.failures) < _MOST_FAILURES:
            self.failures.append(text)

    def add(self, batch: int, pair: tuple[Outputs, Outputs] | None, rows: int) -> None:
        if pair is None:
            return
        reference, candidate = pair
        self._names(batch, reference, candidate)
        for name in reference.keys() & candidate.keys():
            self._output(batch, name, reference[name], candidate[name])
        self.rows += rows

    def _names(self, batch: int, reference: Outputs, candidate: Outputs) -> None:
        if not reference:
            self.fail(f"batch {batch}: the reference gave no outputs")
        for name in sorted(reference.keys() - candidate.keys()):
            self.fail(f"batch {batch}: the candidate has no output {name!r} (it has {', '.join(candidate) or 'none'})")
        for name in sorted(candidate.keys() - reference.keys()):
            self.fail(f"batch {batch}: the candidate's output {name!r} is not in the reference")

    def _output(self, batch: int, name: str, r: Array, c: Array) -> None:
        where = f"batch {batch}, output {name!r}"
        if r.dtype != c.dtype:
            return self.fail(f"{where}: dtype {r.dtype} in the reference, {c.dtype} in the candidate")
        if r.shape != c.shape:
            return self.fail(f"{where}: shape {r.shape} in the reference, {c.shape} in the candidate")
        if r.dtype == object:
            r, c = (r == r).astype(np.int8), (r == c).astype(np.int8)
            if not c.all():
                self.fail(f"{where}: {int((c == 0).sum())} of {c.size} strings differ")
        self.varied.setdefault(name, _Variation()).add(r)
        accumulator = self.measured.setdefault(batch, {}).setdefault(name, Accumulator())
        accumulator.add(r, c)
        return None

    def result(self) -> NumericResult:
        outputs = {b: {name: a.measures() for name, a in found.items()} for b, found in self.measured.items()}
        for batch, found in outputs.items():
            for name, m in found.items():
                if bad := _not_finite(m):
                    self.fail(f"batch {batch}, output {name!r}: {bad}")
                if m.n == 0:
                    self.fail(f"batch {batch}, output {name!r}: no value could be compared")
        warnings = [f"output {name!r} {said}" for name, v in self.varied.items() if (said := v.says())]
        return NumericResult(outputs, tuple(self.failures), tuple(self.not_checked), tuple(warnings), self.rows)


class _Variation:
    """Whether an output depends on its input at all: rows along the first axis, over all feeds."""

    def __init__(self) -> None:
        self._first: Array | None = None
        self._varies = False
        self._rows = 0

    def add(self, array: Array) -> None:
        rows = array if array.ndim else array[None]
        self._rows += len(rows)
        if self._varies or not rows.size:
            return
        if self._first is None:
            self._first = rows[0].copy()
        first = self._first
        self._varies = rows.shape[1:] != first.shape or bool((rows != first).any())

    def says(self) -> str | None:
        if self._varies or self._rows < 2:
            return None
        return f"is the same for all {self._rows} rows in the reference: agreement there shows little"


def _not_finite(m: Measures) -> str | None:
    if not m.bad_reference and not m.bad_candidate:
        return None
    return f"NaN or infinity in {m.bad_reference} values of the reference and {m.bad_candidate} of the candidate"


def _figures(found: Sequence[Measures]) -> dict[str, Figure]:
    if not found:
        units = {"relative_rms": "ratio", "max_abs": "1", "cosine": "1", "snr": "dB"}
        return {f"numeric.{name}": withheld(unit, "nothing was compared", 0) for name, unit in units.items()}
    n = sum(m.n for m in found)
    snr = min(m.snr_db for m in found)
    figures = {
        "numeric.relative_rms": Figure(max(m.relative_rms for m in found), "ratio", n=n),
        "numeric.max_abs": Figure(max(m.max_abs for m in found), "1", n=n),
        "numeric.mean_abs": Figure(max(m.mean_abs for m in found), "1", n=n),
        "numeric.max_rel": Figure(max(m.max_rel for m in found), "ratio", n=n),
        "numeric.mean_rel": Figure(max(m.mean_rel for m in found), "ratio", n=n),
        "numeric.cosine": Figure(min(m.cosine for m in found), "1", n=n),
        "numeric.snr": Figure(snr, "dB", n=n) if np.isfinite(snr) else withheld("dB", _no_snr(snr), n),
    }
    agreements = [(m.top1_agreement, m.rows) for m in found if m.top1_agreement is not None]
    if agreements:
        worst = min(a for a, _ in agreements)
        figures["numeric.top1_agreement"] = Figure(worst, "fraction", n=sum(rows or 0 for _, rows in agreements))
    return figures


def _no_snr(snr: float) -> str:
    return "equal: there is no noise" if snr > 0 else "the reference is zero, so there is no signal"
