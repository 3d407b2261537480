"""A bundle's golden outputs and its measurements, taken again here; what moved beyond noise is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.bundle.check import CheckResult, check
from assay.bundle.contents import Bundle, read_bundle
from assay.bundle.goldens import read_goldens
from assay.core import child
from assay.core.errors import EXIT_LIMIT_MISSED, AssayError
from assay.core.record import Record, read_records
from assay.core.tensors import Feed, Signature
from assay.core.units import Bytes, format_bytes
from assay.core.workload import StopRule, Workload
from assay.job.opening import here, open_packed
from assay.job.replay.moves import MOVED, Move, confirmed, moves
from assay.job.trial import Measured, Trial
from assay.measure.environment import environment

EVIDENCE = ("confirm", "measure")
"""Kinds of Records that hold speeds, the better evidence first."""
MACHINE = ("cpu", "cpu_flags", "cores_granted", "governor", "os", "machine", "python", "gpu_driver", "thread_env")
"""What of an environment is compared besides the versions of libraries."""
SCENARIOS = ("latency", "offline")
MOST_FEED_BYTES: Bytes = 2**29
MOST_CASES = 32
"""Scenarios and batch sizes that are measured again; a run packs a handful."""
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
    recorded, left = _evidence(bundle)
    open_ones = (*left, ACCURACY)
    if not recorded:
        left = left or ("speed: the bundle has no measurement of its engine",)
        return Replayed(checked, changes, not_checked=(*left, ACCURACY))
    try:
        moved, fresh = _twice(bundle, recorded, request)
    except AssayError as error:
        return Replayed(checked, changes, failed=(f"speed: {error.message}",), not_checked=open_ones)
    failed = tuple(f"{r.conditions['scenario']}, batch {r.conditions['batch']}: {r.reason}" for r in fresh if r.reason)
    return Replayed(checked, changes, tuple(moved), tuple(fresh), open_ones, failed)


def _twice(bundle: Bundle, recorded: Sequence[Record], request: Replay) -> tuple[list[Move], list[Record]]:
    """Every case once; those that moved a second time, in another process: only what both show is told as a move."""
    fresh = _measure_again(bundle, recorded, request)
    found = [moves(old, new, request.margin) for old, new in zip(recorded, fresh, strict=True)]
    doubtful = [i for i, told in enumerate(found) if any(move.state in MOVED for move in told)]
    if doubtful:
        again = _measure_again(bundle, [recorded[i] for i in doubtful], request)
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


def _evidence(bundle: Bundle) -> tuple[list[Record], tuple[str, ...]]:
    """One Record for each scenario and batch size of the packed candidate, a confirming run before a choosing one;
    and what of them is too much to be measured again."""
    path = bundle.folder / "records.jsonl"
    records = read_records(path)[0] if path.is_file() else []
    found: dict[tuple[str, int], Record] = {}
    for kind in EVIDENCE:
        for record in records:
            scenario, batch = str(record.conditions.get("scenario")), record.conditions.get("batch")
            mine = record.subject.get("candidate") == bundle.candidate.digest and record.kind == kind
            if mine and record.status == "ok" and scenario in SCENARIOS and isinstance(batch, int) and batch > 0:
                found.setdefault((scenario, batch), record)
    row_bytes = _row_bytes(bundle)
    small = {case: r for case, r in found.items() if case[1] * row_bytes <= MOST_FEED_BYTES}
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


@dataclass(frozen=True)
class GoldenRows(Mapping[int, Sequence[Feed]]):
    """Batch size -> one feed of so many rows, made when it is asked for: only the goldens travel to the child."""

    goldens: tuple[Feed, ...]
    signature: Signature
    sizes: tuple[int, ...]

    def __getitem__(self, batch: int) -> Sequence[Feed]:
        if batch not in self.sizes:
            raise KeyError(batch)
        return [rows_of(self.goldens, self.signature, batch)]

    def __iter__(self) -> Iterator[int]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


def _measure_again(bundle: Bundle, recorded: Sequence[Record], request: Replay) -> list[Record]:
    """In a process of its own, as it was measured the first time; one Record for each of ``recorded``."""
    stop = StopRule(max_s=request.seconds)
    workloads = tuple(Workload(r.conditions["scenario"], int(r.conditions["batch"]), stop) for r in recorded)
    goldens = tuple(feed for feed, _ in read_goldens(bundle.folder, bundle.signature).pairs)
    feeds = GoldenRows(goldens, bundle.signature, tuple(sorted({w.batch for w in workloads})))
    assert bundle.artifact is not None
    candidate = replace(bundle.candidate, artifact=bundle.artifact)
    arguments = {"candidate": candidate, "opening": None, "trial": Trial(workloads, feeds)}
    limits = child.Limits(timeout_s=120.0 + 4 * request.seconds * len(workloads))
    found = child.run("assay.job.trial:measure_candidate", arguments, limits).value
    assert isinstance(found, Measured)
    return [_record(bundle, record, found) for record in recorded]


def rows_of(feeds: Sequence[Feed], signature: Signature, batch: int) -> dict[str, Any]:
    """One feed of ``batch`` rows, the golden rows taking turns; an input without a batch axis stays as it is."""
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
    about = {name: recorded.conditions[name] for name in ("real_data", "sizes") if name in recorded.conditions}
    return replace(
        fresh,
        figures=measured.figures,
        conditions={**measured.conditions, "data": "golden inputs", **about},
        label=measured.label,
        warnings=tuple(str(w) for w in measured.warnings),
    )
