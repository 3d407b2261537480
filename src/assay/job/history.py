"""Past runs: an index of the run folders below one root.

The folders are the truth; ``.assay-index.sqlite`` in the root only makes listing them fast.  A folder
whose files changed is read again, one that is gone is dropped, and an index that is damaged, of another
version, or cannot be written is made anew (in memory where need be).
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from assay.core.errors import BadInput, UnknownName
from assay.core.record import Record
from assay.core.verdict import STATES
from assay.job.loaded import LoadedRun, load_folder, run_folders

INDEX = ".assay-index.sqlite"
VERSION = 1
_FILES = ("run.json", "records.jsonl", "verdict.json")
_SCHEMA = """
CREATE TABLE runs (path TEXT PRIMARY KEY, stamp TEXT, name TEXT, created TEXT, model TEXT, engines TEXT,
  verdict TEXT, best TEXT, batch INTEGER, throughput REAL, p50 REAL, records INTEGER, command TEXT, problem TEXT);
CREATE TABLE records (run TEXT, id TEXT, created TEXT, kind TEXT, status TEXT, model TEXT, engine TEXT,
  precision TEXT, device TEXT, batch INTEGER, scenario TEXT, throughput REAL, p50 REAL, accuracy REAL, label TEXT);
CREATE INDEX records_run ON records (run);
CREATE INDEX records_created ON records (created);
"""


@dataclass(frozen=True)
class RunEntry:
    """One run in the list.  ``engines`` are those with Records that are ok; ``verdict`` is None where nothing
    was judged; ``throughput`` (samples/s) and ``p50`` (s) are the chosen configuration's; ``problem`` says
    why a folder could not be read."""

    path: str
    name: str
    created: str | None
    model: str | None
    engines: tuple[str, ...]
    verdict: str | None
    best: str | None
    batch: int | None
    throughput: float | None
    p50: float | None
    records: int
    command: str | None
    problem: str | None


@dataclass(frozen=True)
class RecordEntry:
    """One Record in the list; figures as values: samples/s, seconds, the metric's own unit."""

    run: str
    id: str
    created: str
    kind: str
    status: str
    model: str | None
    engine: str | None
    precision: str | None
    device: str | None
    batch: int | None
    scenario: str | None
    throughput: float | None
    p50: float | None
    accuracy: float | None
    label: str | None


@dataclass(frozen=True)
class Wanted:
    """What to list; None asks nothing.  ``model`` is part of a name or a pattern with ``*``; dates are
    ``YYYY-MM-DD``, both included; ``verdict`` is a state, or ``none``."""

    model: str | None = None
    engine: str | None = None
    verdict: str | None = None
    since: str | None = None
    until: str | None = None


