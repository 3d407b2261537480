"""One engine file in a folder, built once: an equal build that is already there is used as it is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from assay.core import child
from assay.core.artifact import Artifact, digest_files, digest_json
from assay.core.engine import BuildOptions
from assay.job.folder import check_folder, write_json
from assay.job.opening import engine
from assay.measure.environment import device_name

NOTE = "build.json"
"""Beside the engine file: what it was built from and for.  Opening the file by its path reads it (sources)."""


@dataclass(frozen=True)
class BuiltFile:
    """``unchanged``: it lay there already, from the same file, options, engine version and device."""

    artifact: Artifact
    log: Path
    unchanged: bool


def build_in_folder(name: str, artifact: Artifact, options: BuildOptions, out: Path) -> BuiltFile:
    """Build in a process of its own, or find the equal build in ``out``.  Raises what the engine raises."""
    check_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    log = out / "build.log"
    key = build_key(name, artifact, options)
    found = _there(out, key)
    if found is not None:
        return BuiltFile(found, log, unchanged=True)
    (out / NOTE).unlink(missing_ok=True)  # it would speak of a file that is about to be replaced
    arguments = {"engine_name": name, "artifact": artifact, "options": options, "out_dir": out}
    made: Artifact = child.run("assay.job.trial:build_file", arguments, child.Limits(log=log)).value
    write_json(out / NOTE, {"schema": "assay.build/1", "key": key, "artifact": made.to_json(out)})
    return BuiltFile(made, log, unchanged=False)


def build_key(name: str, artifact: Artifact, options: BuildOptions) -> str:
    """A digest over the model, every option, the engine's version and the device's own name."""
    version = engine(name).version()
    return digest_json([artifact.sha256, name, version, asdict(options), device_name(options.device)])


def _there(out: Path, key: str) -> Artifact | None:
    """The build of that key, when its files are whole."""
    try:
        note = json.loads((out / NOTE).read_text(encoding="utf-8"))
        found = Artifact.from_json(note["artifact"], out)
        whole = digest_files((found.path, *found.companions)) == found.sha256
        return found if whole and note["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
