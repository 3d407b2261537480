"""``assay import``: other tools' logs into a run folder of Records, with what contradicts what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay._version import __version__
from assay.core.errors import BadInput
from assay.core.record import Record, read_records
from assay.importers import Finding, Hints, import_files
from assay.job.folder import RunFolder, read_about, write_json


@dataclass(frozen=True)
class ImportedRun:
    folder: Path
    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]


def import_run(files: Sequence[Path], out: Path, hints: Hints, command: str) -> ImportedRun:
    """Read all files as one body of evidence, then write them into ``out`` (new, or an imported run: replaced).

    Files without measurements warn.  Raises BadInput for a malformed log, with its file and line, and
    for an ``out`` that holds a run of its own.
    """
    _refuse_measured(out)
    found = import_files(list(files), hints)
    about, before = out / "run.json", out / "records.jsonl"
    if before.exists():
        before.unlink()
    with RunFolder(out) as folder:
        for record in found.records:
            folder.append(record)
        write_json(out / "findings.json", [f.to_json() for f in found.findings])
        write_json(
            about,
            {
                "schema": "assay.run/1",
                "assay": __version__,
                "imported": True,
                "command": command,
                "model": out.name,
                "files": [str(f) for f in files],
                "warnings": list(found.warnings),
                "best": None,
                "records": [r.id for r in found.records],
            },
        )
    return ImportedRun(out, tuple(found.records), tuple(found.findings), tuple(found.warnings))


def _refuse_measured(out: Path) -> None:
    """Raises BadInput where ``out`` holds what was measured here: a run, or the Records that ``assay bench`` keeps."""
    about, records = out / "run.json", out / "records.jsonl"
    if about.exists():
        measured = not read_about(about).get("imported")
    else:  # an import that was killed leaves Records alone, too
        measured = records.exists() and not all(r.conditions.get("imported") for r in read_records(records)[0])
    if measured:
        raise BadInput(f"{out} holds a run that was measured here", remedy="give another --out")
