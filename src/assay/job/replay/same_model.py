"""Is another file the model that a bundle's golden outputs came from?  Judged as ``assay verify`` judges."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from assay.bundle.check import Step
from assay.bundle.contents import Bundle
from assay.bundle.goldens import Goldens, read_goldens
from assay.core.artifact import Artifact
from assay.core.engine import Attestation, Candidate, OpenOptions, Session
from assay.core.errors import SignatureMismatch
from assay.core.tensors import Array, Feed, Signature
from assay.job.arithmetic import arithmetic_of, quantised_of
from assay.job.compare_two import compare_with_truth
from assay.job.opening import engine, open_candidate, precision_of
from assay.job.replay.golden_rows import GoldenRows
from assay.judge.classes import Judged, classify
from assay.judge.tolerance import Tolerance
from assay.measure.quantised import QuantisedRuns

GOLDENS, ENGINE = "the golden outputs against the file", "the file on the bundle's engine"


def judged_steps(bundle: Bundle, candidate: Candidate, given: Artifact, batches: Sequence[int]) -> Iterator[Step]:
    """Both the golden outputs and what ``candidate`` gives, held against ``given`` run in fp32 and in float64.

    The bound that the goldens were packed with comes from format and depth and is a wide one in low precision; what a
    format costs on this very network, measured, is a narrow one.  ``candidate`` is opened from ``given``; it is
    compared at ``batches`` too, the golden rows taking turns.  A file that is written in another precision has no
    float64 form; what its engine gives is then held against the goldens and, quantised, against its own scales.
    Raises what opening and running either raise.
    """
    goldens = read_goldens(bundle.folder, bundle.signature)
    own = _feeds(bundle, goldens)
    inputs = tuple(feed for feed, _ in goldens.pairs)
    more = OwnFirst(own, GoldenRows(inputs, bundle.signature, tuple(batches)))
    exact = Exact(given, goldens, candidate.options.precision, bundle.signature)
    written = precision_of(given.path)
    with contextlib.ExitStack() as stack:
        reference: Session = GoldenSession(bundle.signature, goldens)
        if written == "fp32":
            stored = reference
            reference = stack.enter_context(engine("onnxruntime").open(given, OpenOptions(precision=written)))
            yield _step(GOLDENS, exact.judge((reference, stored), own))
        runs = stack.enter_context(quantised_of(candidate, [given]))
        session = stack.enter_context(open_candidate(candidate))
        told = session.attest().check(None, candidate.options.precision)
        yield _step(ENGINE, exact.judge((reference, session), more if written == "fp32" else own, runs))
        yield from (Step(ENGINE, "said", text) for text in told)


def _feeds(bundle: Bundle, goldens: Goldens) -> dict[int, list[Feed]]:
    """The golden inputs by their number of rows."""
    found: dict[int, list[Feed]] = {}
    for feed, _ in goldens.pairs:
        found.setdefault(bundle.signature.batch_of(feed), []).append(feed)
    return found


@dataclass(frozen=True)
class OwnFirst(Mapping[int, Sequence[Feed]]):
    """The golden feeds, and of the other sizes ``made`` ones: each only when it is asked for, as they may be large."""

    own: Mapping[int, Sequence[Feed]]
    made: Mapping[int, Sequence[Feed]]

    def __getitem__(self, batch: int) -> Sequence[Feed]:
        return self.own[batch] if batch in self.own else self.made[batch]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted({*self.own, *self.made}))

    def __len__(self) -> int:
        return len({*self.own, *self.made})


def _step(name: str, judged: Judged) -> Step:
    return Step(name, "passed" if judged.accepted else "failed", f"{judged.name}: {judged.reason.text}")


@dataclass(frozen=True)
class Exact:
    """How ``assay verify`` judges: by ``given`` in exact arithmetic, or the goldens' own limit where it has none."""

    given: Artifact
    goldens: Goldens
    precision: str
    signature: Signature

    def judge(
        self,
        sides: tuple[Session, Session],
        feeds: Mapping[int, Sequence[Feed]],
        quantised: QuantisedRuns | None = None,
    ) -> Judged:
        """``sides`` are the reference and what is held against it."""
        allowed = Tolerance(self.goldens.source, self.goldens.max_relative_rms, precision=self.precision)
        with arithmetic_of(self.given, self.signature) as exact:
            result, split = compare_with_truth(sides, feeds, exact, self.precision, quantised)
        return classify(result, allowed, split)


class GoldenSession:
    """A Session that gives the stored outputs for the stored inputs, and knows no others."""

    def __init__(self, signature: Signature, goldens: Goldens) -> None:
        self._signature = signature
        self._pairs = goldens.pairs

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def parallelism(self) -> int:
        return 1

    def run(
        self,
        feed: Feed,
        out: MutableMapping[str, Array] | None = None,
        spans: MutableMapping[str, float] | None = None,
    ) -> dict[str, Array]:
        """Raises SignatureMismatch for a feed that is not one of the stored ones."""
        for stored, outputs in self._pairs:
            if _same(stored, feed):
                return dict(outputs)
        raise SignatureMismatch("there are golden outputs for the golden inputs only")

    def attest(self) -> Attestation:
        return Attestation(untold="stored outputs were compared")

    def close(self) -> None:
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    return all(a[name] is b.get(name) for name in a)
