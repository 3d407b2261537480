"""Write a bundle: into a temporary folder beside its place, renamed when it is whole."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.bundle.contents import DESCRIPTION, MODEL, NO_FILE, BundleContents, describe
from assay.bundle.goldens import Goldens, check_pairs, limit_of, write_goldens
from assay.bundle.jsonfile import write_json
from assay.bundle.manifest import SCHEMA, read_manifest, write_manifest
from assay.core.artifact import Artifact, digest_files
from assay.core.errors import BadInput, StorageFailed
from assay.core.record import Record, as_line


def pack(contents: BundleContents, out_dir: Path) -> Path:
    """Write the bundle to ``out_dir`` and return it; an older bundle there is replaced, anything else is not.

    Raises BadInput for goldens that prove nothing, an engine file that is missing or was changed, or a
    folder that holds something else; StorageFailed when the disk is full or read-only (nothing is left).
    """
    limit, source = limit_of(contents.tolerance)
    check_pairs(contents.goldens, contents.signature)
    _refuse_foreign(out_dir)
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{out_dir.name}.assay-pack-"
        for leftover in out_dir.parent.glob(f"{glob.escape(prefix)}*"):
            shutil.rmtree(leftover)  # of a pack that was killed
        with tempfile.TemporaryDirectory(prefix=prefix, dir=out_dir.parent) as temporary:
            folder = Path(temporary) / out_dir.name
            folder.mkdir()
            artifact = _copy_artifact(contents, folder)
            write_json(folder / DESCRIPTION, {**describe(contents, artifact), "recipe": _recipe(contents, artifact)})
            _write_facts(contents, folder)
            write_goldens(folder, Goldens(contents.goldens, limit, source))
            _write_records(folder / "records.jsonl", contents.records)
            write_manifest(folder, {"command": contents.command, "environment": dict(contents.environment)})
            _swap(folder, out_dir, Path(temporary) / "before")
    except OSError as error:
        raise StorageFailed(f"cannot write the bundle {out_dir}: {error.strerror or error}") from error
    return out_dir


def _swap(folder: Path, out_dir: Path, aside: Path) -> None:
    """Put ``folder`` in the place of ``out_dir``; what was there comes back when that fails."""
    replaced = out_dir.exists()
    if replaced:
        out_dir.rename(aside)
    try:
        folder.rename(out_dir)
    except OSError:
        if replaced:
            aside.rename(out_dir)
        raise


def _refuse_foreign(out_dir: Path) -> None:
    """An existing folder may be replaced only when it is empty or a bundle."""
    if not out_dir.exists() and not out_dir.is_symlink():
        return
    if not out_dir.is_dir() or out_dir.is_symlink():
        raise BadInput(f"{out_dir} is in the way: it is not a folder", remedy="give another -o")
    if any(out_dir.iterdir()):
        try:
            manifest = read_manifest(out_dir)
        except BadInput as error:
            raise BadInput(
                f"{out_dir} is not empty and not a bundle; it is left alone", remedy="give an empty or a new folder"
            ) from error
        if manifest["schema"] != SCHEMA:
            raise BadInput(f"{out_dir} is a run folder; it is left alone", remedy="give an empty or a new folder")


def _copy_artifact(contents: BundleContents, folder: Path) -> Mapping[str, Any] | None:
    """Copy the engine file and its companions under model/, keeping their places relative to each other."""
    artifact = contents.candidate.artifact
    if not artifact.path.is_file():
        if artifact.format in NO_FILE:
            return None
        raise BadInput(f"the engine file {artifact.path} is gone", remedy="run the build stage again")
    copies = []
    for path in (artifact.path, *artifact.companions):
        place = folder / MODEL / _beside(path, artifact)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, place)
        except FileNotFoundError:
            raise BadInput(f"{path}, which {artifact.path.name} needs, is gone") from None
        copies.append(place)
    if artifact.format not in NO_FILE and digest_files(tuple(copies)) != artifact.sha256:
        raise BadInput(
            f"{artifact.path} is no longer the file that was measured (its digest is another)",
            remedy="build and measure it again",
        )
    packed = Artifact(
        copies[0],
        artifact.format,
        artifact.sha256,
        artifact.parents,
        artifact.built_for,
        tuple(copies[1:]),
        artifact.runs_code,
    )
    return packed.to_json(folder)


def _beside(path: Path, artifact: Artifact) -> Path:
    """Below the engine file's folder, by the names themselves where they allow it: behind links, a file that the engine
    file names may be called anything."""
    for real in (os.path.abspath, os.path.realpath):
        place, folder = Path(real(path)), Path(real(artifact.path)).parent
        if place.is_relative_to(folder):
            return place.relative_to(folder)
    raise BadInput(f"{path}, which {artifact.path.name} needs, lies outside its folder")


def _recipe(contents: BundleContents, artifact: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The recipe given; for a model without a file of its own the command of the run."""
    if contents.recipe is not None:
        return contents.recipe
    if contents.candidate.artifact.format not in NO_FILE:
        return None
    if not contents.command and artifact is None:
        raise BadInput("a model without an engine file needs a recipe that says how to build it")
    return {"model": contents.model, "command": contents.command}


def _write_facts(contents: BundleContents, folder: Path) -> None:
    write_json(folder / "signature.json", contents.signature.to_json())
    if contents.preprocess is not None:
        write_json(folder / "preprocess.json", dict(contents.preprocess))
    if contents.labels is not None:
        write_json(folder / "labels.json", list(contents.labels))
    if contents.verdict is not None:
        write_json(folder / "verdict.json", contents.verdict.to_json())


def _write_records(path: Path, records: Sequence[Record]) -> None:
    path.write_text("".join(map(as_line, records)), encoding="utf-8")
