"""manifest.json: the sha256 and size of every file of a folder; bundles and run folders alike.

The digest of manifest.json itself stands for the whole folder.  It proves that nothing was changed
since it was written, not who wrote it.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from assay._version import __version__
from assay.bundle.jsonfile import as_utf8, read_object
from assay.core import clock
from assay.core.artifact import digest_file
from assay.core.errors import BadInput, StorageFailed

NAME = "manifest.json"
SCHEMA = "assay.bundle/1"
RUN_SCHEMA = "assay.run/1"
SCHEMAS = (SCHEMA, RUN_SCHEMA)
_DIGEST = re.compile(r"^(?:sha256:)?([0-9a-fA-F]{64})$")
_HEX = re.compile(r"^[0-9a-f]{64}$")
MOST_PARTS, MOST_LETTERS = 32, 1024
"""How deep and how long a path in a bundle may be: every folder of every path is looked at, so that a thousand paths
of two thousand folders each would take gigabytes."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one file of a folder; ``path`` is as the manifest or the folder has it."""

    path: str
    text: str

    def __str__(self) -> str:
        path = self.path if len(self.path) <= 200 else f"{self.path[:120]}…{self.path[-60:]}"
        return f"{path}: {self.text}"


@dataclass(frozen=True)
class Entry:
    """What the manifest says of one file."""

    path: str
    size_bytes: int
    sha256: str


