"""``assay prepare``: the ``.bin`` + info + label set that vendor tools read."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from assay import data as readers
from assay.core.dataset import Item, Reader
from assay.core.errors import AssayError, BadInput, StorageFailed
from assay.core.tensors import Array
from assay.core.transform import FunctionTransform, Transform
from assay.data import ReaderContext
from assay.data.flat import USUAL_NAME, key_of
from assay.job.drawing import at_places, some_places
from assay.job.progress import Progress
from assay.job.user_code import user_transform
from assay.measure.environment import cores_granted
from assay.sources import SourceOptions, resolve_model

MODES = ("bin", "jpg")
FOLDER = "prep_dataset"
_AHEAD = 64


@dataclass(frozen=True)
class Preparation:
    """``mode`` bin writes preprocessed floats, jpg copies the pictures.  ``model`` brings the preprocessing where
    the data have none of their own.  ``limit`` samples are those that ``assay evaluate --limit`` draws with ``seed``.
    """

    data: str
    out: Path
    mode: str = "bin"
    model: str | None = None
    labels: Path | None = None
    preprocess: str | None = None
    limit: int | None = None
    max_failures: int = 0
    seed: int = 0


@dataclass(frozen=True)
class PreparedSet:
    """``info`` and ``labels`` are the files made; ``failures`` name what could not be prepared, with the reason.
    ``drawn_from`` is how many samples the data hold where only some were drawn, None where all were taken.
    ``warnings`` are the reader's, and how many of the files have no label where others do."""

    info: Path
    labels: Path | None
    written: int
    failures: tuple[tuple[str, str], ...]
    drawn_from: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Chosen:
    """The samples asked for: ``places`` are theirs among ``available`` in the data, ``reader`` has them alone."""

    reader: Reader
    places: Sequence[int]
    available: int

    @property
    def drawn_from(self) -> int | None:
        return self.available if len(self.places) < self.available else None


