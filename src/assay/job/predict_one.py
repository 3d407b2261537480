"""``assay predict``: one MODEL on one or many inputs: classes, an enlarged picture, or a mask over it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay import data as readers
from assay.core.dataset import Item
from assay.core.engine import OpenOptions, Session
from assay.core.errors import BadInput, StorageFailed
from assay.core.model import Model
from assay.core.sample import Sample, stack
from assay.core.tensors import Array, Signature, is_float
from assay.core.transform import FunctionTransform, NullTransform, Transform
from assay.data import pillow_path
from assay.data.files import read_bytes
from assay.job.opening import open_candidate
from assay.job.progress import Progress
from assay.job.single import Wanted, prepare
from assay.job.user_code import user_transform
from assay.pipeline import Windows, sliding
from assay.sources import SourceOptions
from assay.tasks import TaskOptions
from assay.tasks.segmentation import classes_of
from assay.tasks.super_resolution import to_picture

# Colours of the classes 1, 2, … of a mask, told apart by most colour-blind people (Okabe and Ito 2008).
PALETTE = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))


@dataclass(frozen=True)
class Prediction:
    """What to predict.  ``out`` is a picture's file (or a folder, for several inputs); ``white`` and ``order`` say how
    a model that makes pictures takes and gives them; ``kind`` None is told from the output's shape."""

    model: str
    inputs: tuple[Path, ...]
    engine: str | None = None
    precision: str = "fp32"
    device: str = "cpu"
    preprocess: str | None = None
    out: Path | None = None
    top: int = 5
    white: float = 1.0
    order: str = "RGB"
    kind: str | None = None


@dataclass(frozen=True)
class Predicted:
    """``ranked`` are (class, label or None, score or probability); ``shares`` the share of the pixels of each class;
    ``picture`` was written to ``file`` where one was asked for."""

    input: Path
    kind: str
    ranked: tuple[tuple[int, str | None, float], ...] = ()
    shares: Mapping[int, float] | None = None
    size: tuple[int, int] | None = None
    file: Path | None = None

    def to_json(self) -> dict[str, Any]:
        ranked = [{"class": c, "label": label, "probability": p} for c, label, p in self.ranked]
        shares = None if self.shares is None else {str(c): s for c, s in self.shares.items()}
        size = None if self.size is None else list(self.size)
        file = None if self.file is None else str(self.file)
        made = {"ranked": ranked or None, "shares": shares, "size": size, "file": file}
        return {"input": str(self.input), "kind": self.kind} | {k: v for k, v in made.items() if v is not None}


def predict_one(asked: Prediction, source: SourceOptions, progress: Progress) -> list[Predicted]:
    """Raises BadInput for inputs that are not there or do not fit, and for outputs of no known kind."""
    for path in asked.inputs:
        if not path.is_file():
            raise BadInput(f"there is no file {path}")
    if len(asked.inputs) > 1 and asked.out is not None and asked.out.suffix:
        raise BadInput(f"{len(asked.inputs)} inputs do not fit into {asked.out}", remedy="-o FOLDER")
    with tempfile.TemporaryDirectory(prefix="assay-predict-") as folder:
        options = OpenOptions(precision=asked.precision, device=asked.device)
        progress.stage("open", asked.model)
        ready = prepare(Wanted(asked.model, asked.engine, options), replace(source, out_dir=Path(folder)))
        progress.done(f"{ready.candidate.label}; {ready.model.weights}")
        kind, output = _kind(asked, ready.signature)
        transform = _transform(asked, ready.model, ready.signature, kind)
        with open_candidate(ready.candidate) as session:
            return [_predict(asked, (session, ready.model), (kind, output, transform), path) for path in asked.inputs]


def _kind(asked: Prediction, signature: Signature) -> tuple[str, str]:
    """(kind, output name): classes (N, C), a picture (N, 1 or 3, H, W) or a mask (N, C, [D,] H, W)."""
    if len(signature.inputs) != 1:
        raise BadInput(f"predict feeds one input; {asked.model} has {len(signature.inputs)}")
    shown = ", ".join(map(str, signature.outputs))
    for spec in signature.outputs:
        if not is_float(spec.dtype):
            continue
        if len(spec.shape) == 2:
            found = "classes"
        elif len(spec.shape) == 4 and spec.shape[1] in (1, 3) and spec.shape[1] == signature.inputs[0].shape[1]:
            found = "picture"
        elif len(spec.shape) in (4, 5):
            found = "mask"
        else:
            continue
        if asked.kind in (None, found) or (asked.kind == "mask" and found == "picture"):
            return asked.kind or found, spec.name
    raise BadInput(f"no output of {asked.model} is {asked.kind or 'classes, a picture or a mask'}: {shown}")