def write_manifest(folder: Path, extra: Mapping[str, Any] | None = None) -> str:
    """Digest every file below ``folder``, write manifest.json and return its digest (``sha256:…``).

    ``extra`` adds what else is to be kept (command line, versions, environment); it may set ``schema``
    and ``created``.  In a run folder the writer's lock file is left out.
    Raises BadInput for a link that leaves the folder or a file that is none, StorageFailed.
    """
    extra = dict(extra or {})
    head = {"schema": extra.pop("schema", SCHEMA), "created": extra.pop("created", clock.timestamp())}
    if head["schema"] not in SCHEMAS:
        raise BadInput(f"a manifest's schema is one of {', '.join(SCHEMAS)}, not {head['schema']!r}")
    temporary = folder / f"{NAME}.part"
    temporary.unlink(missing_ok=True)
    found, problems = _walk(folder, head["schema"])
    problems += [Problem(path, text) for path, text in _collisions(found)]
    if problems:
        raise BadInput(f"{folder} cannot be listed: {problems[0]}")
    files = [
        {"path": path, "size_bytes": (folder / path).stat().st_size, "sha256": digest_file(folder / path)}
        for path in sorted(found)
    ]
    manifest = {**head, "assay": __version__, **extra, "files": files}
    content = as_utf8(json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")
    try:
        temporary.write_bytes(content)
        temporary.replace(folder / NAME)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageFailed(f"cannot write {folder / NAME}: {error.strerror}") from error
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its shape checked.  Raises BadInput when there is none or it is not one."""
    path = folder / NAME
    if not path.is_file():
        raise BadInput(
            f"{folder} has no {NAME}: it is not a bundle", remedy="give the bundle folder that assay run or pack wrote"
        )
    if path.is_symlink():
        raise BadInput(f"{path} is a link; a manifest is a file of its own folder")
    manifest = read_object(path)
    if manifest.get("schema") not in SCHEMAS:
        raise BadInput(
            f"manifest schema {manifest.get('schema')!r} is not known here (known: {', '.join(SCHEMAS)})",
            remedy="upgrade assay",
        )
    entries(manifest)
    return manifest


def entries(manifest: Mapping[str, Any]) -> tuple[Entry, ...]:
    """The files a manifest lists.  Raises BadInput for an entry that is malformed or an empty list."""
    listed = manifest.get("files")
    if not isinstance(listed, list) or not listed:
        raise BadInput(f"{NAME} lists no files")
    return tuple(_entry(item) for item in listed)


def _entry(item: Any) -> Entry:
    if not isinstance(item, dict):
        raise BadInput(f"{NAME}: an entry of files is not an object")
    path, size, sha = item.get("path"), item.get("size_bytes"), item.get("sha256")
    whole = isinstance(path, str) and isinstance(sha, str) and _HEX.match(sha)
    if not whole or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise BadInput(f"{NAME}: the entry of {path!r} has no proper path, size_bytes and sha256")
    return Entry(str(path), size, str(sha))


def manifest_digest(folder: Path) -> str:
    """``sha256:…`` of manifest.json: the name of the whole folder.  Raises BadInput when there is none."""
    path = folder / NAME
    if not path.is_file():
        raise BadInput(f"{folder} has no {NAME}")
    return f"sha256:{digest_file(path)}"


def parse_digest(text: str) -> str:
    """``sha256:…`` or the bare 64 hex digits -> ``sha256:…`` in lower case.  Raises BadInput."""
    match = _DIGEST.match(text.strip())
    if not match:
        raise BadInput(f"{text!r} is not a digest", remedy="write it like sha256: and 64 hexadecimal digits")
    return f"sha256:{match[1].lower()}"


def verify_manifest(folder: Path) -> list[Problem]:
    """Everything in which ``folder`` is not what its manifest says; empty means it is whole.

    Raises BadInput when the manifest itself cannot be read.
    """
    manifest = read_manifest(folder)
    listed = entries(manifest)
    found, problems = _walk(folder, manifest["schema"])
    known = {problem.path for problem in problems}
    unsafe = {entry.path: reason for entry in listed if (reason := unsafe_path(entry.path))}
    problems += [Problem(path, reason) for path, reason in unsafe.items()]
    paths = [entry.path for entry in listed]
    problems += [Problem(path, "is listed twice") for path, times in Counter(paths).items() if times > 1]
    problems += [Problem(path, text) for path, text in _collisions({*paths, *found} - set(unsafe))]
    for entry in listed:
        if entry.path not in unsafe and entry.path not in known:
            problems += _compare(folder, entry, found)
    problems += [Problem(path, "is not listed in the manifest") for path in sorted(found - set(paths))]
    return problems


def _compare(folder: Path, entry: Entry, found: set[str]) -> list[Problem]:
    if entry.path not in found:
        return [Problem(entry.path, "is missing")]
    path = folder / entry.path
    try:
        size = path.stat().st_size
        if size != entry.size_bytes:
            return [Problem(entry.path, f"has {size} bytes, the manifest says {entry.size_bytes}")]
        if digest_file(path) != entry.sha256:
            return [Problem(entry.path, "was changed: its sha256 is another")]
    except OSError as error:
        return [Problem(entry.path, f"cannot be read: {error.strerror}")]
    return []


def unsafe_path(text: str) -> str | None:
    """Why ``text`` must not be used as a path inside a folder; None when it may."""
    if len(text) > MOST_LETTERS or text.count("/") >= MOST_PARTS:
        return f"is longer than {MOST_LETTERS} letters or deeper than {MOST_PARTS} folders"
    if not text or text != PurePosixPath(text).as_posix() or text == ".":
        return "is not a plain relative path"
    if text.startswith("/") or re.match(r"^[A-Za-z]:", text):
        return "is an absolute path"
    if ".." in PurePosixPath(text).parts:
        return "climbs out of the folder"
    if "\\" in text or any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
        return "has a character that paths in a bundle may not have"
    return None


def inside(folder: Path, text: Any) -> Path:
    """The file ``text`` of a bundle.  Raises BadInput for anything but a regular file inside ``folder``."""
    reason = unsafe_path(text) if isinstance(text, str) else "is not a path"
    path = folder / str(text)
    if not reason and not path.is_file():
        reason = "is not a file of it"
    if not reason and not path.resolve().is_relative_to(folder.resolve()):
        reason = "lies outside"
    if reason:
        raise BadInput(f"{folder}: {text!r} {reason}")
    return path


def _walk(folder: Path, schema: str) -> tuple[set[str], list[Problem]]:
    """Relative paths of all files but the manifest itself, and what may not lie in such a folder."""
    root = folder.resolve()
    found: set[str] = set()
    problems: list[Problem] = []
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        try:
            within = sorted(current.iterdir())
        except OSError as error:
            problems.append(Problem(current.relative_to(folder).as_posix(), f"cannot be listed: {error.strerror}"))
            continue
        for path in within:
            name = path.relative_to(folder).as_posix()
            if name == NAME or (schema == RUN_SCHEMA and name.endswith(".lock")):
                continue
            reason = unsafe_path(name) or _odd(path, root)
            if reason:
                problems.append(Problem(name, reason))
            elif path.is_dir():
                waiting.append(path)
            else:
                found.add(name)
    return found, problems


def _odd(path: Path, root: Path) -> str | None:
    """Why ``path`` may not lie in a digested folder: links that leave it, devices, pipes."""
    if path.is_symlink():
        if not path.exists():
            return "is a link to nothing"
        if not path.resolve().is_relative_to(root):
            return "is a link that leaves the folder"
        if path.is_dir():
            return "is a link to a folder"
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "is neither a file nor a folder"
    return None


def _collisions(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Names that would be one file where case or the spelling of accents does not count."""
    prefixes = {str(part) for path in paths for part in (PurePosixPath(path), *PurePosixPath(path).parents)}
    seen: dict[str, str] = {}
    clashes = []
    for name in sorted(prefixes):
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
        if folded in seen:
            clashes.append((name, f"differs from {seen[folded]} only in case or in how it is spelled"))
        seen.setdefault(folded, name)
    return clashes
