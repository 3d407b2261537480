"""``assay diagnose``: which stage, which operator, which line makes CANDIDATE differ from REF."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError, BadInput
from assay.core.record import Record
from assay.core.tensors import Feed
from assay.core.verdict import Reason, Verdict, combine
from assay.diagnose.operators import Blame, GraphRecorder, Piece, Recorder, Suspect, blame, saturated
from assay.diagnose.ranges import FP16_LARGEST
from assay.diagnose.reproduction import RUNTIMES, Case, runtime_settings, write_reproduction
from assay.diagnose.stages import StageRow, guilty, walk, worst
from assay.export.options import ExportOptions
from assay.graph.extract import Parts, flat
from assay.graph.mapping import Mapped, aten_mapping
from assay.graph.provenance import Provenance, by_tensor, inherited
from assay.graph.signature import load_model
from assay.job.arithmetic import COST_ROWS, arithmetic_of, quantised_of
from assay.job.compare_two import Pair, data_of, opened_pair
from assay.job.context import batched
from assay.job.diagnose.fix import Broken, Fix, fix
from assay.job.diagnose.stages import Chain, Dues, How, Link, Plan, chain_of, check_passes, opener
from assay.job.folder import check_folder
from assay.job.opening import precision_of
from assay.job.progress import Progress
from assay.job.single import Prepared
from assay.judge.classes import ENGINE_SAFETY, SAFETY, file_due
from assay.judge.tolerance import tolerance
from assay.measure.environment import environment
from assay.measure.quantised import costs_of
from assay.measure.truth import SEEDS, Truth
from assay.sources import SourceOptions

_LEAST = 2.0**-24
_ONE_QUANTISER = 0.01
"""What an engine may add to one piece of a quantised file: the same numbers, a few of them rounded the other way."""
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Guilty:
    """One guilty piece with its nodes' origins and what its input ranges mean."""

    piece: Piece
    origins: Mapping[str, Provenance]
    advice: tuple[str, ...]
    reproduction: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            **self.piece.to_json(),
            "origins": {n: p.to_json() for n, p in self.origins.items()},
            "advice": list(self.advice),
            "reproduction": str(self.reproduction) if self.reproduction else None,
        }


@dataclass(frozen=True)
class Diagnosis:
    """``stage`` is the place of the guilty stage in ``rows``, None when every stage is within its due."""

    rows: tuple[StageRow, ...]
    stage: int | None
    guilty: tuple[Guilty, ...]
    blame: Blame | None
    mapping: tuple[Mapped, ...]
    notes: tuple[str, ...]
    record: Record
    verdict: Verdict
    fix: Fix | None = None


@dataclass(frozen=True)
class Asked:
    """``pair`` says what is compared; ``out`` is where reproductions (and the fixed file) go; ``passes`` are looked at
    one by one; ``fix`` tries to put the guilty stage right; ``limit`` replaces what the precision asked for may add
    to the outputs (relative rms)."""

    pair: Pair
    out: Path | None = None
    passes: tuple[str, ...] = ()
    fix: bool = False
    limit: float | None = None
    export: ExportOptions = field(default_factory=ExportOptions)


def diagnose_two(asked: Asked, source: SourceOptions, progress: Progress) -> Diagnosis:
    """Raises SignatureMismatch when inputs or outputs do not go by the same names, BadInput for bad passes."""
    check_passes(asked.passes)
    if asked.fix and asked.out is None:
        raise BadInput("--fix writes a file and needs a folder for it", remedy="--fix --out DIR")
    if asked.out is not None:
        check_folder(asked.out)
    pair = asked.pair
    with opened_pair(pair, source, progress) as (reference, candidate), tempfile.TemporaryDirectory() as folder:
        feeds = _feeds(pair, source, reference, candidate)
        progress.stage("dues", "what each precision must cost on this network")
        opened = candidate.candidate.options
        asked = replace(asked, pair=replace(pair, precision=opened.precision, device=opened.device))
        dues = _dues(reference, candidate, feeds, opened.precision)
        if asked.limit is not None:
            dues = replace(dues, by_precision={**dues.by_precision, opened.precision: asked.limit})
        progress.done(", ".join(f"{p} {d:.1e}" for p, d in dues.by_precision.items()))
        plan = Plan(reference, candidate, asked.passes, asked.export)
        with chain_of(plan, dues, feeds[0], Path(folder)) as chain:
            progress.stage("stages", f"{len(chain.stages)} of them")
            rows = walk(chain.stages, feeds)
            place = guilty(rows)
            progress.done("every stage is within its due" if place is None else f"guilty: {rows[place].name}")
            found, whom = _inside(asked, (chain, rows), place, feeds[0], progress)
            mapping = aten_mapping(load_model(chain.raw)) if chain.raw else ()
            mended = None
            if asked.fix and asked.out is not None and place is not None:
                pieces = [g.piece for g in found]
                mended = _mended(Broken(plan, chain, place, pieces, feeds, asked.out, _ranked(pieces, whom)))
            made = _diagnosis(asked, candidate, (chain, rows, place), (found, whom, mapping))
            return _with_fix(made, mended)


