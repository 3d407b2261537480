"""A bundle's golden outputs and its measurements, taken again here; what moved beyond noise is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.bundle.check import CheckResult, check
from assay.bundle.contents import Bundle, read_bundle
from assay.bundle.goldens import read_goldens
from assay.core import child
from assay.core.errors import EXIT_LIMIT_MISSED, AssayError, BadInput
from assay.core.record import Record
from assay.core.tensors import Feed, Signature
from assay.core.units import Bytes
from assay.core.workload import StopRule, Workload
from assay.job.opening import here, open_packed
from assay.job.replay.moves import Move, moves
from assay.job.trial import Measured, Trial
from assay.measure.environment import environment

EVIDENCE = ("confirm", "measure")
"""Kinds of Records that hold speeds, the better evidence first."""
MOST_FEED_BYTES: Bytes = 2**31
ACCURACY = "accuracy on the dataset was not evaluated again; assay evaluate does that on the data"


@dataclass(frozen=True)
class Replay:
    """``margin`` is the ratio's distance from 1 that counts at all; ``seconds`` each measurement may take."""

    bundle: Path
    digest: str | None = None
    trust: bool = False
    seconds: float = 3.0
    margin: float = 0.05


@dataclass(frozen=True)
class Replayed:
    """``changes`` are the differences of library versions, ``not_checked`` what this could not show and why."""

    check: CheckResult
    changes: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    records: tuple[Record, ...] = ()
    not_checked: tuple[str, ...] = ()
    failed: tuple[str, ...] = field(default=())

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
        }


def replay(request: Replay) -> Replayed:
    """Check the bundle, then measure again what its Records measured of the packed candidate.

    Nothing is measured when the check fails: a model that gives other outputs has no comparable speed.
    Raises BadInput for a folder that is no bundle, UntrustedCode as ``assay check`` does.
    """
    checked = check(request.bundle, open_packed, request.digest, trust=request.trust, here=here)
    if not checked.ok:
        return Replayed(checked, not_checked=("speed: the bundle did not pass its check",))
    bundle = read_bundle(request.bundle)
    changes = _changes(bundle.environment, environment())
    recorded = _evidence(bundle)
    if not recorded:
        return Replayed(checked, changes, not_checked=("speed: the bundle has no measurement of its engine", ACCURACY))
    try:
        found = _measure_again(bundle, recorded, request)
    except AssayError as error:
        return Replayed(checked, changes, failed=(f"speed: {error.message}",), not_checked=(ACCURACY,))
    fresh = [_record(bundle, record, found) for record in recorded]
    moved = [m for old, new in zip(recorded, fresh, strict=True) for m in moves(old, new, request.margin)]
    failed = tuple(f"{r.conditions['scenario']}, batch {r.conditions['batch']}: {r.reason}" for r in fresh if r.reason)
    return Replayed(checked, changes, tuple(moved), tuple(fresh), (ACCURACY,), failed)


def _changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Library versions and the parts of the machine that are not what they were."""
    found = [
        f"{name}: {then.get(name)} then, {now.get(name)} now"
        for name in ("cpu", "cores_granted", "os", "python")
        if then.get(name) != now.get(name)
    ]
    before, after = then.get("versions") or {}, now.get("versions") or {}
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            found.append(f"{name}: {before.get(name, 'not there')} then, {after.get(name, 'not there')} now")
    return tuple(found)


def _evidence(bundle: Bundle) -> list[Record]:
    """One Record for each scenario and batch size of the packed candidate; a confirming run before a choosing one."""
    found: dict[tuple[Any, Any], Record] = {}
    for kind in EVIDENCE:
        for record in bundle_records(bundle):
            mine = record.subject.get("candidate") == bundle.candidate.digest
            if record.kind == kind and record.status == "ok" and mine:
                found.setdefault((record.conditions.get("scenario"), record.conditions.get("batch")), record)
    return [r for (scenario, batch), r in found.items() if scenario in ("latency", "offline") and _is_size(batch)]


def _is_size(batch: Any) -> bool:
    return isinstance(batch, int) and not isinstance(batch, bool) and batch > 0


def bundle_records(bundle: Bundle) -> list[Record]:
    from assay.core.record import read_records

    path = bundle.folder / "records.jsonl"
    return read_records(path)[0] if path.is_file() else []


def _measure_again(bundle: Bundle, recorded: Sequence[Record], request: Replay) -> Measured:
    """In a process of its own, as it was measured the first time."""
    stop = StopRule(max_s=request.seconds)
    workloads = tuple(Workload(r.conditions["scenario"], int(r.conditions["batch"]), stop) for r in recorded)
    pairs = read_goldens(bundle.folder, bundle.signature).pairs
    feeds = {w.batch: [rows_of([feed for feed, _ in pairs], bundle.signature, w.batch)] for w in workloads}
    assert bundle.artifact is not None
    candidate = replace(bundle.candidate, artifact=bundle.artifact)
    arguments = {"candidate": candidate, "opening": None, "trial": Trial(workloads, feeds)}
    limits = child.Limits(timeout_s=120.0 + 4 * request.seconds * len(workloads))
    found = child.run("assay.job.trial:measure_candidate", arguments, limits).value
    assert isinstance(found, Measured)
    return found


def rows_of(feeds: Sequence[Feed], signature: Signature, batch: int) -> dict[str, Any]:
    """One feed of ``batch`` rows, the golden rows taking turns; an input without a batch axis stays as it is.

    Raises BadInput for more than MOST_FEED_BYTES.
    """
    row_bytes = sum(feeds[0][spec.name].nbytes for spec in signature.inputs)
    if batch * row_bytes > MOST_FEED_BYTES:
        raise BadInput(f"the Records speak of a batch of {batch}: more than {MOST_FEED_BYTES} bytes of input")
    made = {}
    for spec in signature.inputs:
        arrays = [feed[spec.name] for feed in feeds]
        if spec.batch_axis is None:
            made[spec.name] = arrays[0]
            continue
        rows = np.concatenate(arrays, axis=spec.batch_axis)
        turns = np.arange(batch) % rows.shape[spec.batch_axis]
        made[spec.name] = np.ascontiguousarray(np.take(rows, turns, axis=spec.batch_axis))
    return made


def _record(bundle: Bundle, recorded: Record, found: Measured) -> Record:
    """The fresh measurement, of kind ``replay``; its details name the Record it is held against."""
    case = (recorded.conditions["scenario"], recorded.conditions["batch"])
    fresh = Record(
        "replay",
        dict(recorded.subject),
        conditions={"scenario": case[0], "batch": case[1]},
        environment=environment(),
        details={"replays": recorded.id, "bundle": str(bundle.folder)},
    )
    if case in found.refused:
        return replace(fresh, status="failed", reason=found.refused[case])
    measured = found.measurements[case]
    real = recorded.conditions.get("real_data")
    return replace(
        fresh,
        figures=measured.figures,
        conditions={**measured.conditions, "data": "golden inputs", "real_data": real},
        label=measured.label,
        warnings=tuple(str(w) for w in measured.warnings),
    )