def _transform(asked: Prediction, model: Model, signature: Signature, kind: str) -> Transform:
    if asked.preprocess:
        return FunctionTransform(user_transform(asked.preprocess), asked.preprocess)
    shape = signature.inputs[0].shape
    channels = shape[1] if len(shape) > 1 else None
    if kind != "classes" and model.preprocess is None and channels in (1, 3):
        pixels = {"kind": "pixels", "white": asked.white, "order": asked.order, "channels": channels}
        return readers.transform_from_json(pixels)
    if model.preprocess is None:
        if all(p.suffix == ".npy" for p in asked.inputs):
            return NullTransform()
        raise BadInput(
            f"{asked.model} does not say how pictures are preprocessed", remedy="--preprocess FILE.py:fn, or give .npy"
        )
    described = dict(model.preprocess)
    if described.get("kind") == "image" and len(shape) == 4 and all(isinstance(d, int) for d in shape[2:]):
        described["size"] = list(shape[2:])
    return readers.transform_from_json(described)


def _predict(asked: Prediction, what: tuple[Session, Model], how: tuple[str, str, Transform], path: Path) -> Predicted:
    (session, model), (kind, name, transform) = what, how
    content: Any = np.load(path, allow_pickle=False) if path.suffix == ".npy" else read_bytes(path)
    signature = session.signature
    run: Any = session.run
    if kind == "mask" and all(isinstance(d, int) for d in signature.inputs[0].shape[2:]) and model.preprocess is None:
        run, signature = sliding(session.run, signature, Windows())
    made = readers.preparer(transform, signature.inputs)(Item(path.name, content), None)
    rows = signature.static_batch or 1
    outputs = run(stack([Sample(path.name, made)] * rows, signature))
    row = np.moveaxis(outputs[name], signature.output(name).batch_axis or 0, 0)[0]
    if kind == "classes":
        return Predicted(path, kind, ranked=_ranked(row, asked.top, model.labels))
    if kind == "picture":
        picture = to_picture(row, TaskOptions(white=asked.white, order=asked.order))
        file = _save(asked, path, picture)
        return Predicted(path, kind, size=(picture.shape[1], picture.shape[0]), file=file)
    mask = classes_of(row)
    counts = np.bincount(mask.ravel())
    shares = {c: float(n / mask.size) for c, n in enumerate(counts) if n}
    file = _save(asked, path, _overlay(content, mask)) if asked.out is not None else None
    return Predicted(path, kind, shares=shares, size=(mask.shape[-1], mask.shape[-2]), file=file)


def _ranked(scores: Array, top: int, labels: Sequence[str] | None) -> tuple[tuple[int, str | None, float], ...]:
    """The best classes with their probabilities: the scores where they already are some, else their softmax."""
    wide = scores.astype(np.float64)
    if np.isnan(wide).any():
        raise BadInput(f"{int(np.isnan(wide).sum())} of {wide.size} scores are NaN")
    if wide.min() < 0 or abs(wide.sum() - 1) > 1e-3:
        wide = np.exp(wide - wide.max())
        wide /= wide.sum()
    best = np.argsort(-wide, kind="stable")[:top]
    named = labels if labels is not None and len(labels) == wide.size else None
    return tuple((int(c), None if named is None else named[c], float(wide[c])) for c in best)


def _overlay(content: Any, mask: Array) -> Array:
    """The picture with the mask's classes in colour over it; of a volume, the slice with most foreground."""
    if mask.ndim == 3:
        mask = mask[int(np.argmax((mask > 0).sum(axis=(1, 2))))]
    if isinstance(content, bytes):
        image = pillow_path.decode(content, 3).resize((mask.shape[1], mask.shape[0]))
        picture = pillow_path.pixels(image).astype(np.float64)
    else:
        picture = np.full((*mask.shape, 3), 255.0)
    colours = np.array([PALETTE[(c - 1) % len(PALETTE)] for c in range(1, int(mask.max()) + 1)] or [PALETTE[0]])
    covered = mask > 0
    picture[covered] = 0.5 * picture[covered] + 0.5 * colours[mask[covered] - 1]
    return np.rint(picture).astype(np.uint8)


def _save(asked: Prediction, path: Path, picture: Array) -> Path | None:
    if asked.out is None:
        return None
    from PIL import Image

    file = asked.out if asked.out.suffix else asked.out / f"{path.stem}.png"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file)
    except ValueError as error:  # a suffix that names no format
        raise BadInput(f"{file}: {error}", remedy="-o picture.png") from error
    except OSError as error:
        raise StorageFailed(f"{file} could not be written ({error.strerror or error})") from error
    return file
