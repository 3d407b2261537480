"""``assay verify``: any two models compared output by output, by name, at every batch size."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from assay.core.compare import Measures
from assay.core.engine import OpenOptions
from assay.core.errors import SignatureMismatch
from assay.core.record import Record
from assay.core.tensors import Signature
from assay.core.verdict import Verdict, combine
from assay.judge.tolerance import elementwise, judge_numeric, tolerance
from assay.measure.environment import environment
from assay.measure.numerics import compare_sessions
from assay.run.context import Data, batched
from assay.run.dataset import open_data
from assay.run.opening import open_candidate
from assay.run.progress import Progress
from assay.run.request import Objects, RunRequest
from assay.run.single import Prepared, Wanted, prepare
from assay.sources import SourceOptions, is_complete


@dataclass(frozen=True)
class Pair:
    """Two MODELs and how to compare them; ``atol``/``rtol`` replace the format's tolerance where given."""

    reference: str
    candidate: str
    engine: str | None
    precision: str
    device: str
    data: str | None
    batches: tuple[int, ...]
    samples: int
    atol: float | None = None
    rtol: float | None = None


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


def compare_two(pair: Pair, source: SourceOptions, progress: Progress) -> Compared:
    """Raises SignatureMismatch when inputs or outputs do not go by the same names."""
    with tempfile.TemporaryDirectory(prefix="assay-verify-") as folder:
        options = OpenOptions(precision=pair.precision, device=pair.device)
        progress.stage("open", pair.candidate)
        candidate = prepare(Wanted(pair.candidate, pair.engine, options), _source(pair.candidate, source, folder, "c"))
        progress.done(candidate.candidate.label)
        progress.stage("open", pair.reference)
        naming = None if candidate.candidate.artifact.module else _free_batch(candidate.signature)
        reference = prepare(Wanted(pair.reference), _source(pair.reference, source, folder, "r"), naming)
        progress.done(reference.candidate.label)
        _same_names(reference, candidate)
        progress.stage("compare")
        found = _compare(pair, reference, candidate)
        progress.done(found.judged)
        return found


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


def _compare(pair: Pair, reference: Prepared, candidate: Prepared) -> Compared:
    request = RunRequest(pair.reference, Path(), data=pair.data, batches=pair.batches, device=pair.device)
    data = open_data(request, Objects(), reference.model, candidate.signature)
    rows = list(data.samples(pair.samples))
    feeds = {b: batched(rows, b, candidate.signature) for b in pair.batches}
    with open_candidate(reference.candidate) as first, open_candidate(candidate.candidate) as second:
        attestation = second.attest()
        # A file opened as it is was asked for in no particular precision beyond the default.
        warnings = attestation.check(None, pair.precision)
        result = compare_sessions(first, second, feeds)
    depth = max(reference.depth, candidate.depth)
    if pair.atol is None and pair.rtol is None:
        allowed = tolerance(pair.precision, depth)
    else:
        allowed = elementwise(pair.atol or 0.0, pair.rtol or 0.0)
    reason = judge_numeric(result, allowed)
    not_checked = tuple(result.not_checked) + (() if data.real else (_drawn(data),))
    record = Record(
        "verify",
        candidate.candidate.subject(candidate.model.name),
        figures=result.figures(),
        conditions={
            "reference": pair.reference,
            "reference_artifact": reference.candidate.artifact.sha256,
            "batches": list(pair.batches),
            "samples": len(rows),
            "data": data.name,
            "real_data": data.real,
        },
        environment=environment(),
        warnings=tuple(warnings),
        details={
            "class": "within tolerance" if reason.state == "passed" else "outside tolerance",
            "tolerance": allowed.to_json(),
            "outputs": result.to_json(),
            "failures": list(result.failures),
            "attestation": attestation.to_json(),
        },
    )
    verdict = combine([replace(reason, record=record.id)], not_checked, candidate.candidate.digest)
    judged = str(record.details["class"])
    return Compared(record, verdict, judged, reason.text, result.by_batch(), tuple(warnings), not_checked)


def _drawn(data: Data) -> str:
    return f"real data: the inputs were {data.name} (seed {data.seed})"
