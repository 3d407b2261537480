"""A bundle's golden outputs and its measurements, taken again here; what moved beyond noise is said."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from assay.bundle.check import CheckResult, OpenSession, check
from assay.bundle.contents import Bundle, read_bundle
from assay.bundle.goldens import read_goldens
from assay.core import child
from assay.core.engine import Candidate
from assay.core.errors import EXIT_LIMIT_MISSED, AssayError
from assay.core.record import Record, read_records
from assay.core.units import Bytes, format_bytes
from assay.core.workload import StopRule, Workload
from assay.job.opening import harmless_options, here, open_packed
from assay.job.replay.golden_rows import GoldenRows
from assay.job.replay.moves import MOVED, Move, confirmed, moves
from assay.job.replay.other_file import OtherFile, read_other
from assay.job.trial import Measured, Trial
from assay.measure.environment import environment

EVIDENCE = ("confirm", "measure")
"""Kinds of Records that hold speeds, the better evidence first; each kind is measured in a process of its own."""
MACHINE = ("cpu", "cpu_flags", "cores_granted", "governor", "os", "machine", "python", "gpu_driver", "thread_env")
"""What of an environment is compared besides the versions of libraries."""
SCENARIOS = ("latency", "offline")
MOST_FEED_BYTES: Bytes = 2**29
MOST_CASES = 32
"""Scenarios and batch sizes that are measured again; a run packs a handful."""
Recorded = tuple[Record, ...]
"""What a bundle holds of one scenario and batch size, from different processes, the better evidence first."""
ACCURACY = "accuracy on the dataset was not evaluated again; assay evaluate does that on the data"


@dataclass(frozen=True)
class Replay:
    """``margin`` is the ratio's distance from 1 that counts at all; ``seconds`` each measurement may take.

    ``model`` is an ONNX file that takes the place of the one the bundle was made from.
    """

    bundle: Path
    digest: str | None = None
    trust: bool = False
    seconds: float = 3.0
    margin: float = 0.05
    model: Path | None = None


@dataclass(frozen=True)
class Replayed:
    """``changes`` are the differences of the model's file, of library versions and of the machine, ``not_checked`` what
    this could not show and why.  ``model`` is the file that stood in the place of the bundle's own, if one did."""

    check: CheckResult
    changes: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    records: tuple[Record, ...] = ()
    not_checked: tuple[str, ...] = ()
    failed: tuple[str, ...] = field(default=())
    model: Mapping[str, Any] | None = None

    @property
    def exit_code(self) -> int:
        """0; 1 for outputs that differ, a measurement that failed or a speed that is worse; 3 as ``assay check``."""
        if self.check.exit_code:
            return self.check.exit_code
        worse = any(move.state == "worse" for move in self.moves)
        return EXIT_LIMIT_MISSED if worse or self.failed else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "check": self.check.to_json(),
            "changes": list(self.changes),
            "moves": [move.to_json() for move in self.moves],
            "not_checked": list(self.not_checked),
            "failed": list(self.failed),
            "model": None if self.model is None else dict(self.model),
        }


def replay(request: Replay) -> Replayed:
    """Check the bundle, then measure again what its Records measured of the packed candidate.

    With ``request.model`` that file is checked against the golden outputs and measured, as the bundle's own would be.
    Nothing is measured when the check fails: a model that gives other outputs has no comparable speed.
    Raises BadInput for a folder that is no bundle and for a model that cannot stand in it, UntrustedCode as
    ``assay check`` does.
    """
    if request.model is None:
        return _replay(request, _check(request, open_packed), None)
    given = read_other(request.model)
    with tempfile.TemporaryDirectory(prefix="assay-replay-") as folder:
        other = OtherFile(request.bundle, request.model, given, Path(folder))
        return _replay(request, other.told(_check(request, other.open)), other)


def _check(request: Replay, opened: OpenSession) -> CheckResult:
    return check(request.bundle, opened, request.digest, trust=request.trust, here=here, harmless=harmless_options)


def _replay(request: Replay, checked: CheckResult, other: OtherFile | None) -> Replayed:
    """``other`` is what ran the golden inputs in the place of the packed file, if anything did."""
    why = "the bundle did not pass its check" if other is None else other.why_unmeasured(checked)
    found = Replayed(checked, not_checked=(f"speed: {why}",))
    if not checked.ok and (other is None or other.candidate is None):
        return found
    bundle = read_bundle(request.bundle)
    assert bundle.artifact is not None
    recorded, left = _evidence(bundle)
    candidate = replace(bundle.candidate, artifact=bundle.artifact)
    found = replace(found, changes=_changes(bundle.environment, environment()))
    if other is not None:
        candidate = other.opened
        found = replace(
            found, changes=(*other.changes(bundle, _records(bundle)), *found.changes), model=other.to_json()
        )
        if checked.ok:
            checked = other.judged(checked, sorted({int(r[0].conditions["batch"]) for r in recorded}))
    if not checked.ok:
        return replace(found, check=checked)
    left = left if recorded or left else ("speed: the bundle has no measurement of its engine",)
    found = replace(found, check=checked, not_checked=(*left, ACCURACY))
    if not recorded:
        return found
    try:
        moved, fresh = _twice(bundle, candidate, recorded, request)
    except AssayError as error:
        return replace(found, failed=(f"speed: {error.message}",))
    refused = tuple(f"{r.conditions['scenario']}, batch {r.conditions['batch']}: {r.reason}" for r in fresh if r.reason)
    return replace(found, moves=tuple(moved), records=tuple(fresh), failed=refused)


