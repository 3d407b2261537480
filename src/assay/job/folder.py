"""The run folder: where every stage saves what it made, the moment it ends.

``stages/NAME.json`` holds a stage's key, its result and the ids of the Records it wrote.  A stage
whose key is unchanged is not run again; Records of superseded stages stay in ``records.jsonl``
(it is append-only) but are no longer current.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core import checked, clock
from assay.core.artifact import Artifact, digest_files
from assay.core.errors import BadInput, StorageFailed
from assay.core.record import Figure, Record, RecordLog, plain, read_records
from assay.job.last_words import BEGUN, Ended, Word, read_ended

LONGEST_NAME = 48
"""Letters of a model's name in a folder's: of four bytes each, a folder's name has room for them."""


@dataclass(frozen=True)
class Saved:
    """What a finished stage left behind."""

    key: str
    result: Mapping[str, Any]
    records: tuple[str, ...]


class RunFolder:
    """One run on disk.  Use as a context manager to write; one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = RecordLog(path / "records.jsonl")
        self.notes: list[str] = []
        self.ended: dict[str, Ended] = {}
        """By stage: runs of this folder that ended without a word in it, until it ends well."""
        self._new = False
        self._records: dict[str, Record] = {}
        self._visited: list[str] = []

    def __enter__(self) -> RunFolder:
        self._new = not self.path.exists()
        self.log.__enter__()
        try:
            for name in ("stages", "samples", "artifacts"):
                (self.path / name).mkdir(exist_ok=True)
            if self.log.path.exists():
                records, self.notes = read_records(self.log.path)
                self._records = {r.id: r for r in records}
            self._look_for_suspects()
        except OSError as error:
            self.log.__exit__()
            raise StorageFailed(f"cannot write in {self.path}: {error.strerror}") from error
        except BaseException:
            self.log.__exit__()  # nobody leaves a folder that was not entered
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.log.__exit__()
        if self._new and not self._records and not self._visited:  # nothing was begun: leave nothing behind
            shutil.rmtree(self.path, ignore_errors=True)

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    def append(self, record: Record) -> Record:
        self._records[record.id] = self.log.append(record)
        return record

    def finished(self, stage: str, key: str) -> Saved | None:
        """What ``stage`` left under ``key``; None when it never ended, its key changed or its files are gone."""
        self._visit(stage)
        saved = self._read(stage)
        if saved is None or saved.key != key or any(r not in self._records for r in saved.records):
            return None
        return saved if self._files_whole(saved.result) else None

    def save(self, stage: str, key: str, result: Mapping[str, Any], records: Iterable[Record]) -> Saved:
        """Append ``records``, then mark the stage as ended.  Killed in between, the stage runs again."""
        self._visit(stage)
        ids = tuple(self.append(r).id for r in records)
        saved = Saved(key, result, ids)
        write_json(self._stage_file(stage), {"key": key, "result": result, "records": list(ids)})
        return saved

    def begin(self, stage: str, what: str, candidates: Sequence[str]) -> Word:
        """Leave word that ``stage`` runs candidates (by digest) in this process, which they may take along.  The word's
        ``end`` takes it back."""
        together = [e.crashes for e in self.ended.values() if set(e.candidates) == set(candidates)]
        word = Word(self.path / "stages", stage)
        word.begin(what, candidates, max(together, default=0), write_json)
        return word

    def ended_in(self, stage: str) -> Ended | None:
        """The last run that ended without a word during ``stage``."""
        return self.ended.get(stage)

    def current(self) -> list[Record]:
        """The Records of the stages of this run, in the order of the stages."""
        found = [r for stage in self._visited for r in self._ids(stage)]
        return [self._records[i] for i in dict.fromkeys(found) if i in self._records]

    def records_of(self, saved: Saved) -> list[Record]:
        return [self._records[i] for i in saved.records]

    def _ids(self, stage: str) -> Sequence[str]:
        saved = self._read(stage)
        return saved.records if saved else ()

    def _visit(self, stage: str) -> None:
        if stage not in self._visited:
            self._visited.append(stage)

    def _look_for_suspects(self) -> None:
        for ended in read_ended(self.path / "stages"):
            self.ended[ended.stage] = ended
            how = f"It crashed there ({ended.fault})" if ended.fault else "It was killed there, or the engine ended it"
            self.notes.append(
                f"a run in this folder ended during: {ended.what}. {how}; what it had finished is kept "
                f"(stages/{ended.stage}{BEGUN} remembers it until that ends well)"
            )

    def _stage_file(self, stage: str) -> Path:
        return self.path / "stages" / f"{stage}.json"

    def _read(self, stage: str) -> Saved | None:
        try:
            data = json.loads(self._stage_file(stage).read_text(encoding="utf-8"))
            key, result = checked.field(data, "key", str), checked.field(data, "result", dict)
            return Saved(key, result, checked.each(data, "records", str))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def _files_whole(self, result: Mapping[str, Any]) -> bool:
        """Whether every Artifact a stage made is still there, unchanged."""
        made = result.get("artifact")
        if not made:
            return True
        try:
            artifact = Artifact.from_json(made, self.path)
            return digest_files((artifact.path, *artifact.companions)) == artifact.sha256
        except (OSError, ValueError, KeyError, TypeError):
            return False


def check_folder(path: Path) -> None:
    """Before anything long.  Raises BadInput where ``path`` cannot be a folder: it, or what it lies in, is a file."""
    place = next((place for place in (path, *path.parents) if place.exists()), None)
    if place is not None and not place.is_dir():
        raise BadInput(f"{place} is a file, not a folder", remedy="give another folder")


def write_text(path: Path, text: str) -> Path:
    """Write to a temporary name, flush to disk, rename; a device, a pipe or a link is written to and stays what it is.
    A byte of a file's name that is no UTF-8 becomes a question mark.  Raises StorageFailed."""
    temporary = path.with_name(path.name + ".part")
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):  # /dev/stdout, /dev/null
            path.write_text(text, encoding="utf-8", errors="replace")
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # below a file, say, there is nothing to take away
            temporary.unlink(missing_ok=True)
        raise StorageFailed(f"cannot write {path}: {error.strerror}") from error
    return path


