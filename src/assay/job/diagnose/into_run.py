"""A diagnosis kept with the run it explains: one more Record, and the report written anew."""

from __future__ import annotations

import json
from pathlib import Path

from assay.bundle.manifest import NAME, read_manifest, verify_manifest, write_manifest
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.core.verdict import Verdict
from assay.job.folder import RunFolder, load_run, write_json
from assay.job.reporting import write_reports


def check_run(folder: Path) -> None:
    """Before a long diagnosis.  Raises BadInput for what is no run folder, or one whose files were changed since."""
    load_run(folder)
    if (folder / NAME).is_file() and (problems := verify_manifest(folder)):
        raise BadInput(f"{folder} is not as its run left it: {problems[0]}", remedy="run it again, or leave --run out")


def append_to_run(folder: Path, record: Record) -> None:
    """Append ``record`` to the run's Records and write its report and manifest anew; the verdict stays as it was.

    Raises what ``check_run`` raises, StorageFailed where nothing can be written.
    """
    check_run(folder)
    _, about = load_run(folder)
    with RunFolder(folder) as run:
        run.append(record)
        if about.get("records") is not None:
            about["records"] = [*about["records"], record.id]
        write_json(folder / "run.json", about)
        records, _ = load_run(folder)
        verdict = folder / "verdict.json"
        told = Verdict.from_json(json.loads(verdict.read_text(encoding="utf-8"))) if verdict.is_file() else None
        write_reports(folder, records, told, about)
        if (folder / NAME).is_file():
            kept = {k: v for k, v in read_manifest(folder).items() if k not in ("files", "assay")}
            write_manifest(folder, kept)
