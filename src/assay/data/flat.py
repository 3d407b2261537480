"""``flat:DIR`` with ``--labels FILE``: all images in one folder, their labels in a text file.

A line of the file is ``<name.ext> <int>``; the key is the text before the name's first dot, as
vendor tools read it (``ILSVRC2012_val_00000001.JPEG 65``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from assay.core.dataset import Item
from assay.core.errors import BadInput
from assay.data.context import ReaderContext
from assay.data.files import check_names, existing_folder, is_image, read_bytes

USUAL_NAME = "val_label.txt"


class FlatReader:
    """Files in sorted order; an item is the file's bytes, its id the file name."""

    synthetic = False
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = None

    def __init__(self, root: Path, labels_file: Path) -> None:
        self.root = root
        self.name = f"flat:{root}"
        self._files = _match(root, read_label_file(labels_file), labels_file)

    def __len__(self) -> int:
        return len(self._files)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for path, target in self._files[start:stop]:
            yield Item(path.name, read_bytes(path), target)


def open_flat(argument: str | None, context: ReaderContext) -> FlatReader:
    """Raises BadInput for a missing label file, and for a file or a label without its counterpart."""
    root = existing_folder(argument, "flat")
    labels_file = context.labels_file
    if labels_file is None:
        beside = root / USUAL_NAME
        hint = beside if beside.is_file() else f"FILE (lines of '<name.ext> <int>', usually {USUAL_NAME})"
        raise BadInput(f"flat:{root} needs a label file", remedy=f"--labels {hint}")
    if not labels_file.is_file():
        raise BadInput(f"there is no label file {labels_file}")
    return FlatReader(root, labels_file)


def key_of(name: str) -> str:
    """``"dir/ILSVRC2012_val_1.png.bin"`` -> ``"ILSVRC2012_val_1"``."""
    return PurePosixPath(name).name.split(".", 1)[0]


def read_label_file(path: Path) -> dict[str, int]:
    """Key -> label.  Raises BadInput, with the line number, for a line that is not ``<name> <int>``."""
    labels: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not a readable text file ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, label = _parse(line, f"{path}:{number}")
        if labels.setdefault(key_of(name), label) != label:
            raise BadInput(f"{path}:{number}: {key_of(name)} is labelled {labels[key_of(name)]} and {label}")
    if not labels:
        raise BadInput(f"{path} holds no labels", remedy="one line per image: <name.ext> <int>")
    return labels


def _parse(line: str, where: str) -> tuple[str, int]:
    parts = line.rsplit(None, 1)
    try:
        name, label = parts[0].strip(), int(parts[1])
    except (IndexError, ValueError):
        raise BadInput(f"{where}: {line.strip()!r} is not '<name.ext> <int>'") from None
    return name, label


def _match(root: Path, labels: Mapping[str, int], labels_file: Path) -> list[tuple[Path, int]]:
    files = sorted(p for p in root.iterdir() if is_image(p))
    if not files:
        raise BadInput(f"no images in {root}")
    check_names((p.name for p in files), str(root))
    by_key: dict[str, Path] = {}
    for path in files:
        other = by_key.setdefault(key_of(path.name), path)
        if other is not path:
            raise BadInput(f"{other.name} and {path.name} in {root} share the key {key_of(path.name)!r}")
    _complain(
        f"images in {root} have no label in {labels_file}", [p.name for k, p in by_key.items() if k not in labels]
    )
    _complain(f"labels in {labels_file} have no image in {root}", [k for k in labels if k not in by_key])
    return [(path, labels[key_of(path.name)]) for path in files]


def _complain(what: str, names: Sequence[str]) -> None:
    if names:
        shown = ", ".join(names[:5]) + (" …" if len(names) > 5 else "")
        raise BadInput(f"{len(names)} {what}: {shown}", remedy="images and labels must match one to one")
