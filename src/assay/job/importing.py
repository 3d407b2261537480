"""``assay import``: other tools' logs into a run folder of Records, with what contradicts what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from assay._version import __version__
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.importers import Finding, Hints, import_files
from assay.job.folder import RunFolder, write_json


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
    about = out / "run.json"
    if about.exists() and '"imported": true' not in about.read_text(encoding="utf-8"):
        raise BadInput(f"{out} holds a run that was measured here", remedy="give another --out")
    found = import_files(list(files), hints)
    out.mkdir(parents=True, exist_ok=True)
    (out / "records.jsonl").unlink(missing_ok=True)
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
