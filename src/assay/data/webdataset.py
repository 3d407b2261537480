"""``webdataset:PATTERN``: tar shards in which files with one name before the first dot are one sample.

``PATTERN`` is a file, a glob or a brace range: ``val-{000..009}.tar``.  The image has an image's
suffix, its label is a number in ``.cls`` (or ``label`` in ``.json``).  When opened, only the headers
and labels are read, so that samples can be counted and begun anywhere; nothing is unpacked to disk.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.core.dataset import Item
from assay.core.errors import BadInput
from assay.data.context import ReaderContext
from assay.data.files import IMAGE_SUFFIXES, check_names, matching_files, path_of, short_names

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_LABEL_BYTES = 1 << 20


@dataclass
class _Sample:
    shard: Path
    id: str
    target: int | None = None
    images: list[tuple[str, int, int]] = field(default_factory=list)
    """(name, offset, bytes) of every image; a good sample has one."""


class WebdatasetReader:
    """An item is the image's bytes, its id ``shard/key``.  Memory holds the places of the images, not the images."""

    synthetic = False
    labels: tuple[str, ...] | None = None
    preprocess: Mapping[str, Any] | None = None

    def __init__(self, pattern: str, shards: list[Path]) -> None:
        self.name, self.files = f"webdataset:{pattern}", tuple(shards)
        named = zip(shards, short_names(shards), strict=True)
        self._samples = [sample for shard, name in named for sample in _index(shard, name)]
        if not self._samples:
            raise BadInput(f"no samples in {pattern}")
        check_names((sample.id for sample in self._samples), pattern)

    def __len__(self) -> int:
        return len(self._samples)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        for sample in self._samples[start:stop]:
            if len(sample.images) != 1:
                raise BadInput(f"{sample.id} has {len(sample.images)} images; a sample has one")
            yield Item(sample.id, _bytes(sample), sample.target)


def open_webdataset(argument: str | None, context: ReaderContext) -> WebdatasetReader:
    """Raises BadInput for a pattern without files, a missing shard, and a file that is no plain tar."""
    if not argument:
        raise BadInput("--data webdataset needs a pattern", remedy="--data 'webdataset:val-{000..009}.tar'")
    names = _expand(argument)
    paths = [path_of(n) for n in names]
    if len(names) == 1 and not paths[0].is_file():
        paths = matching_files(argument)
    missing = [str(p) for p in paths if not p.is_file()]
    if missing:
        raise BadInput(f"{len(missing)} of {len(paths)} shards are missing: {', '.join(missing[:5])}")
    return WebdatasetReader(argument, paths)


def _expand(pattern: str) -> list[str]:
    """``a-{08..10}.tar`` -> a-08.tar, a-09.tar, a-10.tar."""
    found = _RANGE.search(pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    numbers = range(int(first), int(last) + 1)
    if not numbers:
        raise BadInput(f"the range {found.group()} is empty")
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [name for n in numbers for name in _expand(f"{head}{n:0{len(first)}d}{tail}")]


def _index(shard: Path, name: str) -> Iterator[_Sample]:
    sample: _Sample | None = None
    seen: set[str] = set()
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, file = member.name.rpartition("/")
                stem, _, suffix = file.partition(".")
                id = f"{name}/{folder + '/' if folder else ''}{stem}"
                if sample is None or sample.id != id:
                    if sample is not None:
                        yield sample
                    if id in seen:
                        raise BadInput(f"{shard}: the files of {id} do not lie together")
                    seen.add(id)
                    sample = _Sample(shard, id)
                _add(sample, tar, member, suffix.lower())
            if tar.offset > shard.stat().st_size:
                raise BadInput(f"{shard} is cut off")
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:  # the latter of its headers
        raise BadInput(
            f"{shard} is not a whole, plain tar file ({error})", remedy=f"if it is compressed: gunzip {shard}"
        ) from error
    if sample is not None:
        yield sample


def _add(sample: _Sample, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> None:
    if f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES:
        sample.images.append((member.name, member.offset_data, member.size))
    elif suffix in ("cls", "json") and member.size <= _MOST_LABEL_BYTES:
        file = tar.extractfile(member)
        assert file is not None
        sample.target = _label(file.read(), suffix, f"{sample.shard}: {member.name}", sample.target)


def _label(content: bytes, suffix: str, where: str, known: int | None) -> int | None:
    try:
        if suffix == "cls":
            found: Any = int(content)
        else:
            data = json.loads(content)
            found = data.get("label", data.get("cls")) if isinstance(data, dict) else None
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{where} does not hold a label ({error})") from error
    if found is None:
        return known
    if isinstance(found, bool) or not isinstance(found, int):
        raise BadInput(f"{where}: a label is a whole number, not {found!r}")
    if known is not None and known != found:
        raise BadInput(f"{where}: the sample is labelled {known} and {found}")
    return found


def _bytes(sample: _Sample) -> bytes:
    name, offset, size = sample.images[0]
    try:
        with sample.shard.open("rb") as file:
            file.seek(offset)
            content = file.read(size)
    except OSError as error:
        raise BadInput(f"{sample.shard}: {name} cannot be read ({error.strerror})") from error
    if len(content) != size:
        raise BadInput(f"{sample.id}: {name} is cut off after {len(content)} of {size} bytes")
    return content
