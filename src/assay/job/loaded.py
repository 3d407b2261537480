"""Finished runs and imported logs read back from their folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core import checked
from assay.core.errors import BadInput
from assay.core.record import Record, read_records
from assay.core.verdict import Verdict
from assay.job.folder import load_run

DEEPEST = 4
MEASURED = {"measure", "paired"}
"""The kinds of Record of a folder that ``assay bench`` wrote."""


@dataclass(frozen=True)
class LoadedRun:
    """The current Records of one folder.  ``about`` is its ``run.json``, empty where there is none, with what
    an import found out about its figures as ``findings``;
    ``verdict`` None where nothing was judged; ``notes`` say what was odd about the files."""

    path: Path
    records: tuple[Record, ...]
    about: Mapping[str, Any] = field(default_factory=dict)
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def only_measured(self) -> bool:
        """Whether it holds what ``assay bench --out`` writes: speeds alone, which nothing judges."""
        return not self.about and bool(self.records) and {r.kind for r in self.records} <= MEASURED


def is_run(path: Path) -> bool:
    return (path / "run.json").is_file() or (path / "records.jsonl").is_file()


def run_folders(root: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """Every run folder at or below ``root``, sorted; what lies inside a run belongs to it (its bundle).

    Links are not followed.  Raises BadInput when ``root`` is no folder.
    """
    if not root.is_dir():
        raise BadInput(f"there is no folder {root}", remedy="assay runs FOLDER")
    if is_run(root):
        yield root
    elif depth:
        for child in sorted(root.iterdir()):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from run_folders(child, depth - 1)


def load_folder(path: Path) -> LoadedRun:
    """One run folder, or a folder with imported Records alone.

    Raises BadInput for a folder without Records and for files that are not what their names say.
    """
    if not (path / "records.jsonl").is_file():
        raise BadInput(f"{path} holds no run (it has no records.jsonl)", remedy="give a folder that assay wrote")
    try:
        if (path / "run.json").is_file():
            records, about = load_run(path)
            notes: list[str] = []
        else:
            records, notes = read_records(path / "records.jsonl")
            about = {}
        if (path / "findings.json").is_file():
            about = {**about, "findings": _findings(path / "findings.json")}
        return LoadedRun(path, tuple(records), about, _verdict(path / "verdict.json"), tuple(notes))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _findings(file: Path) -> list[dict[str, Any]]:
    told = checked.loads(file.read_text(encoding="utf-8"))
    return list(checked.each({file.name: told}, file.name, dict))


def _verdict(file: Path) -> Verdict | None:
    return Verdict.from_json(checked.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
