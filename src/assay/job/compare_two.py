"""``assay verify``: any two models compared output by output, by name, at every batch size."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.compare import Measures
from assay.core.engine import Session
from assay.core.errors import SignatureMismatch
from assay.core.record import Record
from assay.core.tensors import Feed, Signature
from assay.core.verdict import Reason, Verdict, combine
from assay.export.options import ExportOptions
from assay.job.arithmetic import COST_ROWS, arithmetic_of, quantised_of
from assay.job.context import Data, batched
from assay.job.dataset import open_data
from assay.job.open_request import OpenRequest
from assay.job.opening import open_candidate
from assay.job.progress import Progress
from assay.job.request import Objects, RunRequest
from assay.job.single import Prepared, Wanted, as_written, prepare
from assay.judge.classes import Judged, classify
from assay.judge.tolerance import Tolerance, asked_for, tolerance
from assay.measure.environment import environment
from assay.measure.numerics import NumericResult, compare_sessions
from assay.measure.quantised import QuantisedRuns, QuantisedTally
from assay.measure.selfcheck import SECOND_BUILD, SelfCheck, self_check
from assay.measure.truth import Arithmetic, Split, Tally, Truth
from assay.sources import SourceOptions, is_complete

MODULE_FILES = (".pt", ".pt2")
SERVED = "remote"
"""The format of a running server: it is not built here, so it cannot be built a second time."""
Rebuilt = Callable[[], Session] | None


@dataclass(frozen=True)
class Pair:
    """Two MODELs and how to compare them.

    ``atol`` and ``rtol`` are texts such as ``1e-5 out0:1e-4`` and replace the format's tolerance where
    given.  ``truth`` False leaves the float64 run out, ``self_consistency`` False the runs against itself.
    ``precision`` and ``device`` are the candidate's, None where nobody asked for one.
    """

    reference: str
    candidate: str
    engine: str | None
    precision: str | None
    device: str | None
    data: str | None
    batches: tuple[int, ...]
    samples: int
    atol: str | None = None
    rtol: str | None = None
    truth: bool = True
    self_consistency: bool = True

    @property
    def wanted(self) -> Wanted:
        """The candidate."""
        return Wanted(self.candidate, self.engine, OpenRequest(self.precision, self.device))


SAY_PRECISION = "the server was judged as fp32; if it runs bf16, fp16 or int8, say so: --precision"


@dataclass(frozen=True)
class Compared:
    """``judged`` is the class, ``text`` its reason."""

    record: Record
    verdict: Verdict
    judged: str
    text: str
    outputs: Mapping[int, Mapping[str, Measures]]
    warnings: tuple[str, ...]
    not_checked: tuple[str, ...]
    self_check: SelfCheck | None = None
    detectable: float | None = None


def compare_two(pair: Pair, source: SourceOptions, progress: Progress) -> Compared:
    """Raises SignatureMismatch when inputs or outputs do not go by the same names."""
    with opened_pair(pair, source, progress) as (reference, candidate), tempfile.TemporaryDirectory() as again:
        sizes = ", ".join(map(str, pair.batches))
        progress.stage("compare", f"{pair.samples} samples at batch {sizes}")

        def rebuilt() -> Session:
            """The candidate once more: a file is built again, a module (whose export takes long) opened again."""
            if not is_complete(pair.candidate):
                return open_candidate(candidate.candidate)
            return open_candidate(prepare(pair.wanted, _source(pair.candidate, source, again, "c")).candidate)

        served = candidate.candidate.artifact.format == SERVED
        data = data_of(pair, source, reference, candidate)
        found = _compare(pair, (reference, candidate), data, None if served else rebuilt)
        if served and pair.precision is None and found.verdict.exit_code:
            found = replace(found, warnings=(*found.warnings, SAY_PRECISION))
        progress.done(found.judged)
        return found


@contextlib.contextmanager
def opened_pair(pair: Pair, source: SourceOptions, progress: Progress) -> Iterator[tuple[Prepared, Prepared]]:
    """Both sides resolved, exported and built as far as needed; their files live as long as the block."""
    with tempfile.TemporaryDirectory(prefix="assay-verify-") as folder:
        wanted = pair.wanted

        def opened(what: Wanted, side: str, naming: Signature | None = None) -> Prepared:
            progress.stage("open", what.spec)
            found = prepare(what, _source(what.spec, source, folder, side), naming)
            progress.done(found.candidate.label)
            return found

        if _is_code(pair.candidate) and not _is_code(pair.reference):  # names are the file's to give
            reference = opened(_as_written(pair.reference), "r")
            theirs = _free_batch(reference.signature)
            names = ExportOptions(input_names=theirs.input_names, output_names=theirs.output_names)
            candidate = opened(replace(wanted, export=names), "c", theirs)
        else:
            candidate = opened(wanted, "c")
            naming = None if candidate.candidate.artifact.module else _free_batch(candidate.signature)
            reference = opened(_as_written(pair.reference), "r", naming)
        _same_names(reference, candidate)
        yield reference, candidate


def _as_written(spec: str) -> Wanted:
    """A reference is run in fp32, a quantised (or half precision) ONNX file as it is written."""
    return Wanted(spec, opened=as_written(spec))


def _is_code(spec: str) -> bool:
    """Whether MODEL is a module: such have no names of their own for what goes in and out."""
    return not is_complete(spec) or Path(spec).suffix.lower() in MODULE_FILES


def _source(spec: str, source: SourceOptions, folder: str, side: str) -> SourceOptions:
    """The options for one side: weights are for the side that is code, a file used as it is brings its own."""
    own = replace(source, out_dir=Path(folder, side))
    if is_complete(spec):
        return replace(own, weights=None, arch=None, md5=None, sha256=None)
    return own


def _free_batch(signature: Signature) -> Signature:
    """A module has no fixed batch: the names of the candidate, with a free batch dim."""
    return signature.with_batch("batch") if signature.static_batch else signature


def _same_names(reference: Prepared, candidate: Prepared) -> None:
    a, b = reference.signature, candidate.signature
    for what, first, second in (("inputs", a.input_names, b.input_names), ("outputs", a.output_names, b.output_names)):
        if set(first) != set(second):
            raise SignatureMismatch(
                f"the {what} go by different names: {', '.join(first)} (reference), {', '.join(second)} (candidate)",
                remedy="export with --input-names and --output-names so that both agree",
            )


@dataclass(frozen=True)
class _Found:
    """What the runs gave."""

    result: NumericResult
    split: Split | None
    judged: Judged
    checks: SelfCheck | None
    warnings: tuple[str, ...]
    attestation: Mapping[str, Any]
    allowed: Tolerance


def data_of(pair: Pair, source: SourceOptions, reference: Prepared, candidate: Prepared) -> Data:
    """Samples for both sides, drawn by the seed and within the ranges of ``source`` where there are no others."""
    drawn = ExportOptions(ranges=source.ranges)
    request = RunRequest(pair.reference, Path(), pair.data, batches=pair.batches, seed=source.seed, export=drawn)
    return open_data(request, Objects(), reference.model, candidate.signature)


def _compare(pair: Pair, sides: tuple[Prepared, Prepared], data: Data, rebuilt: Rebuilt) -> Compared:
    reference, candidate = sides
    rows = list(data.samples(pair.samples))
    feeds = {b: batched(rows, b, candidate.signature) for b in pair.batches}
    asked = asked_for(pair.atol, pair.rtol, candidate.signature.output_names)
    allowed = asked or tolerance(candidate.candidate.options.precision, max(reference.depth, candidate.depth))
    found = _run(pair, (reference, candidate), feeds, allowed, rebuilt)
    not_checked = (*found.result.not_checked, *_unshown(found), *(() if data.real else (_drawn(data),)))
    record = _record(pair, (reference, candidate), found, (data, len(rows)))
    reasons = [replace(found.judged.reason, record=record.id), *_self_reasons(found.checks, record.id)]
    verdict = combine(reasons, not_checked, candidate.candidate.digest)
    text, name = found.judged.reason.text, found.judged.name
    details = (found.warnings, not_checked, found.checks, found.judged.detectable)
    return Compared(record, verdict, name, text, found.result.outputs, *details)


def _run(
    pair: Pair,
    sides: tuple[Prepared, Prepared],
    feeds: Mapping[int, Sequence[Feed]],
    allowed: Tolerance,
    rebuilt: Rebuilt,
) -> _Found:
    reference, candidate = (side.candidate for side in sides)
    signature = sides[0].signature
    with contextlib.ExitStack() as stack:
        arithmetic, why = None, "the float64 run was left out"
        if pair.truth and allowed.max_relative_rms is not None:
            arithmetic, why = stack.enter_context(arithmetic_of(reference.artifact, signature))  # type: ignore[assignment]
        own = None
        if pair.truth and allowed.max_relative_rms is not None:
            own = stack.enter_context(quantised_of(candidate, [sides[1].model.artifact]))
        first = stack.enter_context(open_candidate(reference))
        second = stack.enter_context(open_candidate(candidate))
        attestation = second.attest()
        # A file opened as it is was asked for in no particular precision beyond the default.
        precision = candidate.options.precision
        warnings = attestation.check(None, precision)
        result, split = compare_with_truth((first, second), feeds, (arithmetic, why), precision, own)
        judged = classify(result, allowed, split)
        checks = None
        if pair.self_consistency and not result.failures:
            limit = judged.detectable or allowed.max_relative_rms or tolerance(precision, 100).max_relative_rms
            third = stack.enter_context(rebuilt()) if rebuilt is not None else None
            checks = self_check(second, self_check_feed(feeds, second), limit or 0.0, third)
            checks = checks if rebuilt is not None else checks.without(SECOND_BUILD)
    return _Found(result, split, judged, checks, tuple(warnings), attestation.to_json(), allowed)


def compare_with_truth(
    sessions: tuple[Session, Session],
    feeds: Mapping[int, Sequence[Feed]],
    exact: tuple[Arithmetic | None, str | None],
    precision: str,
    quantised: QuantisedRuns | None = None,
) -> tuple[NumericResult, Split | None]:
    """The comparison, and, where the reference can be run exactly, the errors of both against that truth.

    With ``quantised``, the candidate's file as its own scales say, the error of the file and that of the engine are
    told apart.
    """
    (first, second), (arithmetic, why) = sessions, exact
    truth = Truth(arithmetic.exact, first.signature) if arithmetic else None
    tally = Tally(truth, why)
    own = QuantisedTally(quantised, first.signature, truth) if quantised else None
    result = compare_sessions(tally.reference(first), tally.candidate(own.candidate(second) if own else second), feeds)
    if own is not None and not result.failures:
        found = own.evidence(_cost_feeds(feeds, first, 4 * COST_ROWS))
        if found is not None:
            return result, tally.errors(precision, _cost_feeds(feeds, first), found)
    if arithmetic is None or result.failures:
        return result, Split(precision, missing=why or "the comparison failed")
    return result, tally.split(arithmetic, precision, _cost_feeds(feeds, first))


def _cost_feeds(feeds: Mapping[int, Sequence[Feed]], reference: Session, rows: int = COST_ROWS) -> list[Feed]:
    """As few calls as give so many rows: of the largest batch size up to ``COST_ROWS``, or the reference's only one."""
    static = reference.signature.static_batch
    sizes = [b for b in feeds if b <= COST_ROWS] or [min(feeds)]
    size = static if static is not None and static in feeds else max(sizes)
    return list(feeds[size][: max(1, rows // size)])


def self_check_feed(feeds: Mapping[int, Sequence[Feed]], session: Session) -> Feed:
    """A few different rows in one feed, or what the session's fixed batch allows."""
    static = session.signature.static_batch
    if static is not None and static in feeds:
        return feeds[static][0]
    sizes = [b for b in feeds if 2 <= b <= COST_ROWS]
    return feeds[max(sizes) if sizes else min(feeds, key=lambda b: (b < 2, b))][0]


def _self_reasons(checks: SelfCheck | None, record: str) -> list[Reason]:
    return [Reason(f"self: {f.name}", f.state, f.text, record) for f in (checks.failed if checks else ())]


def _unshown(found: _Found) -> tuple[str, ...]:
    checks = [f"self-consistency, {f.name}: {f.text}" for f in (found.checks.findings if found.checks else ())
              if f.state == "not_shown"]  # fmt: skip
    if found.checks is None:
        checks = ["self-consistency: it was left out"]
    if found.split is not None and found.split.missing and found.allowed.max_relative_rms is not None:
        checks.append(f"truth: {found.split.missing}; the limit is the bound from format and depth")
    return tuple(checks)


def _record(pair: Pair, sides: tuple[Prepared, Prepared], found: _Found, data: tuple[Data, int]) -> Record:
    reference, candidate = sides
    details = verify_details(found.result, found.judged, found.allowed, found.split)
    return Record(
        "verify",
        candidate.candidate.subject(candidate.model.name),
        figures=found.result.figures(),
        conditions={
            "reference": pair.reference,
            "reference_artifact": reference.candidate.artifact.sha256,
            "batches": list(pair.batches),
            "samples": data[1],
            **data[0].conditions,
        },
        environment=environment(),
        warnings=(*found.warnings, *found.result.warnings),
        details={
            **details,
            "attestation": dict(found.attestation),
            "self_check": found.checks.to_json() if found.checks else None,
        },
    )


def verify_details(result: NumericResult, judged: Judged, allowed: Tolerance, split: Split | None) -> dict[str, Any]:
    """The details of a verify Record that do not depend on who asked."""
    return {
        **judged.to_json(),
        "tolerance": allowed.to_json(),
        "split": split.to_json() if split is not None and (split.costs or split.quantised) else None,
        "outputs": result.to_json(),
        "failures": list(result.failures),
        "not_checked": list(result.not_checked),
    }


def _drawn(data: Data) -> str:
    return f"real data: the inputs were {data.name} (seed {data.seed})"