def prepare_set(asked: Preparation, source: SourceOptions, progress: Progress) -> PreparedSet:
    """Everything is written beside its place and renamed, so a folder there is a whole set.

    Raises BadInput for an existing folder, unknown preprocessing and more failures than allowed.
    """
    if asked.mode not in MODES:
        raise BadInput(f"the mode is {' or '.join(MODES)}, not {asked.mode!r}")
    if asked.out.exists() and (not asked.out.is_dir() or any(asked.out.iterdir())):
        raise BadInput(f"{asked.out} exists and is not empty", remedy="give a new folder, or remove this one")
    if asked.out.exists() and asked.out.samefile(Path.cwd()):  # the folder one is in cannot be put in place of
        raise BadInput(f"{asked.out} is the folder you are in", remedy="-o prepared")
    reader = readers.open_reader(asked.data, ReaderContext(labels_file=asked.labels))
    if len(reader) == 0:
        raise BadInput(f"{asked.data} holds no samples")
    chosen = _chosen(asked, reader)
    transform = _transform(asked, reader, source) if asked.mode == "bin" else None
    temporary = asked.out.with_name(f".{asked.out.name}.tmp")
    drawn = f" drawn from {chosen.drawn_from} with seed {asked.seed}" if chosen.drawn_from else ""
    progress.stage("prepare", f"{len(chosen.places)} samples{drawn}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / FOLDER).mkdir(parents=True)
        found = _write(asked, chosen, transform, temporary, progress)
        if asked.out.exists():
            asked.out.rmdir()
        temporary.replace(asked.out)
    except OSError as error:
        raise StorageFailed(f"{asked.out} could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    progress.done(f"{found.written} written, {len(found.failures)} failed")
    labels = None if found.labels is None else asked.out / USUAL_NAME
    return replace(found, info=asked.out / found.info.name, labels=labels)


def _chosen(asked: Preparation, reader: Reader) -> _Chosen:
    available = len(reader)
    if asked.limit is None or asked.limit >= available:
        return _Chosen(reader, range(available), available)
    places = some_places(available, asked.limit, asked.seed)
    return _Chosen(at_places(reader, places), places, available)


def _transform(asked: Preparation, reader: Reader, source: SourceOptions) -> Transform:
    if asked.preprocess:
        return FunctionTransform(user_transform(asked.preprocess), asked.preprocess)
    described = _described(asked.model, source) if asked.model else reader.preprocess
    if described is None:
        what = asked.model or asked.data
        raise BadInput(
            f"{what} does not say how pictures are preprocessed",
            remedy="--model timm:resnet18, or --preprocess FILE.py:fn",
        )
    return readers.transform_from_json(described)


def _described(model: str, source: SourceOptions) -> Mapping[str, Any] | None:
    """How the model's pictures are preprocessed; nothing of the model itself is kept."""
    with tempfile.TemporaryDirectory(prefix="assay-prepare-") as folder:
        return resolve_model(model, replace(source, out_dir=Path(folder))).preprocess


def _write(
    asked: Preparation, chosen: _Chosen, transform: Transform | None, folder: Path, progress: Progress
) -> PreparedSet:
    failures: list[tuple[str, str]] = []
    lines: dict[str, list[str]] = {}
    labels: list[str] = []
    taken: set[str] = set()
    total = len(chosen.places)
    with ThreadPoolExecutor(max(1, int(cores_granted()))) as pool:
        for group in _groups(chosen, failures):
            made = list(pool.map(lambda item: _made(item, transform), group))
            for item, one in zip(group, made, strict=True):
                if isinstance(one, AssayError):
                    failures.append((item.id, one.message))
                    continue
                suffix, content, (width, height) = one
                name = _name(item.id, suffix, taken)
                (folder / FOLDER / name).write_bytes(content)
                indexed = lines.setdefault(suffix if asked.mode == "jpg" else "", [])
                indexed.append(f"{len(indexed)} ./{FOLDER}/{name} {width} {height}\n")
                if item.target is not None:
                    labels.append(f"{name} {_label(item)}\n")
            _refuse_too_many(asked, failures)
            progress.advance(len(taken) + len(failures), total)
    if not taken:
        raise BadInput(f"none of the {total} samples could be prepared: {failures[0][0]}: {failures[0][1]}")
    info = folder / f"prep_{asked.mode}.info"
    info.write_text("".join(line for group in lines.values() for line in group), encoding="utf-8")
    if labels:
        (folder / USUAL_NAME).write_text("".join(labels), encoding="utf-8")
    warnings = (*getattr(chosen.reader, "warnings", ()), *_unlabelled(len(taken), len(labels)))
    about: Mapping[str, Any] = {
        "data": asked.data,
        "mode": asked.mode,
        "transform": None if transform is None else dict(transform.to_json()),
        "counts": {"read": total, "written": len(taken), "failed": len(failures)},
        "drawn": None if chosen.drawn_from is None else {"from": chosen.drawn_from, "seed": asked.seed},
        "failures": failures,
        "warnings": warnings,
    }
    (folder / "prepared.json").write_text(json.dumps(about, indent=2), encoding="utf-8")
    of_labels = folder / USUAL_NAME if labels else None
    return PreparedSet(info, of_labels, len(taken), tuple(failures), chosen.drawn_from, warnings)


def _unlabelled(written: int, labelled: int) -> tuple[str, ...]:
    """Data without any labels are said to be that elsewhere."""
    if labelled in (0, written):
        return ()
    missing = written - labelled
    return (
        f"{missing} of {written} samples {'has' if missing == 1 else 'have'} no label: {USUAL_NAME} has {labelled} "
        "lines, and the set can be evaluated only once it has one for each",
    )


def _groups(chosen: _Chosen, failures: list[tuple[str, str]]) -> Iterator[list[Item]]:
    """Items a few at a time; one that cannot be read is noted and reading begins again behind it."""
    place, total = 0, len(chosen.places)
    while place < total:
        group: list[Item] = []
        try:
            for item in islice(chosen.reader.items(place, total), _AHEAD):
                group.append(item)
            if not group:
                raise BadInput("the data ended before it")
        except AssayError as error:
            failures.append((f"item {chosen.places[place + len(group)]}", error.message))
            place += 1
        place += len(group)
        yield group


def _made(item: Item, transform: Transform | None) -> tuple[str, bytes, tuple[int, int]] | AssayError:
    """(suffix, file content, (width, height)), or what is wrong with the item."""
    try:
        return _copied(item) if transform is None else _preprocessed(item, transform)
    except AssayError as error:
        return error
    except Exception as error:  # a user's own function may raise anything
        return BadInput(f"the transform failed with {type(error).__name__}: {error}")


def _preprocessed(item: Item, transform: Transform) -> tuple[str, bytes, tuple[int, int]]:
    array: Array = next(iter(item.content.values())) if isinstance(item.content, Mapping) else transform(item.content)
    if array.dtype != np.float32 or array.ndim != 3:
        raise BadInput(f"a set of .bin files holds float32 (channels, H, W), not {array.dtype} {array.shape}")
    return ".bin", array.astype("<f4").tobytes(), (array.shape[2], array.shape[1])


def _copied(item: Item) -> tuple[str, bytes, tuple[int, int]]:
    if not isinstance(item.content, bytes):
        raise BadInput("the data hold arrays, not picture files", remedy="--mode bin")
    from assay.data import pillow_path

    image = pillow_path.decode(item.content, 3)
    suffix = Path(item.id).suffix.lower()
    return suffix or ".jpg", item.content, (image.width, image.height)


def _name(id: str, suffix: str, taken: set[str]) -> str:
    """A flat file name with one dot, since vendor tools take what stands before the first dot for the key."""
    stem = key_of(id)
    if stem in taken:
        stem = str(Path(id).with_suffix("")).replace("/", "_").replace(".", "_")
    if not stem or stem in taken:
        raise BadInput(f"{id}: another sample has the name {stem!r} too")
    taken.add(stem)
    return f"{stem}{suffix}"


def _label(item: Item) -> int:
    try:
        return int(item.target.__index__())
    except (AttributeError, TypeError):
        raise BadInput(f"{item.id}: a label file holds whole numbers, not {type(item.target).__name__}") from None


def _refuse_too_many(asked: Preparation, failures: list[tuple[str, str]]) -> None:
    if len(failures) > asked.max_failures:
        shown = "; ".join(f"{id}: {reason}" for id, reason in failures[:5])
        raise BadInput(
            f"{len(failures)} samples failed, more than the {asked.max_failures} allowed: {shown}",
            remedy=f"repair or remove them, or go on without them: --max-failures {max(10, 2 * len(failures))}",
        )
