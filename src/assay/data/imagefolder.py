"""``imagefolder:DIR`` (or just DIR): one folder per class, as ImageNet's validation set is usually kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from assay.core.dataset import Item
from assay.core.errors import BadInput
from assay.data.context import ReaderContext
from assay.data.files import IMAGE_SUFFIXES, check_names, existing_folder, is_image, read_file


class ImageFolderReader:
    """Class folders in sorted order give the targets 0, 1, …; files below them, sorted, are the items.

    A folder without images is a class of its own all the same, as the numbers of the others depend on it;
    ``warnings`` count and name such folders.

    An item is the file's bytes, its id the path relative to ``root`` with forward slashes.
    Only the ids are held in memory.
    """

    synthetic = False
    preprocess: Mapping[str, Any] | None = None

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = f"{root}/"
        self.name = f"imagefolder:{root}"
        classes, self._files = _scan(root)
        self.labels: tuple[str, ...] | None = classes
        filled = {target for _, target in self._files}
        empty = [name for target, name in enumerate(classes) if target not in filled]
        self.warnings = (_without_images(root, empty, len(classes)),) if empty else ()

    def __len__(self) -> int:
        return len(self._files)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for id, target in self._files[start:stop]:
            yield Item(id, read_file(f"{self._prefix}{id}"), target)


def open_imagefolder(argument: str | None, context: ReaderContext) -> ImageFolderReader:
    """Raises BadInput for a folder without class folders, and for one without any images."""
    return ImageFolderReader(existing_folder(argument, "imagefolder"))


def _scan(root: Path) -> tuple[tuple[str, ...], list[tuple[str, int]]]:
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise BadInput(_no_class_folders(root), remedy=_fix(root))
    files: list[tuple[str, int]] = []
    for target, folder in enumerate(folders):
        found = sorted(p for p in folder.rglob("*") if is_image(p))
        files += [(p.relative_to(root).as_posix(), target) for p in found]
    if not files:
        raise BadInput(f"no images below {root}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    check_names((f.name for f in folders), str(root))
    check_names((id for id, _ in files), str(root))
    return tuple(f.name for f in folders), files


def _without_images(root: Path, empty: list[str], classes: int) -> str:
    shown = ", ".join(empty[:5]) + (" …" if len(empty) > 5 else "")
    return (
        f"{len(empty)} of {classes} class folders of {root} hold no images: {shown}. They count as classes, "
        "since every folder does; remove those that are none"
    )


def _no_class_folders(root: Path) -> str:
    images = sum(1 for p in root.iterdir() if is_image(p))
    if images:
        return f"{root} holds {images} images but no class folders, so nothing says what they show"
    return f"the folder {root} is empty" if not any(root.iterdir()) else f"{root} holds no class folders"


def _fix(root: Path) -> str:
    return f"make one folder per class ({root}/cat/1.jpg), or use flat:{root} with --labels val_label.txt"
