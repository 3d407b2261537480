"""Which Records speak for a candidate: the latest of each kind, a confirming run before the first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.core.record import Record

SPEED_KINDS = ("measure", "confirm")
Case = tuple[str, int]


def of_candidate(records: Sequence[Record], digest: str) -> list[Record]:
    """The Records whose subject is this candidate, in their order."""
    return [r for r in records if r.subject.get("candidate") == digest]


def latest(records: Sequence[Record], kind: str) -> Record | None:
    return next((r for r in reversed(records) if r.kind == kind), None)


def speeds(records: Sequence[Record]) -> dict[Case, Record]:
    """Per (scenario, batch) the Record that counts, whatever its status: the last ``confirm`` where there is one.

    What a choice was made by is flattering to the winner; the run after the choice is not.
    """
    found: dict[Case, Record] = {}
    for kind in SPEED_KINDS:
        for record in records:
            if record.kind == kind:
                found[case_of(record)] = record
    return found


def case_of(record: Record) -> Case:
    return str(record.conditions.get("scenario", "latency")), int(record.conditions.get("batch") or 1)


def throughputs(records: Sequence[Record]) -> dict[int, Record]:
    """Per batch the Record a throughput is read from: the offline one where it was measured, else one caller's."""
    found = speeds(records)
    confirmed = {case for case, r in found.items() if r.kind == "confirm"}
    chosen: dict[int, Record] = {}
    for scenario in ("latency", "offline"):
        for (name, batch), record in found.items():
            if name == scenario and (record.status == "ok" or batch not in chosen):
                chosen[batch] = record
    only = {batch for _, batch in confirmed}
    return {b: r for b, r in chosen.items() if not only or b in only}


def why_missing(record: Record | None, figure: str) -> str:
    """Why a Record has no such figure, in words."""
    if record is None:
        return "it was not measured"
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    found = record.figures.get(figure)
    if found is None:
        return "it was not measured"
    return found.reason or "the value is missing"


def verified_batches(record: Record) -> set[int]:
    """Batch sizes with compared outputs in a verify Record's details (keys are text once read back)."""
    outputs: Any = record.details.get("outputs") or {}
    return {int(batch) for batch in outputs}
