"""Files from a URL into a cache, and the digests that pin a file."""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from assay.core.errors import BadInput, NotAvailable, StorageFailed
from assay.sources.options import SourceOptions

_TIMEOUT_S = 30.0
_PROBE_TIMEOUT_S = 5.0
_DIGEST = {"md5": re.compile(r"[0-9a-fA-F]{32}"), "sha256": re.compile(r"[0-9a-fA-F]{64}")}


def is_url(text: str) -> bool:
    return urlsplit(text).scheme in ("http", "https")


def local_file(source: str, options: SourceOptions) -> Path:
    """``source`` as a file here: a path that exists, or a URL fetched once into the cache.

    The pinned digests are checked either way.  Raises BadInput for a missing file, a URL the server
    does not have or a digest that differs (a fetched file is then removed); NotAvailable when the
    server cannot be reached.
    """
    if not is_url(source):
        path = Path(source)
        if not path.is_file():
            raise BadInput(f"there is no weights file {source}", remedy="check the path given to --weights")
        check_digests(path, options)
        return path
    path = _cached_name(source, options.downloads)
    fresh = not path.exists()
    if fresh:
        _download(source, path)
    try:
        check_digests(path, options)
    except BadInput:
        path.unlink()
        raise
    return path


def check_digests(path: Path, options: SourceOptions) -> None:
    """Compare with ``--md5`` and ``--sha256`` where given.  Raises BadInput with both digests."""
    for kind, expected in (("md5", options.md5), ("sha256", options.sha256)):
        if expected is None:
            continue
        wanted = expected.removeprefix(f"{kind}:")
        if not _DIGEST[kind].fullmatch(wanted):
            raise BadInput(f"{expected!r} is not a {kind} digest", remedy=f"give its {len_of(kind)} hex digits")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, functools.partial(_new, kind)).hexdigest()
        if found != wanted.lower():
            raise BadInput(
                f"{path} is not the file that was pinned: its {kind} is {found}, expected {wanted.lower()}",
                remedy="get the file again, or correct the digest",
            )


def len_of(kind: str) -> int:
    """Hex digits of a digest."""
    return _new(kind).digest_size * 2


def _new(kind: str) -> hashlib._Hash:
    return hashlib.new(kind, usedforsecurity=False)  # a digest that pins a file, not a signature


def reachable(url: str) -> str | None:
    """None when the server answers within a few seconds, else the reason in words."""
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - http(s) only, by the callers
    try:
        with urllib.request.urlopen(request, timeout=_PROBE_TIMEOUT_S):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        return None if error.code < 500 and error.code not in (404, 407) else f"{url}: HTTP {error.code}"
    except (OSError, ValueError) as error:
        return f"{url}: {getattr(error, 'reason', error)}"


def _cached_name(url: str, folder: Path) -> Path:
    """One name per URL; its end is kept, since the suffix says how to read it."""
    tail = PurePosixPath(unquote(urlsplit(url).path)).name or "download"
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", tail)[-80:]
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{safe}"


def _download(url: str, path: Path) -> None:
    """Fetch to a temporary name, then rename, so that half a file never looks whole."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as part:
            temporary = Path(part.name)
            _copy(url, part)
        temporary.rename(path)
    except (BadInput, NotAvailable):
        temporary.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise StorageFailed(f"{url} could not be written to {path.parent}: {error}") from error


def _copy(url: str, out: IO[bytes]) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - http(s) only
            expected = response.headers.get("Content-Length")
            shutil.copyfileobj(response, out)
            got = out.tell()
    except urllib.error.HTTPError as error:
        said = f"HTTP {error.code} {error.reason}"
        raise BadInput(f"{url} could not be fetched: {said}", remedy="check the URL") from error
    except (OSError, ValueError) as error:
        raise NotAvailable(
            f"{url} cannot be reached from here: {getattr(error, 'reason', error)}",
            remedy="fetch it elsewhere and give the file: --weights FILE",
        ) from error
    if expected is not None and int(expected) != got:
        raise NotAvailable(f"{url} broke off after {got} of {expected} bytes", remedy="try again")
