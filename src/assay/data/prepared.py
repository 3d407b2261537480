"""``prepared:INFO``: a set of ``.bin`` files (or pictures) that vendor tools read, with its info and label files.

A line of the info file is ``<index> <path> <width> <height>``.  A ``.bin`` is raw little-endian float32,
channels first, without header.  Labels are in ``--labels`` or in ``val_label.txt`` beside the info file,
by the text before the first dot of the name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.dataset import Item
from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.data.context import ReaderContext
from assay.data.files import path_of, read_bytes
from assay.data.flat import USUAL_NAME, key_of, read_label_file


@dataclass(frozen=True)
class Entry:
    """One line of an info file; sizes in pixels."""

    index: int
    path: Path
    width: int
    height: int


class PreparedReader:
    """An item is ``{input: float32 (channels, height, width)}`` or a picture's bytes; its id the file's name."""

    synthetic = False
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = None

    def __init__(self, info: Path, input_name: str, labels: Mapping[str, int] | None) -> None:
        self.name = f"prepared:{info}"
        self._entries = read_info(info)
        self.files = tuple(e.path for e in self._entries)
        self._input = input_name
        self._labels = labels
        if labels is not None:
            unknown = [e.path.name for e in self._entries if key_of(e.path.name) not in labels]
            if unknown:
                raise BadInput(f"{len(unknown)} files of {info} have no label: {', '.join(unknown[:5])}")

    def __len__(self) -> int:
        return len(self._entries)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for entry in self._entries[start:stop]:
            content = read_bytes(entry.path)
            target = None if self._labels is None else self._labels[key_of(entry.path.name)]
            if entry.path.suffix == ".bin":
                yield Item(entry.path.name, {self._input: _floats(entry, content)}, target)
            else:
                yield Item(entry.path.name, content, target)


def open_prepared(argument: str | None, context: ReaderContext) -> PreparedReader:
    """Raises BadInput for missing files, broken lines and files without a label."""
    if not argument:
        raise BadInput("--data prepared needs an info file", remedy="--data prepared:SET.info")
    info = path_of(argument)
    if not info.is_file():
        raise BadInput(f"there is no info file {info}")
    if context.inputs is not None and len(context.inputs) != 1:
        raise BadInput(f"{info} is for models with one input; this one has {len(context.inputs)}")
    labels_file = context.labels_file or info.parent / USUAL_NAME
    if context.labels_file is not None and not labels_file.is_file():
        raise BadInput(f"there is no label file {labels_file}")
    labels = read_label_file(labels_file) if labels_file.is_file() else None
    return PreparedReader(info, context.inputs[0].name if context.inputs else "input", labels)


def read_info(path: Path) -> list[Entry]:
    """Paths are relative to the info file's folder or, where that is not, to the working directory.

    Raises BadInput with the line number.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a readable text file ({error})") from error
    entries = [_entry(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if not entries:
        raise BadInput(f"{path} lists no files")
    names = {e.path.name for e in entries}
    if len(names) < len(entries):
        raise BadInput(f"{path} lists {len(entries) - len(names)} file names more than once")
    return entries


def _entry(line: str, info: Path, number: int) -> Entry:
    first, _, rest = line.strip().partition(" ")
    parts = rest.rsplit(" ", 2)
    try:
        index, width, height = int(first), int(parts[1]), int(parts[2])
        if index < 0 or width < 1 or height < 1:
            raise ValueError
    except (ValueError, IndexError):
        raise BadInput(f"{info}:{number}: {line.strip()!r} is not '<index> <path> <width> <height>'") from None
    place = Path(parts[0])
    beside = info.parent / place
    try:
        if "\0" in parts[0]:  # of which exists() says that it does not exist, and stat() what it is
            raise ValueError("a NUL in it")
        found = not place.is_absolute() and beside.exists()
    except (OSError, ValueError) as error:  # or too long
        raise BadInput(f"{info}:{number}: {parts[0][:60]!r} is no file name ({error})") from None
    return Entry(index, beside if found else place, width, height)


def _floats(entry: Entry, content: bytes) -> Array:
    channel = 4 * entry.width * entry.height
    if not content or len(content) % channel:
        raise BadInput(
            f"{entry.path} has {len(content)} bytes, which is no float32 picture of {entry.width}×{entry.height}"
        )
    shape = (len(content) // channel, entry.height, entry.width)
    return np.frombuffer(content, dtype="<f4").reshape(shape).astype(np.float32)
