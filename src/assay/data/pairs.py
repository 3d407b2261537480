"""``pairs:DIR``: low-resolution pictures in lr/, their high-resolution originals in hr/, matched by name.

``pairs:DIR?white=255&order=BGR`` for a model that takes 0 … 255 or blue first; the default is RGB from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from assay.core.dataset import Item
from assay.core.errors import AssayError, BadInput
from assay.data import pillow_path
from assay.data.context import ReaderContext
from assay.data.files import check_names, existing_folder, is_image, read_bytes
from assay.data.geometry import Placement
from assay.data.pixels import pixel_transform


class PairsReader:
    """An item is the small picture's bytes, its id the file name.  Its target holds the ``original`` and the small
    one enlarged to its size by Pillow's ``bicubic``, both uint8 (H, W, 3), or (H, W, 1) with ``channels=1``."""

    synthetic = False
    labels: tuple[str, ...] | None = None

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        self.name = f"pairs:{root}"
        transform = pixel_transform(settings)
        self.preprocess: Mapping[str, Any] | None = transform.to_json()
        self._channels = transform.settings.channels
        self._files = match(root / "lr", root / "hr", is_image)

    def __len__(self) -> int:
        return len(self._files)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for small, large in self._files[start:stop]:
            content = read_bytes(small)
            original = pillow_path.pixels(self._decoded(read_bytes(large), large)).copy()
            place = Placement(original.shape[:2], 0, 0)
            bicubic = pillow_path.resize(self._decoded(content, small), place, "bicubic")
            yield Item(small.name, content, {"original": original, "bicubic": pillow_path.pixels(bicubic).copy()})

    def _decoded(self, content: bytes, path: Path) -> Any:
        try:
            return pillow_path.decode(content, self._channels)
        except AssayError as error:
            raise BadInput(f"{path}: {error.message}") from error


def open_pairs(argument: str | None, context: ReaderContext) -> PairsReader:
    """Raises BadInput for missing folders and for files without their counterpart."""
    place, _, query = (argument or "").partition("?")
    settings: dict[str, Any] = {"kind": "pixels"}
    for key, value in parse_qsl(query, keep_blank_values=True):
        settings[key] = _number(value) if key in ("white", "channels") else value
    return PairsReader(existing_folder(place, "pairs"), settings)


def match(first: Path, second: Path, wanted: Any) -> list[tuple[Path, Path]]:
    """The ``wanted`` files of two folders, paired by the text before the first dot of their names, sorted.

    Raises BadInput for a missing folder, no files, two files of one name, and files without counterpart.
    """
    mine, theirs = _by_stem(first, wanted), _by_stem(second, wanted)
    for one, other, folder, elsewhere in ((mine, theirs, first, second), (theirs, mine, second, first)):
        alone = sorted(p.name for stem, p in one.items() if stem not in other)
        if alone:
            shown = ", ".join(alone[:5]) + (" …" if len(alone) > 5 else "")
            raise BadInput(f"{len(alone)} files in {folder} have no counterpart in {elsewhere}: {shown}")
    return [(mine[stem], theirs[stem]) for stem in sorted(mine)]


def _by_stem(folder: Path, wanted: Any) -> dict[str, Path]:
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}", remedy="one folder for each side, with equal file names")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if wanted(p)):
        other = found.setdefault(path.name.split(".", 1)[0], path)
        if other is not path:
            raise BadInput(f"{other.name} and {path.name} in {folder} have the same name before the dot")
    if not found:
        raise BadInput(f"nothing in {folder} that could be read")
    check_names((p.name for p in found.values()), str(folder))
    return found


def _number(text: str) -> float | int:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise BadInput(f"{text!r} is not a number", remedy="pairs:DIR?white=255") from None
