"""Files from a URL into a cache, and the digests that pin a file."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.client
import re
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from assay.core.errors import BadInput, NotAvailable, StorageFailed
from assay.sources.options import SourceOptions

_TIMEOUT_S = 30.0
_PROBE_TIMEOUT_S = 5.0
_STEP_BYTES = 2**20
UNREACHABLE = (OSError, ValueError, http.client.HTTPException)
"""What urllib raises for a server that is not there, answers in no HTTP or breaks off, and for a URL that is none."""
_DIGEST = {"md5": re.compile(r"[0-9a-fA-F]{32}"), "sha256": re.compile(r"[0-9a-fA-F]{64}")}


def is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def local_file(source: str, options: SourceOptions) -> Path:
    """``source`` as a file here: a path that exists, or a URL fetched once into the cache.

    The pinned digests are checked either way.  Raises BadInput for a missing file, a URL the server
    does not have, a digest that is none, or one that differs (a fetched file is then removed); NotAvailable when
    the server cannot be reached, StorageFailed when the file cannot be kept.
    """
    _pinned(options)
    if not is_url(source):
        path = Path(source)
        if not path.is_file():
            raise BadInput(f"there is no weights file {source}", remedy="check the path given to --weights")
        check_digests(path, options)
        return path
    path = _cached_name(source, options.downloads)
    if not path.exists():
        _download(source, path)
    try:
        check_digests(path, options)
    except BadInput:
        path.unlink()
        raise
    return path


def check_digests(path: Path, options: SourceOptions) -> None:
    """Compare with ``--md5`` and ``--sha256`` where given.  Raises BadInput with both digests."""
    for kind, wanted in _pinned(options).items():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, functools.partial(_new, kind)).hexdigest()
        if found != wanted:
            raise BadInput(
                f"{path} is not the file that was pinned: its {kind} is {found}, expected {wanted}",
                remedy="get the file again, or correct the digest",
            )


def _pinned(options: SourceOptions) -> dict[str, str]:
    """Kind of digest -> its hex digits in small letters.  Raises BadInput for what is no digest."""
    found: dict[str, str] = {}
    for kind, expected in (("md5", options.md5), ("sha256", options.sha256)):
        if expected is None:
            continue
        wanted = expected.removeprefix(f"{kind}:")
        if not _DIGEST[kind].fullmatch(wanted):
            digits = 2 * _new(kind).digest_size
            raise BadInput(f"{expected!r} is not a {kind} digest", remedy=f"give its {digits} hex digits")
        found[kind] = wanted.lower()
    return found


def _new(kind: str) -> hashlib._Hash:
    return hashlib.new(kind, usedforsecurity=False)  # a digest that pins a file, not a signature


def reachable(url: str) -> str | None:
    """None when the server answers within a few seconds, else the reason in words."""
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - http(s) only, by the callers
        with urllib.request.urlopen(request, timeout=_PROBE_TIMEOUT_S):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        return None if error.code < 500 and error.code not in (404, 407) else f"{url}: HTTP {error.code}"
    except UNREACHABLE as error:
        return f"{url}: {why(error)}"


def why(error: Exception) -> str:
    """What urllib says of one of UNREACHABLE, on one line."""
    return " ".join(str(getattr(error, "reason", error)).split())


def _cached_name(url: str, folder: Path) -> Path:
    """One name per URL; its end is kept, since the suffix says how to read it."""
    try:
        tail = PurePosixPath(unquote(urlsplit(url).path)).name or "download"
    except ValueError as error:
        raise BadInput(f"{url} is no URL: {error}", remedy="check the URL") from error
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", tail)[-80:]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{safe}"


def _download(url: str, path: Path) -> None:
    """Fetch to a temporary name, then rename, so that half a file never looks whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
            temporary = Path(folder, path.name)
            with temporary.open("wb") as part:
                _copy(url, part)
            temporary.rename(path)
    except OSError as error:
        raise StorageFailed(f"{url} could not be written to {path.parent}: {error}") from error


def _copy(url: str, out: IO[bytes]) -> None:
    """Raises BadInput and NotAvailable for what goes wrong on the way here, OSError for what does in writing."""
    with _told_of(url):
        response = urllib.request.urlopen(url, timeout=_TIMEOUT_S)  # noqa: S310 - http(s) only
    with response:
        expected = response.length  # None where the server does not say
        while True:
            with _told_of(url):
                piece = response.read(_STEP_BYTES)
            if not piece:
                break
            out.write(piece)
    if expected is not None and expected != out.tell():
        raise NotAvailable(f"{url} broke off after {out.tell()} of {expected} bytes", remedy="try again")


@contextlib.contextmanager
def _told_of(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        said = f"HTTP {error.code} {error.reason}"
        raise BadInput(f"{url} could not be fetched: {said}", remedy="check the URL") from error
    except http.client.InvalidURL as error:
        raise BadInput(f"{url} is no URL: {error}", remedy="check the URL") from error
    except http.client.IncompleteRead as error:
        raise NotAvailable(f"{url} broke off in the middle", remedy="try again") from error
    except UNREACHABLE as error:
        raise NotAvailable(
            f"{url} cannot be reached from here: {why(error)}",
            remedy="fetch it elsewhere and give the file: --weights FILE",
        ) from error
