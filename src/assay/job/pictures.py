"""Small pictures of the samples whose prediction changed, kept in the run folder for its reports.

``samples/pictures.json``: ``{"pictures": {id: data-URI}, "labels": [class names]}``.  At most ``MOST`` of them,
each at most ``SIDE`` pixels wide, so that a report of many candidates stays small.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from assay.core import checked
from assay.core.dataset import Item, Reader
from assay.core.errors import AssayError
from assay.core.pictures import FORMATS
from assay.core.record import Record
from assay.core.tensors import Array
from assay.job.folder import write_text
from assay.measure.predictions import read_predictions
from assay.measure.raw import path_of

FILE = Path("samples", "pictures.json")
MOST, SIDE, LEAST_SIDE = 48, 112, 64
MOST_BYTES = 24_000
MOST_LABELS = 20_000
SCANNED = 5000
"""A data set of at most so many samples is read through when the order of its predictions does not help."""


def save_pictures(folder: Path, records: Sequence[Record], reader: Reader | None, labels: Sequence[str] | None) -> int:
    """Write the pictures of flipped samples; how many there are.  Data that are no pictures give none.

    ``labels`` are the model's class names; the reader's own are used without them.  Never raises for
    data that cannot be read again or drawn: a report without pictures is better than none.
    """
    wanted = flipped(records)
    if reader is None or not wanted:
        return 0
    try:
        found = {item.id: uri for item in _items(folder, records, reader, wanted) if (uri := picture(item.content))}
    except AssayError:
        return 0
    names = list(labels or reader.labels or ())[:MOST_LABELS]
    write_text(folder / FILE, json.dumps({"pictures": found, "labels": names}) + "\n")
    return len(found)


def load_pictures(folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """(data-URIs by sample id, class names); empty where there are none or the file is not what its name says."""
    try:
        told = checked.loads((folder / FILE).read_text(encoding="utf-8"))
        pictures, labels = told["pictures"], told["labels"]
        kept = {str(k): v for k, v in pictures.items() if isinstance(v, str) and v.startswith("data:image/")}
        return kept, tuple(map(str, labels))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, ()


def flipped(records: Sequence[Record]) -> list[str]:
    """Ids of changed samples, those lost first, in turns over the candidates so that each has some."""
    lists = []
    for record in records:
        flips = record.details.get("flipped") if record.kind == "evaluate" and record.status == "ok" else None
        told = [f for f in flips or () if isinstance(f, Mapping) and f.get("id") is not None]
        lists.append([str(f["id"]) for f in sorted(told, key=lambda f: not f.get("lost"))])
    turns = [ids[i] for i in range(max(map(len, lists), default=0)) for ids in lists if i < len(ids)]
    return list(dict.fromkeys(turns))[:MOST]


def _items(folder: Path, records: Sequence[Record], reader: Reader, wanted: Sequence[str]) -> list[Item]:
    """The wanted items: by their places in the reference's predictions, else by reading the data through."""
    places = _places(folder, records)
    found: dict[str, Item] = {}
    for id in wanted:
        place = places.get(id)
        item = next(iter(reader.items(place, place + 1)), None) if place is not None else None
        if item is not None and item.id == id:
            found[id] = item
    missing = set(wanted) - set(found)
    if missing and len(reader) <= SCANNED:
        found |= {item.id: item for item in reader.items() if item.id in missing}
    return [found[id] for id in wanted if id in found]


def _places(folder: Path, records: Sequence[Record]) -> dict[str, int]:
    reference = next((r for r in records if r.kind == "evaluate" and r.details.get("reference") and r.raw), None)
    if reference is None or reference.raw is None:
        return {}
    try:
        return {scored.id: place for place, scored in enumerate(read_predictions(path_of(folder, reference.raw)))}
    except AssayError:
        return {}


def picture(content: Any) -> str | None:
    """``content`` of an Item as a small picture's data-URI; None for what is no picture."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        if isinstance(content, bytes):
            image = Image.open(io.BytesIO(content), formats=FORMATS).convert("RGB")
        else:
            pixels = _pixels(content)
            if pixels is None:
                return None
            image = Image.fromarray(pixels)
        image.thumbnail((SIDE, SIDE))
        if max(image.size) < LEAST_SIDE:
            factor = -(-LEAST_SIDE // max(image.size))
            image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
        kind, options = ("PNG", {}) if image.mode == "L" else ("JPEG", {"quality": 80})
        file = io.BytesIO()
        image.save(file, kind, **options)
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    if file.tell() > MOST_BYTES:
        return None
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _pixels(content: Any) -> Array | None:
    """uint8 (height, width) or (height, width, 3) of an array, or of a mapping's only array of that rank.

    Channels may lie first or last; other dtypes are spread over 0 to 255.
    """
    if isinstance(content, Mapping):
        arrays = [a for a in content.values() if isinstance(a, np.ndarray) and a.ndim in (2, 3)]
        return _pixels(arrays[0]) if len(arrays) == 1 else None
    if not isinstance(content, np.ndarray) or content.dtype.kind not in "uif" or not content.size:
        return None
    array = content
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = np.moveaxis(array, 0, -1)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3)) or min(array.shape[:2]) < 4:
        return None
    if array.dtype != np.uint8:
        values = array.astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        if not 0 < high - low < np.inf:
            return np.zeros(array.shape, np.uint8)
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        array = np.round((values - low) / (high - low) * 255).astype(np.uint8)
    return np.ascontiguousarray(array)