class History:
    """The runs below ``root``.  Use as a context manager; brings its index up to date when opened."""

    def __init__(self, root: Path, *, rebuild: bool = False) -> None:
        self.root = root
        self.notes: list[str] = []
        self._rebuild = rebuild

    def __enter__(self) -> History:
        folders = list(run_folders(self.root))
        place = self.root / INDEX
        if self._rebuild:
            self._remove(place)
        try:
            self._start(place, folders)
        except sqlite3.OperationalError as error:  # read-only, locked, no space
            self.notes.append(f"the index {place} cannot be kept ({error}); it is made in memory")
            self._start(":memory:", folders)
        except sqlite3.DatabaseError as error:
            self.notes.append(f"the index {place} was damaged ({error}) and is made anew")
            self._start(place if self._remove(place) else ":memory:", folders)
        return self

    def _start(self, place: Path | str, folders: Sequence[Path]) -> None:
        self._db = sqlite3.connect(place, timeout=5)
        try:
            self._db.row_factory = sqlite3.Row
            if self._db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                self._db.executescript("DROP TABLE IF EXISTS runs; DROP TABLE IF EXISTS records;" + _SCHEMA)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
            self._refresh(folders)
        except sqlite3.Error:
            self._db.close()
            raise

    def _remove(self, place: Path) -> bool:
        try:
            place.unlink(missing_ok=True)
        except OSError as error:
            self.notes.append(f"{place} cannot be removed: {error.strerror}")
            return False
        return True

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def runs(self, wanted: Wanted | None = None) -> list[RunEntry]:
        """Newest first.  Raises BadInput for a date, UnknownName for a verdict that is none."""
        where, values = _conditions(wanted or Wanted(), "runs")
        query = f"SELECT {_names(RunEntry)} FROM runs{where} ORDER BY created DESC, path"  # noqa: S608
        rows = self._db.execute(query, values)
        return [RunEntry(**{**dict(row), "engines": tuple(json.loads(row["engines"]))}) for row in rows]

    def records(self, wanted: Wanted | None = None) -> list[RecordEntry]:
        """Newest first."""
        where, values = _conditions(wanted or Wanted(), "records")
        query = f"SELECT {_names(RecordEntry)} FROM records{where} ORDER BY created DESC, rowid"  # noqa: S608
        return [RecordEntry(*row) for row in self._db.execute(query, values)]

    def find(self, name: str) -> Path:
        """A run by its path, its name or its place below the root.  Raises UnknownName with near names."""
        runs = self.runs()
        for candidate in (Path(name), self.root / name):
            if any(run.path == _key(candidate) for run in runs):
                return candidate.resolve()
        named = [Path(run.path) for run in runs if run.name == name]
        if len(named) == 1:
            return named[0]
        if named:
            raise BadInput(f"{len(named)} runs are named {name}", remedy=f"give the folder: {named[0]}")
        raise UnknownName("run", name, {run.name for run in runs})

    def _refresh(self, folders: Sequence[Path]) -> None:
        known = dict(self._db.execute("SELECT path, stamp FROM runs").fetchall())
        places = {_key(path): path.resolve() for path in folders}
        stamps = {key: _stamp(path) for key, path in places.items()}
        gone = [path for path in known if path not in stamps]
        changed = [path for path, stamp in stamps.items() if known.get(path) != stamp]
        if not gone and not changed:
            return
        with self._db:
            for path in (*gone, *changed):
                self._db.execute("DELETE FROM runs WHERE path = ?", (path,))
                self._db.execute("DELETE FROM records WHERE run = ?", (path,))
            for path in changed:
                self._read(places[path], stamps[path])

    def _read(self, path: Path, stamp: str) -> None:
        try:
            run = load_folder(path)
        except BadInput as error:
            entry = RunEntry(str(path), path.name, None, None, (), None, None, None, None, None, 0, None, error.message)
            self._insert("runs", [{**_row(entry), "stamp": stamp}])
            return
        self._insert("runs", [{**_row(entry_of(run)), "stamp": stamp}])
        self._insert("records", [_row(_record_entry(str(path), r)) for r in run.records])

    def _insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if rows:
            names = list(rows[0])
            marks = ", ".join(f":{n}" for n in names)
            self._db.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)  # noqa: S608


def entry_of(run: LoadedRun) -> RunEntry:
    """What the list shows of a run."""
    best = run.about.get("best") or {}
    figures = best.get("figures") or {}
    models = dict.fromkeys(r.subject.get("model") for r in run.records if r.subject.get("model"))
    engines = dict.fromkeys(r.subject.get("engine") for r in run.records if r.status == "ok")
    return RunEntry(
        path=str(run.path.resolve()),
        name=run.name,
        created=max((r.created for r in run.records), default=None),
        model=str(run.about.get("model") or ", ".join(map(str, models))) or None,
        engines=tuple(str(e) for e in engines if e),
        verdict=run.verdict.state if run.verdict else None,
        best=best.get("label"),
        batch=best.get("batch"),
        throughput=_first(figures, ("offline.throughput", "latency.throughput")),
        p50=_first(figures, ("latency.latency.p50", "offline.latency.p50")),
        records=len(run.records),
        command=run.about.get("command"),
        problem="; ".join(run.notes) or None,
    )


