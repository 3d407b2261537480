"""Where Samples come from: readers, and the transforms that make model inputs of what they yield.

``open_reader`` takes what ``--data`` says, ``from_iterable`` any Python iterable, and
``samples`` joins a reader, a transform and a model's inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assay.core.dataset import Reader
from assay.core.errors import BadInput, UnknownName
from assay.core.table import resolve
from assay.core.transform import Transform
from assay.data.context import ReaderContext
from assay.data.feeding import preparer, samples
from assay.data.files import path_of
from assay.data.iterables import from_iterable

__all__ = [
    "READERS",
    "TRANSFORMS",
    "ReaderContext",
    "from_iterable",
    "open_reader",
    "preparer",
    "samples",
    "transform_from_json",
]

# Each factory takes (argument after the first colon or None, ReaderContext) and returns a Reader.
READERS = {
    "cifar10": "assay.data.cifar10:open_cifar10",
    "digits": "assay.data.digits:open_digits",
    "flat": "assay.data.flat:open_flat",
    "imagefolder": "assay.data.imagefolder:open_imagefolder",
    "npz": "assay.data.npz:open_npz",
    "pairs": "assay.data.pairs:open_pairs",
    "parquet": "assay.data.parquet:open_parquet",
    "prepared": "assay.data.prepared:open_prepared",
    "synthetic": "assay.data.synthetic:open_synthetic",
    "volumes": "assay.data.volumes:open_volumes",
    "webdataset": "assay.data.webdataset:open_webdataset",
}
# Each factory takes the transform as data and returns a Transform.
TRANSFORMS = {
    "fast_image": "assay.data.fast_image:fast_image_transform",
    "image": "assay.data.image:image_transform",
    "image_bytes": "assay.data.image_bytes:image_bytes_transform",
    "none": "assay.data.plain:null_transform",
    "pixels": "assay.data.pixels:pixel_transform",
}


def open_reader(spec: str, context: ReaderContext | None = None) -> Reader:
    """The reader for one ``--data`` argument: ``FORM``, ``FORM:ARGUMENT`` or a folder of class folders.

    Raises BadInput for an unknown form or a folder that is not there, and whatever the reader
    finds wrong with its files: everything is checked here, before any long run.
    """
    context = context or ReaderContext()
    form, colon, argument = spec.partition(":")
    if form in READERS:
        return _open(form, argument if colon else None, context)
    path = path_of(spec)
    if path.is_dir():
        return _open("imagefolder", spec, context)
    if path.is_file():
        raise BadInput(f"{spec} is a file, not a folder of images", remedy=_for_file(path))
    if path.suffix or len(path.parts) > 1:
        raise BadInput(
            f"there is no folder {spec}", remedy=f"give an existing folder, or one of the forms {', '.join(READERS)}"
        )
    raise UnknownName("data form", form, READERS)


def transform_from_json(data: Mapping[str, Any]) -> Transform:
    """Rebuild a transform from its description.  Raises BadInput for an unknown or incomplete one."""
    kind = data.get("kind")
    if not isinstance(kind, str):
        raise BadInput(f"a transform's description has a kind; this one has: {', '.join(map(str, data)) or 'nothing'}")
    if kind == "function":
        raise BadInput(
            f"the transform {data.get('name')!r} is a user's own function and cannot be rebuilt from a description",
            remedy="give it again: --preprocess FILE.py:fn",
        )
    transform: Transform = resolve(TRANSFORMS, kind, "transform kind")(data)
    return transform


def _open(form: str, argument: str | None, context: ReaderContext) -> Reader:
    reader: Reader = resolve(READERS, form, "data form")(argument, context)
    return reader


def _for_file(path: Path) -> str:
    form = {".npz": "npz", ".parquet": "parquet", ".tar": "webdataset", ".info": "prepared"}.get(path.suffix)
    if form:
        return f"--data {form}:{path}"
    return "give the folder that holds one folder per class"
