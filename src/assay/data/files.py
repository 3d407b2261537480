"""Finding image files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from assay.core.errors import BadInput
from assay.core.tensors import Array

IMAGE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
)


def is_image(path: Path) -> bool:
    """By its name alone: the content is checked when it is decoded."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def path_of(argument: str) -> Path:
    """What an argument names, ``~`` written out.  Raises BadInput for the home of nobody."""
    try:
        return Path(argument).expanduser()
    except RuntimeError as error:
        raise BadInput(f"{argument}: {error}", remedy="write the whole path") from error


def check_names(names: Iterable[str], where: str) -> None:
    """Ids are made of file names, and ids are text.  Raises BadInput for names that are not UTF-8."""
    for name in names:
        if not name.isascii() and name != name.encode(errors="replace").decode():
            raise BadInput(f"{where} holds a file whose name is not UTF-8: {name!r}", remedy="rename the file")


def existing_folder(argument: str | None, form: str) -> Path:
    """The folder an argument names.  Raises BadInput when there is none."""
    if not argument:
        raise BadInput(f"--data {form} needs a folder", remedy=f"--data {form}:DIR")
    folder = path_of(argument)
    if folder.is_file():
        raise BadInput(f"{folder} is a file, not a folder")
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder}")
    return folder


def read_bytes(path: Path) -> bytes:
    """The whole file.  Raises BadInput when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # a NUL in the name
        raise BadInput(f"{str(path)!r} is no file name ({error})") from error


def read_array(path: Path) -> Array:
    """The array of a .npy file.  Raises BadInput for anything else; nothing in it is unpickled."""
    try:
        with path.open("rb") as file:
            found: Array = np.lib.format.read_array(file, allow_pickle=False)
            return found
    except MemoryError as error:
        raise BadInput(f"{path} claims more values than there is memory for ({error})") from error
    except Exception as error:  # numpy parses the header as Python and raises whatever that raises
        raise BadInput(f"{path} does not hold an array of numbers ({error})") from error


def read_file(path: str) -> bytes:
    """``read_bytes`` for inner loops: half its time, since no file object is made."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            content = os.read(descriptor, size)
            while len(content) < size and (more := os.read(descriptor, size - len(content))):
                content += more
            return content
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from error


def matching_files(pattern: str) -> list[Path]:
    """The file of that name, or the files a glob pattern matches, sorted.  Raises BadInput for none."""
    path = path_of(pattern)
    found = [path] if path.is_file() else []
    if not found and any(c in pattern for c in "*?["):
        start = Path(path.anchor) if path.anchor else Path()
        try:
            found = sorted(p for p in start.glob(str(path.relative_to(start))) if p.is_file())
        except ValueError as error:  # ** as a part of a name
            raise BadInput(f"{pattern} is no pattern of file names: {error}") from error
    if not found:
        raise BadInput(f"there is no file {pattern}")
    return found


def short_names(paths: Sequence[Path]) -> list[str]:
    """The files' names, with as many of their folders as tell files of one name apart: ids are made of them."""
    if len({p.name for p in paths}) == len(paths):
        return [p.name for p in paths]
    whole = [p.absolute() for p in paths]
    common = os.path.commonpath([p.parent for p in whole])
    return [p.relative_to(common).as_posix() for p in whole]