def _first(figures: dict[str, Any], names: Iterable[str]) -> float | None:
    values = (figures[n].get("value") for n in names if n in figures)
    return next((v for v in values if v is not None), None)


def _record_entry(run: str, record: Record) -> RecordEntry:
    subject, conditions = record.subject, record.conditions
    primary = record.details.get("primary") or "accuracy.top1"
    batch = conditions.get("batch", subject.get("batch"))
    return RecordEntry(
        run=run,
        id=record.id,
        created=record.created,
        kind=record.kind,
        status=record.status,
        model=_text(subject.get("model")),
        engine=_text(subject.get("engine")),
        precision=_text(subject.get("precision")),
        device=_text(subject.get("device_name") or subject.get("device")),
        batch=batch if isinstance(batch, int) else None,
        scenario=_text(conditions.get("scenario") or conditions.get("basis")),
        throughput=record.value("throughput"),
        p50=record.value("latency.p50"),
        accuracy=record.value(str(primary)) if record.kind == "evaluate" else None,
        label=record.label,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _row(entry: RunEntry | RecordEntry) -> dict[str, Any]:
    values = {f.name: getattr(entry, f.name) for f in fields(entry)}
    return {n: json.dumps(v) if isinstance(v, tuple) else _storable(v) for n, v in values.items()}


def _storable(value: Any) -> Any:
    """What SQLite can hold: it has neither half a surrogate pair (a file name's byte that is no UTF-8) nor integers
    of more than 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return float(value) if isinstance(value, int) and value.bit_length() > 63 else value


def _key(path: Path) -> str:
    """A run's place as the index has it."""
    return str(_storable(str(path.resolve())))


def _names(kind: type[RunEntry] | type[RecordEntry]) -> str:
    return ", ".join(f.name for f in fields(kind))


def _stamp(path: Path) -> str:
    """Changes when a file of the run does."""
    parts = []
    for name in _FILES:
        with contextlib.suppress(FileNotFoundError):
            found = (path / name).stat()
            parts.append(f"{name}:{found.st_mtime_ns}:{found.st_size}")
    return " ".join(parts)


def _conditions(wanted: Wanted, table: str) -> tuple[str, list[Any]]:
    """The WHERE clause and its values."""
    parts: list[str] = []
    values: list[Any] = []
    if wanted.model is not None:
        parts.append("lower(model) GLOB ?")
        values.append(_pattern(wanted.model))
    if wanted.engine is not None:
        if table == "runs":
            parts.append("EXISTS (SELECT 1 FROM json_each(engines) WHERE lower(value) = ?)")
        else:
            parts.append("lower(engine) = ?")
        values.append(wanted.engine.lower())
    if wanted.since is not None:
        parts.append("created >= ?")
        values.append(_day(wanted.since).isoformat())
    if wanted.until is not None:
        parts.append("created < ?")
        values.append((_day(wanted.until) + timedelta(days=1)).isoformat())
    if wanted.verdict is not None:
        parts.append(_verdict_clause(wanted.verdict, table, values))
    return (f" WHERE {' AND '.join(parts)}" if parts else ""), values


def _verdict_clause(state: str, table: str, values: list[Any]) -> str:
    state = state.replace(" ", "_")
    if state not in (*STATES, "none"):
        raise UnknownName("verdict", state, (*STATES, "none"))
    clause = "verdict IS NULL" if state == "none" else "verdict = ?"
    if state != "none":
        values.append(state)
    return clause if table == "runs" else f"run IN (SELECT path FROM runs WHERE {clause})"  # noqa: S608


def _pattern(text: str) -> str:
    """A part of a name, or a pattern of its own where it holds ``*``; nothing else is special."""
    literal = "".join(f"[{c}]" if c in "[?" else c for c in text.lower())
    return literal if "*" in text else f"*{literal}*"


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise BadInput(f"{text!r} is not a date", remedy="write it as 2026-11-30") from None
