"""Compressed files: what they would unpack to is known, and bounded, before it is held in memory.

A deflated file of zeros is a thousandth of what it unpacks to, so a megabyte can fill the memory of the
machine that opens it.  Numbers, weights and texts compress far less.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

from assay.core.errors import BadInput
from assay.core.units import Bytes

MOST_TIMES = 200
"""How many times its own size a file may unpack to …"""
HARMLESS_BYTES: Bytes = 2**30
"""… above this."""
_STEP_BYTES = 2**24


def is_zip(path: Path) -> bool:
    """Whether a file ends as a zip archive does.  Raises BadInput where that end contradicts itself."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile as error:
        raise BadInput(f"{path} is damaged: its archive cannot be listed ({error})") from error


def check_size(path: Path, unpacked_bytes: Bytes) -> None:
    """Refuse a file whose headers claim far more than its own size.  Raises BadInput."""
    own = max(1, path.stat().st_size)
    if unpacked_bytes > HARMLESS_BYTES and unpacked_bytes > MOST_TIMES * own:
        raise BadInput(
            f"{path} has {own} bytes and would unpack to {unpacked_bytes}: a decompression bomb, or nearly all of it "
            "is one value",
            remedy="if you trust it, unpack it and write it again without compression",
        )


def check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """``check_size`` over all members, those that share their bytes counted each time.  Raises BadInput."""
    check_size(path, sum(member.file_size for member in archive.infolist()))


def gunzip(path: Path) -> bytes:
    """A .gz file's content.  Raises BadInput for one that unpacks too far; OSError, EOFError, zlib.error if damaged."""
    content = io.BytesIO()
    with gzip.open(path) as file:
        while piece := file.read(_STEP_BYTES):
            content.write(piece)
            check_size(path, content.tell())
    return content.getvalue()
