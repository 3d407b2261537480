"""Results on disk in shards: each is written whole or not at all, and a restart does the missing ones alone.

``manifest.jsonl`` begins with a line that says what the results are of, followed by a line for each finished
shard with its digest and failures.  Shards are Parquet where pyarrow is installed, else JSON lines; the
columns are ``id``, ``correct`` and ``row`` (JSON).
"""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from assay.core.archives import gunzip
from assay.core.artifact import digest_file
from assay.core.dataset import Scored
from assay.core.errors import BadInput, NotAvailable, StorageFailed
from assay.pipeline.settings import Failure

MANIFEST = "manifest.jsonl"
SCHEMA = "assay.shards/1"
SUFFIXES = {"parquet": ".parquet", "jsonl": ".jsonl.gz"}


@dataclass(frozen=True)
class Shard:
    number: int
    scored: tuple[Scored, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Finished:
    """A shard on disk: ``scored`` samples in ``file``, and those that failed."""

    file: str
    sha256: str
    scored: int
    failures: tuple[Failure, ...]


class ShardStore:
    """A folder of shards.  ``about`` identifies the evaluation; a folder of another one is refused.

    Raises BadInput for that, NotAvailable for Parquet shards without pyarrow, StorageFailed when writing fails.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], format: str | None = None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        about = json.loads(json.dumps(about, default=str))
        found = _read_manifest(folder / MANIFEST)
        if found is None:
            self.format = format or ("parquet" if _has_pyarrow() else "jsonl")
            self.finished: dict[int, Finished] = {}
            self._begin({"schema": SCHEMA, "format": self.format, "about": about})
            return
        header, self.finished = found
        _refuse_others(folder, header.get("about", {}), about)
        self.format = str(header["format"])
        if self.format == "parquet" and not _has_pyarrow():
            raise NotAvailable(f"the shards in {folder} are Parquet, which needs pyarrow", remedy="pip install pyarrow")
        self.finished = {n: s for n, s in self.finished.items() if self._is_whole(s)}

    def write(self, shard: Shard) -> None:
        """Write to a temporary name, rename, then note it in the manifest."""
        name = f"shard-{shard.number:06d}{SUFFIXES[self.format]}"
        path, temporary = self.folder / name, self.folder / f".{name}.tmp"
        try:
            _write_rows(temporary, shard.scored, self.format)
            temporary.replace(path)
            found = Finished(name, digest_file(path), len(shard.scored), shard.failures)
            self._note(shard.number, found)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageFailed(f"{path} could not be written ({error.strerror or error})") from error

    def rows(self) -> Sequence[Scored]:
        """All results in order, read from disk as they are gone through: memory holds one shard at a time."""
        return _Results(self)

    def shard_rows(self, number: int) -> list[Scored]:
        return _read_rows(self.folder / self.finished[number].file, self.format)

    def remove(self) -> None:
        """Take the shards and their folder away, once what they hold is kept elsewhere."""
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()

    def _note(self, number: int, finished: Finished) -> None:
        line = {"shard": number, "file": finished.file, "sha256": finished.sha256, "scored": finished.scored}
        with self._lock:
            with (self.folder / MANIFEST).open("a", encoding="utf-8") as file:
                file.write(json.dumps({**line, "failures": finished.failures}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.finished[number] = finished

    def _begin(self, header: Mapping[str, Any]) -> None:
        temporary = self.folder / f".{MANIFEST}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(header) + "\n", encoding="utf-8")
            temporary.replace(self.folder / MANIFEST)
        except OSError as error:
            raise StorageFailed(f"{self.folder} cannot be written ({error.strerror or error})") from error

    def _is_whole(self, shard: Finished) -> bool:
        path = self.folder / shard.file
        return path.is_file() and digest_file(path) == shard.sha256


class _Results(Sequence[Scored]):
    """The rows of all shards that are finished now, never all in memory; workers may finish others meanwhile."""

    def __init__(self, store: ShardStore) -> None:
        self._store = store
        finished = store.finished.copy()
        self._scored = {number: finished[number].scored for number in sorted(finished)}
        self._length = sum(self._scored.values())

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Scored]:
        for number in self._scored:
            yield from self._store.shard_rows(number)

    @overload
    def __getitem__(self, index: int) -> Scored: ...
    @overload
    def __getitem__(self, index: slice) -> list[Scored]: ...
    def __getitem__(self, index: int | slice) -> Scored | list[Scored]:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(self._length)[index]
        for number, count in self._scored.items():
            if place < count:
                return self._store.shard_rows(number)[place]
            place -= count
        raise IndexError(index)


def _has_pyarrow() -> bool:
    """Imported here already, which takes half a second: not by a worker in the middle of the first shard."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    return True


def _read_manifest(path: Path) -> tuple[dict[str, Any], dict[int, Finished]] | None:
    """None where there is none.  A line that a kill left unfinished is dropped: its shard is done again."""
    if not path.exists():
        return None
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        header = json.loads(lines[0])
        if header.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {header.get('schema')!r}")
        if header.get("format") not in SUFFIXES:
            raise ValueError(f"its shards are {header.get('format')!r}")
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise BadInput(f"{path} is not a manifest of results ({error})", remedy="give another folder") from error
    torn = lines[-1] != ""
    finished: dict[int, Finished] = {}
    for line in lines[1:-1]:
        try:
            data = json.loads(line)
            failures = tuple((str(i), str(r)) for i, r in data["failures"])
            finished[int(data["shard"])] = Finished(data["file"], data["sha256"], int(data["scored"]), failures)
        except (ValueError, KeyError, TypeError):
            continue
    if torn:  # later lines must not be glued to the torn one
        whole = "\n".join(lines[:-1]) + "\n"
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(whole, encoding="utf-8")
        temporary.replace(path)
    return header, finished


def _refuse_others(folder: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    other = sorted(k for k in found.keys() | asked.keys() if found.get(k) != asked.get(k))
    if other:
        shown = "; ".join(f"{k} was {found.get(k)!r}, is now {asked.get(k)!r}" for k in other[:3])
        raise BadInput(
            f"{folder} holds results of another evaluation ({shown})",
            remedy="give another folder, or remove this one",
        )


def _line(scored: Scored) -> dict[str, Any]:
    return {"id": scored.id, "correct": scored.correct, "row": dict(scored.row)}


def _plain(value: Any) -> Any:
    """numpy scalars and arrays as JSON."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)


def _write_rows(path: Path, rows: Sequence[Scored], format: str) -> None:
    lines = [_line(s) for s in rows]
    if format == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            "id": pa.array([r["id"] for r in lines], pa.string()),
            "correct": pa.array([r["correct"] for r in lines], pa.bool_()),
            "row": pa.array([json.dumps(r["row"], default=_plain) for r in lines], pa.string()),
        }
        pq.write_table(pa.table(columns), path, compression="zstd")
        return
    text = "".join(json.dumps(r, default=_plain) + "\n" for r in lines)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=5, mtime=0))


def _read_rows(path: Path, format: str) -> list[Scored]:
    if format == "parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
        return [Scored(r["id"], json.loads(r["row"]), r["correct"]) for r in rows]
    lines = gunzip(path).decode().splitlines()
    return [Scored(r["id"], r["row"], r["correct"]) for r in map(json.loads, lines)]
