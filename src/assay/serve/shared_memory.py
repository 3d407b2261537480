"""System shared memory: regions that local clients made and registered, so that tensors need not travel.

For trusted local clients only, and therefore off unless the server was started with ``--admin``: whoever may
register a region can make this process read and write any POSIX shared memory object its user may open,
and a client that shrinks an object just while it is being read can end the process (SIGBUS).  A request names
regions, never files: a key is one name in ``/dev/shm``, symbolic links are not followed.
"""

from __future__ import annotations

import mmap
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay.core.units import Bytes
from assay.serve.errors import ALREADY_EXISTS, INVALID, NOT_FOUND, ServeError

FOLDER = Path("/dev/shm")  # noqa: S108  # where Linux keeps POSIX shared memory objects
MOST_REGIONS = 1024
MOST_NAME_BYTES = 255


@dataclass(frozen=True)
class Region:
    """``byte_size`` bytes from ``offset`` of the object ``key``; ``content`` is a view of just these."""

    name: str
    key: str
    offset: Bytes
    byte_size: Bytes
    content: memoryview
    file: int

    def to_json(self) -> dict[str, Any]:
        """As the status extension shows it."""
        return {"name": self.name, "key": self.key, "offset": self.offset, "byte_size": self.byte_size}


class SharedMemoryRegistry:
    """Any thread may call anything.

    A region that is unregistered while a request uses it stays mapped until that request's views are gone.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._regions: dict[str, Region] = {}
        self._lock = threading.Lock()

    def register(self, name: str, key: str, offset: Bytes, byte_size: Bytes) -> None:
        """Map ``byte_size`` bytes from ``offset`` of the POSIX shared memory object ``key`` as ``name``.

        Raises ServeError: ALREADY_EXISTS for a name in use; INVALID for a key that is no object's name, for an
        object that does not exist or may not be opened, and for a range it does not have.
        """
        if not name:
            raise ServeError(INVALID, "a shared memory region needs a name")
        if offset < 0 or byte_size <= 0:
            raise ServeError(INVALID, f"shared memory region '{name}': offset {offset}, byte size {byte_size}")
        with self._lock:
            if name in self._regions:
                raise ServeError(ALREADY_EXISTS, f"shared memory region '{name}' already in manager")
            if len(self._regions) >= MOST_REGIONS:
                raise ServeError(INVALID, f"{MOST_REGIONS} shared memory regions are registered already")
            self._regions[name] = self._open(name, key, offset, byte_size)

    def unregister(self, name: str | None = None) -> None:
        """Forget ``name``, or every region.  A name that is not registered is no error, as with Triton."""
        with self._lock:
            gone = list(self._regions) if not name else [name]
            found = [self._regions.pop(n) for n in gone if n in self._regions]
        for region in found:
            os.close(region.file)

    def status(self, name: str | None = None) -> list[dict[str, Any]]:
        """Every region, or one, by name.  Raises ServeError (not found)."""
        with self._lock:
            if not name:
                return [self._regions[n].to_json() for n in sorted(self._regions)]
            if name not in self._regions:
                raise ServeError(NOT_FOUND, f"Unable to find system shared memory region: '{name}'")
            return [self._regions[name].to_json()]

    def view(self, name: str, offset: Bytes, byte_size: Bytes) -> memoryview:
        """A writable view of ``byte_size`` bytes from ``offset`` of the region.

        Raises ServeError: NOT_FOUND for an unknown region; INVALID for a range outside it, or outside the
        object, which its owner may have made smaller.
        """
        with self._lock:
            region = self._regions.get(name)
            if region is None:
                raise ServeError(NOT_FOUND, f"Unable to find shared memory region: '{name}'")
            if offset < 0 or byte_size < 0 or offset + byte_size > region.byte_size:
                raise ServeError(INVALID, f"Invalid offset + byte size for shared memory region: '{name}'")
            if os.fstat(region.file).st_size < region.offset + region.byte_size:
                raise ServeError(INVALID, f"the object behind shared memory region '{name}' was made smaller")
            return region.content[offset : offset + byte_size]

    def close(self) -> None:
        self.unregister()

    def _open(self, name: str, key: str, offset: Bytes, byte_size: Bytes) -> Region:
        plain = _object_name(key)
        try:
            file = os.open(self._folder / plain, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "refused"
            raise ServeError(INVALID, f"Unable to open shared memory region: '{key}' ({why})") from None
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise ServeError(INVALID, f"Unable to open shared memory region: '{key}' (no shared memory object)")
            if offset + byte_size > found.st_size:
                raise ServeError(
                    INVALID,
                    f"failed to register shared memory region '{name}': bytes {offset} to {offset + byte_size} "
                    f"of an object of {found.st_size}",
                )
            lead = offset % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(file, lead + byte_size, offset=offset - lead)
        except ServeError:
            os.close(file)
            raise
        except (OSError, ValueError, OverflowError) as error:
            os.close(file)
            raise ServeError(INVALID, f"cannot map shared memory region '{name}': {error}") from None
        return Region(name, key, offset, byte_size, memoryview(mapped)[lead : lead + byte_size], file)


def _object_name(key: str) -> str:
    """The file name of a POSIX object: ``/name``, where ``name`` has no slash (shm_open(3))."""
    plain = key[1:] if key.startswith("/") else key
    if (
        not plain
        or plain in (".", "..")
        or "/" in plain
        or "\0" in plain
        or len(plain.encode("utf-8", "replace")) > MOST_NAME_BYTES
    ):
        raise ServeError(INVALID, f"'{key[:100]}' is no name of a shared memory object: one slash, then a name")
    return plain