def _ranked(guilty: Sequence[Piece], whom: Blame | None) -> list[Piece]:
    """The guilty ones, then the others by what they add alone."""
    named = {p.tensor for p in guilty}
    rest = [p for p in (whom.pieces if whom else ()) if p.tensor not in named and p.local is not None]
    return [*guilty, *sorted(rest, key=lambda p: -(p.local or 0.0))]


def _mended(broken: Broken) -> Fix | None:
    try:
        return fix(broken)
    except AssayError as error:
        broken.chain.notes.append(f"no fix: {error.message}")
        return None


def _with_fix(made: Diagnosis, mended: Fix | None) -> Diagnosis:
    if mended is None:
        return made
    record = replace(made.record, details={**made.record.details, "fix": mended.to_json()})
    return replace(made, fix=mended, record=record)


def _feeds(pair: Pair, source: SourceOptions, reference: Prepared, candidate: Prepared) -> Sequence[Feed]:
    rows = list(data_of(pair, source, reference, candidate).samples(min(pair.samples, COST_ROWS)))
    sizes = [s for s in (candidate.signature.static_batch, reference.signature.static_batch) if s]
    return batched(rows, sizes[0] if sizes else max(pair.batches), candidate.signature)[:2]


def _dues(reference: Prepared, candidate: Prepared, feeds: Sequence[Feed], precision: str) -> Dues:
    """What fp32 and the precision asked for cost on the reference; the bound from format and depth where there is
    no exact run."""
    depth = max(reference.depth, candidate.depth)
    wanted = dict.fromkeys(("fp32", precision, _native(candidate)))
    bounds = {p: tolerance(p, depth or 50).max_relative_rms or 0.0 for p in wanted}
    found = dict(bounds)
    own, running = _own_dues(candidate, feeds)
    with arithmetic_of(reference.candidate.artifact, reference.signature) as (arithmetic, _):
        if arithmetic is None:
            return Dues(found | own, running)
        truth = Truth(arithmetic.exact, reference.signature)
        for p in (p for p in wanted if p not in own):
            try:
                costs = [
                    worst([truth(feed)], [arithmetic.rounded(feed, p, seed)])[0] for feed in feeds[:1] for seed in SEEDS
                ]
                found[p] = min(0.5, SAFETY[p] * max(*costs, _LEAST))
            except AssayError:
                continue
    return Dues({p: max(d, found["fp32"]) for p, d in (found | own).items()}, running)


def _own_dues(candidate: Prepared, feeds: Sequence[Feed]) -> tuple[dict[str, float], float | None]:
    """By a quantised file's own scales: what the file may differ from the float model, and what an engine that runs
    it may differ from the file."""
    with quantised_of(candidate.candidate, [candidate.model.artifact]) as runs:
        if runs is None:
            return {}, None
        try:
            engine, file, _ = costs_of(runs, candidate.signature, feeds[:1])
        except AssayError:
            return {}, None
    running = ENGINE_SAFETY * max(*(c.rounding for c in engine.values()), _LEAST)
    return {"int8": max(file_due(c) for c in file.values())}, min(0.5, running)


def _native(candidate: Prepared) -> str:
    artifact = candidate.candidate.artifact
    return precision_of(artifact.path) if artifact.format == "onnx" else candidate.candidate.options.precision


def _inside(
    asked: Asked, walked: tuple[Chain, tuple[StageRow, ...]], place: int | None, feed: Feed, progress: Progress
) -> tuple[tuple[Guilty, ...], Blame | None]:
    """The guilty operators of the guilty stage."""
    chain, rows = walked
    if place is None:
        return (), None
    link = chain.links[place]
    if link.path is None:
        chain.notes.append(f"inside {rows[place].name!r} no operator can be read")
        return (), None
    progress.stage("operators", rows[place].name)
    parts = Parts(flat(load_model(link.path, external_data=True)))
    recorder = _recorder(chain, place, parts)
    if recorder is None:
        progress.done("the stage before it has no inner tensors to compare with")
        chain.notes.append("the stage before the guilty one has no inner tensors to compare with")
        return (), None
    precision = _precision(link.how, link.path)
    due = tolerance(precision, 1).max_relative_rms or 0.0
    if precision == "int8" and link.changes == "arithmetic":
        due = _ONE_QUANTISER
    if asked.limit is not None and link.how.precision == asked.pair.precision:
        products = sum(n.op_type in PRODUCTS for n in parts.nodes)
        due = min(due, asked.limit / math.sqrt(max(1, products)))  # errors of many layers add like a random walk
    suspect = Suspect(parts, opener(link.how), due)
    found = blame(recorder, suspect, feed)
    progress.done(f"{len(found.guilty)} guilty of {len(found.pieces)} compared")
    chain.notes += found.notes
    origins = inherited(parts.model, by_tensor(load_model(chain.raw)) if chain.raw else {})
    return tuple(_explained(asked, p, (recorder, suspect, link, feed), origins) for p in found.guilty), found