def _twice(
    bundle: Bundle, candidate: Candidate, recorded: Sequence[Recorded], request: Replay
) -> tuple[list[Move], list[Record]]:
    """Every case once; those that moved a second time, in another process: only what both show is told as a move."""
    fresh = _measure_again(bundle, candidate, recorded, request)
    found = [moves(old, new, request.margin) for old, new in zip(recorded, fresh, strict=True)]
    doubtful = [i for i, told in enumerate(found) if any(move.state in MOVED for move in told)]
    if doubtful:
        again = _measure_again(bundle, candidate, [recorded[i] for i in doubtful], request)
        for i, new in zip(doubtful, again, strict=True):
            second = moves(recorded[i], new, request.margin)
            found[i] = [confirmed(*pair) for pair in zip(found[i], second, strict=True)]
        fresh = [*fresh, *again]
    return [move for told in found for move in told], fresh


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Library versions and the parts of the machine that are not what they were."""
    found = [
        f"{name}: {then.get(name)} then, {now.get(name)} now" for name in MACHINE if then.get(name) != now.get(name)
    ]
    before, after = then.get("versions"), now.get("versions")
    before, after = (v if isinstance(v, Mapping) else {} for v in (before, after))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            found.append(f"{name}: {before.get(name, 'not there')} then, {after.get(name, 'not there')} now")
    return tuple(found)


def _records(bundle: Bundle) -> list[Record]:
    path = bundle.folder / "records.jsonl"
    return read_records(path)[0] if path.is_file() else []


def _evidence(bundle: Bundle) -> tuple[list[Recorded], tuple[str, ...]]:
    """The Records of each scenario and batch size of the packed candidate, one of each kind, a confirming run before a
    choosing one; and what of them is too much to be measured again."""
    records = _records(bundle)
    found: dict[tuple[str, int], dict[str, Record]] = {}
    for kind in EVIDENCE:
        for record in records:
            scenario, batch = str(record.conditions.get("scenario")), record.conditions.get("batch")
            mine = record.subject.get("candidate") == bundle.candidate.digest and record.kind == kind
            if mine and record.status == "ok" and scenario in SCENARIOS and isinstance(batch, int) and batch > 0:
                found.setdefault((scenario, batch), {}).setdefault(kind, record)
    row_bytes = _row_bytes(bundle)
    small = {case: tuple(r.values()) for case, r in found.items() if case[1] * row_bytes <= MOST_FEED_BYTES}
    large = sorted(found.keys() - small)
    left = [f"speed, {s}, batch {b}: more than {format_bytes(MOST_FEED_BYTES)} of input" for s, b in large[:3]]
    if len(large) > 3:
        left.append(f"speed of {len(large) - 3} more batch sizes: more than {format_bytes(MOST_FEED_BYTES)} of input")
    if len(small) > MOST_CASES:
        left.append(f"speed: {len(small) - MOST_CASES} of the bundle's {len(small)} measurements were not made again")
    return list(small.values())[:MOST_CASES], tuple(left)


def _row_bytes(bundle: Bundle) -> Bytes:
    feed = read_goldens(bundle.folder, bundle.signature).pairs[0][0]
    return sum(feed[spec.name].nbytes for spec in bundle.signature.inputs)


def _measure_again(bundle: Bundle, candidate: Candidate, recorded: Sequence[Recorded], request: Replay) -> list[Record]:
    """In a process of its own, as it was measured the first time; one Record for each of ``recorded``."""
    stop = StopRule(max_s=request.seconds)
    workloads = tuple(Workload(r[0].conditions["scenario"], int(r[0].conditions["batch"]), stop) for r in recorded)
    goldens = tuple(feed for feed, _ in read_goldens(bundle.folder, bundle.signature).pairs)
    feeds = GoldenRows(goldens, bundle.signature, tuple(sorted({w.batch for w in workloads})))
    arguments = {"candidate": candidate, "opening": None, "trial": Trial(workloads, feeds)}
    limits = child.Limits(timeout_s=120.0 + 4 * request.seconds * len(workloads))
    found = child.run("assay.job.trial:measure_candidate", arguments, limits).value
    assert isinstance(found, Measured)
    about: dict[str, Any] = {"bundle": str(bundle.folder)}
    if request.model is None:
        return [_record(dict(r[0].subject), about, r, found) for r in recorded]
    about["model"] = str(request.model)
    return [
        _record(candidate.subject(request.model.stem, w.batch), about, r, found)
        for r, w in zip(recorded, workloads, strict=True)
    ]


def _record(subject: dict[str, Any], about: Mapping[str, Any], recorded: Recorded, found: Measured) -> Record:
    """The fresh measurement, of kind ``replay``; its details name the Records it is held against."""
    old = recorded[0].conditions
    case = (old["scenario"], old["batch"])
    fresh = Record(
        "replay",
        subject,
        conditions={"scenario": case[0], "batch": case[1]},
        environment=environment(),
        details={"replays": recorded[0].id, "held_against": [r.id for r in recorded], **about},
    )
    if case in found.refused:
        return replace(fresh, status="failed", reason=found.refused[case])
    measured = found.measurements[case]
    given = {name: old[name] for name in ("real_data", "sizes") if name in old}
    return replace(
        fresh,
        figures=measured.figures,
        conditions={**measured.conditions, "data": "golden inputs", **given},
        label=measured.label,
        warnings=tuple(str(w) for w in measured.warnings),
    )
