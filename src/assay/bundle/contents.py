"""What is in a bundle: the frozen description that ``pack`` writes and ``read_bundle`` reads.

::

    manifest.json     sha256 and size of every other file
    bundle.json       model, candidate, recipe, what runs code, environment
    signature.json    inputs and outputs
    preprocess.json   the transform as data (absent: inputs arrive ready)
    labels.json       class names in target order (absent: none)
    model/            the engine file with the files it needs (absent: only a recipe)
    goldens.npz       golden inputs and outputs; goldens.json says what is what, and the tolerance
    records.jsonl     the evidence
    verdict.json      the verdict (absent: nothing was judged)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.bundle.goldens import Pair
from assay.bundle.jsonfile import read_json, read_object
from assay.bundle.manifest import NAME, SCHEMA, inside, read_manifest
from assay.core.artifact import FORMATS, RUNS_CODE, Artifact
from assay.core.engine import PRECISIONS, Candidate, OpenOptions
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.core.tensors import Signature
from assay.core.verdict import Verdict

DESCRIPTION = "bundle.json"
MODEL = "model"
NO_FILE = frozenset({"source", "remote"})
"""Formats whose file alone does not hold the model: they travel with a recipe."""
CODE_SUFFIXES = frozenset(
    {".py", ".pyc", ".so", ".dll", ".dylib", ".pkl", ".pt", ".pth", ".pt2", ".plan", ".engine", ".om"}
)
"""Files that run code when an engine or a source opens them."""


@dataclass(frozen=True)
class BundleContents:
    """What ``pack`` is given.

    ``goldens`` are (feed, outputs) pairs of the chosen session; ``tolerance`` (JSON) has the
    ``max_relative_rms`` they are checked with and its ``source``.  ``recipe`` (JSON) says how to build
    the engine where no file can travel.  ``preprocess`` is a transform as data; a user's own function
    (``{"kind": "function"}``) is named but does not travel.
    """

    model: str
    candidate: Candidate
    signature: Signature
    goldens: tuple[Pair, ...]
    tolerance: Mapping[str, Any]
    preprocess: Mapping[str, Any] | None = None
    labels: tuple[str, ...] | None = None
    records: tuple[Record, ...] = ()
    verdict: Verdict | None = None
    runs_code: tuple[str, ...] = ()
    recipe: Mapping[str, Any] | None = None
    command: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A bundle as read back; paths are absolute.  ``candidate`` is what was measured: its artifact's
    path is the packed file's.  ``artifact`` is None when only a recipe travels."""

    folder: Path
    model: str
    candidate: Candidate
    artifact: Artifact | None
    recipe: Mapping[str, Any] | None
    signature: Signature
    preprocess: Mapping[str, Any] | None
    labels: tuple[str, ...] | None
    verdict: Verdict | None
    runs_code: tuple[str, ...]
    environment: Mapping[str, Any]
    command: str

    @property
    def code(self) -> tuple[str, ...]:
        """Everything that runs code when this bundle is opened.

        ``runs_code`` names the files the *model* came from: they count only where the bundle holds no
        compiled file, so that opening it means making the model again.
        """
        if self.artifact is None:
            return ()
        said = list(self.runs_code) if self.artifact.format in NO_FILE else []
        files = (self.artifact.path, *self.artifact.companions)
        said += [p.name for p in files if p.suffix.lower() in CODE_SUFFIXES]
        if self.artifact.format in RUNS_CODE or self.artifact.runs_code:
            said.append(self.artifact.path.name)
        return tuple(dict.fromkeys(said))

    def why_trust(self, harmless: Collection[str]) -> str | None:
        """Why opening this bundle takes trust, to stand behind its name; None where it takes none.

        ``harmless`` are the provider options known to reach nothing outside the bundle: of any other, nobody here
        knows what file it makes the engine load, read or write, or what address it takes.
        """
        parts = [f"runs code: {', '.join(self.code)}"] if self.code else []
        given = self.candidate.options.provider_options if self.artifact is not None else ()
        unknown = ", ".join(f"{name}={value}" for name, value in given if name not in harmless)
        if unknown:
            parts.append(
                f"sets provider options that are not known to keep {self.candidate.engine} inside it: {unknown}"
            )
        return " and ".join(parts) or None