def _precision(how: How, path: Path) -> str:
    native = precision_of(path)
    return native if native != "fp32" else how.precision


def _recorder(chain: Chain, place: int, parts: Parts) -> Recorder | None:
    """The inner tensors of the stage before: of the same graph run plainly, of the parent's graph, or of PyTorch."""
    if chain.links[place].changes == "arithmetic":
        return GraphRecorder(parts, opener(How()))
    parent = chain.stages[place].parent
    while parent is not None:
        path = chain.links[parent].path
        if path is not None:
            return GraphRecorder(Parts(flat(load_model(path, external_data=True))), opener(How()))
        if parent and chain.program is not None:
            return chain.program
        parent = chain.stages[parent].parent
    return None


def _explained(
    asked: Asked,
    piece: Piece,
    how: tuple[Recorder, Suspect, Link, Feed],
    origins: Mapping[str, Provenance],
) -> Guilty:
    recorder, suspect, link, feed = how
    known = {name: origins[name] for name, _ in piece.nodes if name in origins}
    narrow = "fp16" in (link.how.precision, _precision(link.how, link.path) if link.path else "")
    advice = (
        *(text for r in piece.ranges if (text := r.advice) and (narrow or r.not_finite)),
        *saturated(recorder, suspect.parts, feed, piece),
    )
    made = Guilty(piece, known, advice)
    if asked.out is None:
        return made
    try:
        return replace(made, reproduction=_reproduce(asked.out, made, how))
    except AssayError as error:
        return replace(made, advice=(*advice, f"no reproduction was written: {error.message}"))


def _reproduce(out: Path, made: Guilty, how: tuple[Recorder, Suspect, Link, Feed]) -> Path:
    recorder, suspect, link, feed = how
    piece = made.piece
    known = dict(recorder.values(feed, [piece.tensor, *piece.inputs]))
    inputs = {n: known[n] if n in known else feed[n] for n in piece.inputs}
    model = suspect.parts.cut(piece.places, inputs, [piece.tensor])
    given = {v.name: inputs[v.name] for v in model.graph.input}
    try:
        with suspect.open(model) as run:
            candidate = dict(run(given))
    except AssayError:
        candidate = {}
    runtime = link.how.engine
    if runtime not in RUNTIMES:
        raise BadInput(f"there is no script for {runtime}; scripts exist for {', '.join(RUNTIMES)}")
    about = {
        "tensor": piece.tensor,
        "nodes": [f"{name} ({op})" for name, op in piece.nodes],
        "origins": {name: str(origin) for name, origin in made.origins.items()},
        "local_error": piece.local,
        "advice": list(made.advice),
    }
    settings = runtime_settings(runtime, link.how.precision, link.how.level or "all")
    case = Case(model, given, {piece.tensor: known[piece.tensor]}, candidate, piece.due, runtime, settings, about)
    return write_reproduction(out / _folder_name(piece.tensor), case)


def _folder_name(tensor: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in tensor)[:80]


def _diagnosis(
    asked: Asked,
    candidate: Prepared,
    walked: tuple[Chain, tuple[StageRow, ...], int | None],
    found: tuple[tuple[Guilty, ...], Blame | None, tuple[Mapped, ...]],
) -> Diagnosis:
    chain, rows, place = walked
    guilty_pieces, whom, mapping = found
    text = "every stage is within its due" if place is None else _sentence(rows[place], guilty_pieces)
    record = Record(
        "diagnose",
        candidate.candidate.subject(candidate.model.name),
        conditions={"reference": asked.pair.reference, "candidate": asked.pair.candidate},
        environment=environment(),
        details={
            "stages": [row.to_json() for row in rows],
            "guilty_stage": None if place is None else rows[place].name,
            "guilty": [g.to_json() for g in guilty_pieces],
            "pieces": [p.to_json() for p in whom.pieces] if whom else [],
            "found_by": whom.found_by if whom else None,
            "mapping": [m.to_json() for m in mapping],
            "notes": list(chain.notes),
            "limits": {"fp16_largest": FP16_LARGEST},
        },
    )
    reason = Reason("stages", "passed" if place is None else "failed", text, record.id)
    verdict = combine([reason], tuple(chain.notes), candidate.candidate.digest)
    return Diagnosis(rows, place, guilty_pieces, whom, mapping, tuple(chain.notes), record, verdict)


def _sentence(row: StageRow, pieces: Sequence[Guilty]) -> str:
    said = f": {row.text}" if row.text else ""
    added = "" if row.added is None else f" (adds {row.added:.2g}, due {row.due:.2g})"
    if not pieces:
        return f"{row.name} is to blame{added}{said}"
    first = pieces[0].piece
    nodes = ", ".join(f"{name} ({op})" for name, op in first.nodes[:4]) + (", …" if len(first.nodes) > 4 else "")
    origin = next((str(o) for o in pieces[0].origins.values()), "of unknown origin")
    return f"{row.name} is to blame{added}{said}; first at tensor {first.tensor!r}, made by {nodes}: {origin}"