def write_json(path: Path, value: Any) -> Path:
    return write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def default_folder(name: str) -> Path:
    """``runs/NAME-YYYYMMDD-HHMMSS`` with a name that is safe as a file name."""
    moment = clock.current().wall()
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name[:LONGEST_NAME]).strip("._-") or "model"
    return Path("runs") / f"{safe}-{moment:%Y%m%d-%H%M%S}"


def load_run(path: Path) -> tuple[list[Record], dict[str, Any]]:
    """The current Records of a finished (or partial) run and its ``run.json``.

    Raises BadInput when ``path`` is not a run folder, or a file of it is damaged.
    """
    file = path / "run.json"
    if not file.is_file():
        raise BadInput(
            f"{path} is not a run folder (it has no run.json)", remedy="give the folder that assay run wrote"
        )
    about = read_about(file)
    records, _ = read_records(path / "records.jsonl")
    wanted = about.get("records")
    if wanted is not None:
        by_id = {r.id: r for r in records}
        records = [by_id[i] for i in wanted if i in by_id]
    return records, about


def read_about(file: Path) -> dict[str, Any]:
    """A ``run.json``.  Raises BadInput when it is damaged."""
    try:
        about = checked.loads(file.read_text(encoding="utf-8"))
        if not isinstance(about, dict):
            raise TypeError(f"it holds a {type(about).__name__}, not an object")
        _check_about(about)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(
            f"{file} is damaged: {error}", remedy="run it again with the same --out: it is resumed"
        ) from error
    return about


def _check_about(about: Mapping[str, Any]) -> None:
    """Raises TypeError for an entry that is of another kind than a run writes."""
    for name in ("model", "spec", "weights", "command", "device"):
        checked.optional(about, name, str)
    for name in ("records", "warnings", "missing", "runs_code"):
        if about.get(name) is not None:
            checked.each(about, name, str)
    checked.optional(about, "environment", dict)
    best = checked.optional(about, "best", dict) or {}
    for name in ("candidate", "label") if best else ():
        checked.field(best, name, str)
    if best and best["batch"] is not None:
        checked.field(best, "batch", int)
    figures = checked.optional(best, "figures", dict) or {}
    for name in figures:
        Figure.from_json(checked.field(figures, name, dict))