def describe(contents: BundleContents, artifact: Mapping[str, Any] | None) -> dict[str, Any]:
    """bundle.json; ``artifact`` is the packed file's JSON with paths inside the bundle."""
    candidate = contents.candidate
    return {
        "schema": SCHEMA,
        "model": contents.model,
        "candidate": {
            "digest": candidate.digest,
            "label": candidate.label,
            "engine": candidate.engine,
            "engine_version": candidate.engine_version,
            "device_name": candidate.device_name,
            "options": candidate.options.to_json(),
            "artifact_sha256": candidate.artifact.sha256,
            "artifact_format": candidate.artifact.format,
        },
        "artifact": artifact,
        "recipe": contents.recipe,
        "runs_code": list(contents.runs_code),
        "command": contents.command,
        "environment": dict(contents.environment),
    }


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle's description.  It checks shapes and paths, not digests: see ``check``.

    Raises BadInput for anything missing or malformed.
    """
    if read_manifest(folder)["schema"] != SCHEMA:
        raise BadInput(f"{folder / NAME} is a run folder's", remedy=f"give the bundle inside it: {folder / 'bundle'}")
    try:
        return _read(folder, read_object(inside(folder, DESCRIPTION)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{folder / DESCRIPTION} or a file beside it is malformed: {error!r}") from error


def _read(folder: Path, data: Mapping[str, Any]) -> Bundle:
    artifact = _artifact(folder, data["artifact"]) if data["artifact"] is not None else None
    labels = _optional(folder, "labels.json", list)
    verdict = _optional(folder, "verdict.json", dict)
    recipe = data["recipe"]
    if artifact is None and not isinstance(recipe, dict):
        raise BadInput(f"{folder} has neither an engine file nor a recipe to build one")
    return Bundle(
        folder=folder,
        model=str(data["model"]),
        candidate=_candidate(folder, data["candidate"], artifact),
        artifact=artifact,
        recipe=recipe,
        signature=Signature.from_json(read_object(inside(folder, "signature.json"))),
        preprocess=_optional(folder, "preprocess.json", dict),
        labels=None if labels is None else tuple(map(str, labels)),
        verdict=None if verdict is None else Verdict.from_json(verdict),
        runs_code=tuple(map(str, data["runs_code"])),
        environment=dict(data["environment"]),
        command=str(data["command"]),
    )


def _artifact(folder: Path, data: Mapping[str, Any]) -> Artifact:
    if data["format"] not in FORMATS:
        raise BadInput(f"{folder}: format {data['format']!r} is not known here (known: {', '.join(FORMATS)})")
    made = Artifact.from_json(data)
    path = inside(folder, data["path"])
    companions = tuple(inside(folder, name) for name in data["companions"])
    return Artifact(path, made.format, made.sha256, made.parents, made.built_for, companions, made.runs_code)


def _candidate(folder: Path, data: Mapping[str, Any], artifact: Artifact | None) -> Candidate:
    options = OpenOptions.from_json(data["options"])
    if options.precision not in PRECISIONS:
        raise BadInput(f"{folder}: precision {options.precision!r} is not known here")
    if artifact is None:
        artifact = Artifact(folder / MODEL, str(data["artifact_format"]), str(data["artifact_sha256"]))
    candidate = Candidate(artifact, str(data["engine"]), str(data["engine_version"]), options, str(data["device_name"]))
    if artifact.sha256 != data["artifact_sha256"] or candidate.digest != data["digest"]:
        raise BadInput(f"{folder}: the packed engine file is not the candidate that was measured")
    return candidate


def _optional(folder: Path, name: str, kind: type) -> Any:
    """A JSON file that may be absent; what is there must be a ``kind``."""
    if not (folder / name).exists():
        return None
    value = read_json(inside(folder, name))
    if not isinstance(value, kind):
        raise BadInput(f"{folder / name} holds a JSON {type(value).__name__}, not a {kind.__name__}")
    return value
