"""Which samples an evaluation was on: a digest over what was read, whatever the order workers came to it in."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from assay.core.dataset import Item
from assay.core.tensors import Array

Prepare = Callable[[Item, Mapping[str, Array] | None], Mapping[str, Array]]
_MODULUS = 2**256


class SetDigest:
    """The sum, modulo 2**256, of the sha256 of every item's id, content and target.

    Two sets have the same sum where they hold the same items, in any order (Bellare and Micciancio, 1997, "A new
    paradigm for collision-free hashing", AdHash): it tells sets apart, and is no defence against forgery.
    Content is what the reader gave: a file's bytes, or arrays.
    """

    def __init__(self) -> None:
        self._sum = 0
        self._lock = threading.Lock()
        self._unknown = False
        self.count = 0

    def add(self, item: Item) -> None:
        """Safe in several threads."""
        sha = hashlib.sha256()
        known = _feed(sha, (item.id, item.content, item.target))
        value = int.from_bytes(sha.digest(), "big")
        with self._lock:
            self._sum = (self._sum + value) % _MODULUS
            self._unknown |= not known
            self.count += 1

    def seen_by(self, prepare: Prepare) -> Prepare:
        """``prepare`` that adds each item it is given."""

        def adding(item: Item, rows: Mapping[str, Array] | None) -> Mapping[str, Array]:
            self.add(item)
            return prepare(item, rows)

        return adding

    def add_all(self, items: Iterable[Item]) -> None:
        for item in items:
            self.add(item)

    def hexdigest(self, count: int) -> str | None:
        """None unless ``count`` items were added, all of kinds that have bytes of their own."""
        return None if self._unknown or self.count != count else f"{self._sum:064x}"


def _feed(sha: Any, content: Any) -> bool:
    """Whether there was something stable to hash."""
    if isinstance(content, Mapping):
        return all(_feed(sha, (str(name), content[name])) for name in sorted(content, key=str))
    if isinstance(content, bytes | bytearray | memoryview):
        sha.update(b"bytes%d:" % len(content))
        sha.update(content)
        return True
    if isinstance(content, np.ndarray) and content.dtype != object:
        sha.update(f"{content.dtype}{content.shape}:".encode())
        sha.update(content.tobytes())  # in row-major order; bfloat16 has no buffer of its own to hash
        return True
    if content is None or isinstance(content, str | int | float | bool | np.generic):
        sha.update(repr(content.item() if isinstance(content, np.generic) else content).encode())
        return True
    if isinstance(content, np.ndarray):  # of objects
        return _feed(sha, content.tolist())
    if isinstance(content, list | tuple):
        sha.update(b"%d of:" % len(content))
        return all(_feed(sha, part) for part in content)
    return False
