"""Record: one piece of evidence, and the append-only file it lives in.

Change log of the schema (old files stay readable; ``upgrade`` brings them forward):

* ``assay.record/1`` — first version.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from assay.core import checked, clock
from assay.core.errors import BadInput, StorageFailed
from assay.core.lock import hold

SCHEMA = "assay.record/1"
STATUSES = ("ok", "skipped", "failed")
_RAW = ("path", "sha256", "unit")
_NAMES = ("run", "model", "candidate", "artifact", "engine", "engine_version", "precision", "device", "device_name")
"""What Records are joined and listed by."""
_CASE = ("scenario", "basis", "data", "evidence", "reference", "run_reference", "reference_candidate")


@dataclass(frozen=True)
class Figure:
    """A number with its unit and interval, or null with the reason why there is none.

    ``low``..``high`` covers the true value with probability ``confidence``; ``n`` is the
    number of observations behind it.
    """

    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: int | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        if self.value is None or not math.isfinite(self.value):
            reason = self.reason or f"the value is {self.value}, not a finite number"
            return {"value": None, "unit": self.unit, "reason": reason, "n": self.n}
        data: dict[str, Any] = {"value": float(self.value), "unit": self.unit}
        for name in ("low", "high", "confidence"):
            bound = getattr(self, name)
            if bound is not None and math.isfinite(bound):
                data[name] = float(bound)
        if self.n is not None:
            data["n"] = int(self.n)
        if self.reason is not None:
            data["reason"] = self.reason
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Figure:
        """Raises KeyError where the unit is missing, TypeError for a value of a wrong kind, ValueError for one that
        no float64 holds."""
        value, low, high, confidence = (checked.number(data, name) for name in ("value", "low", "high", "confidence"))
        n, reason = checked.optional(data, "n", int), checked.optional(data, "reason", str)
        return cls(value, checked.field(data, "unit", str), low, high, confidence, n, reason)


def withheld(unit: str, reason: str, n: int | None = None) -> Figure:
    """A figure that cannot honestly be given."""
    return Figure(None, unit, reason=reason, n=n)


@dataclass(frozen=True)
class RawSamples:
    """Where the raw values behind a Record are (relative to the run folder), and their digest."""

    path: str
    sha256: str
    unit: str


@dataclass(frozen=True)
class Record:
    """One measurement of one subject under stated conditions; "skipped, because …" is one too.

    ``kind`` names what was done (``export``, ``verify``, ``build``, ``evaluate``, ``measure``, …).
    ``details`` holds what has no single number: per-output tables, attestations, logs.
    """

    kind: str
    subject: Mapping[str, Any]
    status: str = "ok"
    figures: Mapping[str, Figure] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    label: str | None = None
    reason: str | None = None
    warnings: tuple[str, ...] = ()
    raw: RawSamples | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    created: str = field(default_factory=clock.timestamp)
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:16])

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise BadInput(f"a record's status is one of {', '.join(STATUSES)}, not {self.status!r}")
        if self.status != "ok" and not self.reason:
            raise BadInput(f"a record that is {self.status} says why")

    def value(self, name: str) -> float | None:
        """The figure's value, or None when it is absent or withheld."""
        figure = self.figures.get(name)
        return None if figure is None else figure.value

    def primary(self) -> str | None:
        """The figure an evaluation is about: the one its details name, else top-1, else the first that is no drop."""
        named = self.details.get("primary")
        for name in (named, f"accuracy.{named}", "accuracy.top1"):
            if name in self.figures:
                return str(name)
        return next((name for name in self.figures if not name.endswith("drop")), None)

    def to_json(self) -> dict[str, Any]:
        raw = None if self.raw is None else {"path": self.raw.path, "sha256": self.raw.sha256, "unit": self.raw.unit}
        return {
            "schema": SCHEMA,
            "id": self.id,
            "created": self.created,
            "kind": self.kind,
            "status": self.status,
            "reason": self.reason,
            "subject": dict(self.subject),
            "conditions": dict(self.conditions),
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "label": self.label,
            "warnings": list(self.warnings),
            "raw": raw,
            "details": dict(self.details),
            "environment": dict(self.environment),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        data = upgrade(data)
        raw, details = data["raw"], checked.field(data, "details", dict)
        if data["kind"] in ("verify", "evaluate"):
            _check_details(details)
        subject, conditions = checked.field(data, "subject", dict), checked.field(data, "conditions", dict)
        for named in (subject, conditions):
            checked.optional(named, "batch", int)
        for name in _NAMES:
            checked.optional(subject, name, str)
        for name in _CASE:
            checked.optional(conditions, name, str)
        for named, names in ((subject, ("threads", "streams", "instances")), (conditions, ("samples", "available"))):
            for name in names:
                checked.number(named, name)
        return cls(
            kind=checked.field(data, "kind", str),
            subject=subject,
            status=checked.field(data, "status", str),
            figures={name: Figure.from_json(f) for name, f in checked.field(data, "figures", dict).items()},
            conditions=conditions,
            environment=checked.field(data, "environment", dict),
            label=checked.optional(data, "label", str),
            reason=checked.optional(data, "reason", str),
            warnings=checked.each(data, "warnings", str),
            raw=None if raw is None else RawSamples(*(checked.field(raw, name, str) for name in _RAW)),
            details=details,
            created=checked.field(data, "created", str),
            id=checked.field(data, "id", str),
        )


def _check_details(details: Mapping[str, Any]) -> None:
    """What verdicts and reports read of a comparison and an evaluation.  Raises KeyError, TypeError."""
    for name, kind in (
        ("class", str),
        ("primary", str),
        ("outputs", dict),
        ("tolerance", dict),
        ("counts", dict),
        ("failures", list),
    ):
        checked.optional(details, name, kind)
    for name in ("self_check", "flipped"):
        if details.get(name) is not None:
            checked.each(details, name, dict)
    for finding in details.get("self_check") or ():
        for name in ("name", "state", "text"):
            checked.field(finding, name, str)


def upgrade(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Bring a record of an older schema to the current one.  Raises BadInput for a newer or unknown schema."""
    found = data.get("schema")
    if found != SCHEMA:
        raise BadInput(f"record schema {found!r} is not known here (this is {SCHEMA})", remedy="upgrade assay")
    return data


class RecordLog:
    """Appends Records to one JSONL file, one writer at a time.

    Use as a context manager.  Raises StorageFailed when another process writes here, or when
    the disk is full or read-only.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def __enter__(self) -> RecordLog:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = self.path.with_suffix(".lock").open("w")
        except OSError as error:
            raise StorageFailed(f"cannot write in {self.path.parent}: {error.strerror}") from error
        try:
            hold(lock)
        except OSError:
            lock.close()
            raise StorageFailed(
                f"another assay process is writing to {self.path.parent}", remedy="wait for it, or use another --out"
            ) from None
        self._lock = lock
        try:
            _end_last_line(self.path)
        except OSError as error:
            self.__exit__()
            raise StorageFailed(f"cannot write {self.path}: {error.strerror}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def append(self, record: Record) -> Record:
        """Write one line and flush it to disk before returning; where that fails, nothing of it is left."""
        if self._lock is None:
            raise StorageFailed("this record log is not open for writing")
        try:
            _append(self.path, as_line(record).encode())
        except OSError as error:
            raise StorageFailed(f"cannot write {self.path}: {error.strerror}") from error
        return record


def as_line(record: Record) -> str:
    """The line a record file holds, with its end: JSON in which a number that is not finite is its name."""
    return json.dumps(plain(record.to_json()), allow_nan=False) + "\n"


def _append(path: Path, line: bytes) -> None:
    """All of ``line`` or nothing: a next record would go on in the middle of a torn one.  Raises OSError."""
    with path.open("ab", buffering=0) as file:
        start = file.tell()
        try:
            while line:
                line = line[file.write(line) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(start)
            raise


def read_records(path: Path) -> tuple[list[Record], list[str]]:
    """All Records of a file and what there is to say about it: a torn last line is dropped and said.

    Raises BadInput, with the line number, for a broken line anywhere else.
    """
    if not path.is_file():
        raise BadInput(f"there is no record file {path}")
    records: list[Record] = []
    for number, line, is_last in _lines(path):
        try:
            records.append(Record.from_json(checked.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if is_last and not line.endswith("\n"):
                return records, [
                    f"{path.name}: the last line (line {number}) was torn by an interrupted write; dropped"
                ]
            raise BadInput(f"{path}:{number}: not a record ({error})") from error
    return records, []


def _lines(path: Path) -> Iterator[tuple[int, str, bool]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = file.readlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, line, number == len(lines)


def _end_last_line(path: Path) -> None:
    """Cut a torn last line away, so that the next record starts on a line of its own.

    A whole record that only lacks its newline (``read_records`` reads it) is kept.
    """
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        content = file.read()
        if not content or content.endswith(b"\n"):
            return
        start = content.rfind(b"\n") + 1
        try:
            json.loads(content[start:])
        except (ValueError, RecursionError):
            file.truncate(start)
        else:
            file.write(b"\n")


def plain(value: Any) -> Any:
    """Plain JSON: numpy scalars and arrays unwrapped, paths as text; a number that is not finite becomes its name."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)
