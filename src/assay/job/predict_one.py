"""``assay predict``: one MODEL on one or many inputs: classes, an enlarged picture, or a mask over it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assay import data as readers
from assay.core.dataset import Item
from assay.core.engine import Candidate, Session
from assay.core.errors import BadInput, StorageFailed
from assay.core.model import Model
from assay.core.sample import Sample, stack
from assay.core.tensors import Array, Signature, is_float
from assay.core.transform import FunctionTransform, NullTransform, Transform
from assay.data import pillow_path
from assay.data.files import read_array, read_bytes
from assay.job.folder import check_folder
from assay.job.open_request import OpenRequest
from assay.job.opening import open_candidate
from assay.job.packed import bundle_folder
from assay.job.progress import Progress
from assay.job.single import Prepared, Wanted, as_written, prepare
from assay.job.user_code import user_transform
from assay.pipeline import Windows, sliding
from assay.sources import SourceOptions, is_complete
from assay.tasks import TaskOptions
from assay.tasks.drawing import can_draw, difference, grey, overlay, telling_place, with_lines
from assay.tasks.labels import english, in_language
from assay.tasks.segmentation import classes_of
from assay.tasks.super_resolution import to_picture


@dataclass(frozen=True)
class Prediction:
    """What to predict.  ``out`` is a picture's file (or a folder, for several inputs); ``white`` and ``order`` say how
    a model that makes pictures takes and gives them; ``kind`` None is told from the output's shape."""

    model: str
    inputs: tuple[Path, ...]
    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    preprocess: str | None = None
    out: Path | None = None
    top: int = 5
    white: float = 1.0
    order: str = "RGB"
    kind: str | None = None
    against: str | None = None
    """A reference MODEL for masks: where the two differ is drawn beside the overlay."""
    language: str = "en"


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
    differing: float | None = None
    """The share of pixels (voxels) of another class than the reference's."""

    def to_json(self) -> dict[str, Any]:
        ranked = [{"class": c, "label": label, "probability": p} for c, label, p in self.ranked]
        shares = None if self.shares is None else {str(c): s for c, s in self.shares.items()}
        size = None if self.size is None else list(self.size)
        file = None if self.file is None else str(self.file)
        made: dict[str, Any] = {"ranked": ranked or None, "shares": shares, "size": size, "file": file}
        made["differing"] = self.differing
        return {"input": str(self.input), "kind": self.kind} | {k: v for k, v in made.items() if v is not None}


@dataclass(frozen=True)
class Predicting:
    """What is done to every input: ``output`` of the candidate is read as ``kind``.  ``windows`` says whether windows
    slide over inputs of any size, ``wants_picture`` whether a mask is to be laid over its picture."""

    candidate: Candidate
    transform: Transform
    kind: str
    output: str
    windows: bool
    wants_picture: bool
    labels: tuple[str, ...] | None
    asked: Prediction


Input = tuple[Path, Any]
Answer = tuple[Predicted, Array | None, Array | None]
Runner = Callable[[Predicting, Iterator[Input]], Iterator[Answer]]
"""Gives every input's prediction, with its picture and its mask where there are some, in any order; here or on other
machines."""


def predict_one(
    asked: Prediction, source: SourceOptions, progress: Progress, runner: Runner | None = None
) -> list[Predicted]:
    """``runner`` None does it in this process.

    Raises BadInput for inputs that are not there or do not fit, and for outputs of no known kind.
    """
    for path in asked.inputs:
        if not path.is_file():
            raise BadInput(f"there is no file {path}")
    _check_targets(asked)
    if asked.preprocess:  # before the export, which takes longer
        user_transform(asked.preprocess)
    with tempfile.TemporaryDirectory(prefix="assay-predict-") as folder:
        wanted = Wanted(asked.model, asked.engine, OpenRequest(asked.precision, asked.device))
        progress.stage("open", asked.model)
        ready = prepare(wanted, replace(source, out_dir=Path(folder)))
        progress.done(f"{ready.candidate.label}; {ready.model.weights}")
        work = _work(asked, ready)
        masks = _reference_masks(asked, replace(source, out_dir=Path(folder, "reference")), runner, (work, ready))
        found: dict[Path, Predicted] = {}
        for predicted, picture, mask in (runner or predict_here)(work, contents(asked.inputs)):
            path = predicted.input
            file = None if picture is None else _save(asked, path, picture)
            found[path] = replace(predicted, file=file)
            if path in masks and mask is not None:
                found[path] = replace(found[path], differing=_differing(asked, path, masks[path], mask))
        return [found[path] for path in asked.inputs]


def _check_targets(asked: Prediction) -> None:
    """Raises BadInput where a picture would replace an input, or another input's picture."""
    if asked.out is None:
        return
    check_folder(asked.out.parent if asked.out.suffix else asked.out)
    inputs = {path.resolve(): path for path in asked.inputs}
    if len(asked.inputs) > 1 and asked.out.suffix:
        raise BadInput(f"{len(asked.inputs)} inputs do not fit into {asked.out}", remedy="-o FOLDER")
    written: dict[Path, Path] = {}
    for place, path in inputs.items():
        target = _target(asked.out, path)
        if target.resolve() in inputs:
            raise BadInput(f"{target} is an input, which its picture would replace", remedy="-o another folder or name")
        first = written.setdefault(target, place)
        if first != place:
            raise BadInput(
                f"{inputs[first]} and {path} would both become {target}",
                remedy="rename one, or give another -o to each",
            )


def _target(out: Path, path: Path) -> Path:
    """Where the picture of the input ``path`` goes."""
    return out if out.suffix else out / f"{path.stem}.png"


def _reference_masks(
    asked: Prediction, source: SourceOptions, runner: Runner | None, candidate: tuple[Predicting, Prepared]
) -> dict[Path, Array]:
    """What the reference makes of every input; nothing without one.  Raises BadInput where no masks are made.

    A bare PyTorch module takes its shapes from the candidate, where that is a file that has some.
    """
    work, prepared = candidate
    if asked.against is None:
        return {}
    if work.kind != "mask":
        raise BadInput(
            f"--against draws where masks differ; {asked.model} makes {work.kind}",
            remedy=f"assay verify {asked.against} {asked.model}",
        )
    theirs = replace(asked, model=asked.against, engine=None, precision=None, out=None, kind="mask", against=None)
    own = replace(source, weights=None, arch=None, md5=None, sha256=None) if is_complete(asked.against) else source
    naming = None if prepared.candidate.artifact.module else prepared.signature
    opened = replace(as_written(theirs.model), device=None if bundle_folder(theirs.model) else asked.device)
    ready = prepare(Wanted(theirs.model, None, opened), own, naming)
    answers = (runner or predict_here)(_work(theirs, ready), contents(asked.inputs))
    return {predicted.input: mask for predicted, _, mask in answers if mask is not None}


def _differing(asked: Prediction, path: Path, reference: Array, candidate: Array) -> float:
    """The share of pixels of different classes; the picture of them is saved beside the overlay."""
    if reference.shape != candidate.shape:
        raise BadInput(f"{path}: the reference's mask has shape {reference.shape}, the other {candidate.shape}")
    place = telling_place([reference, candidate])
    shown = [mask if place is None else mask[place] for mask in (reference, candidate)]
    if asked.out is not None:
        file = _target(asked.out, path)
        beside = file.with_name(f"{file.stem}-difference{file.suffix}")
        _save(replace(asked, out=beside), path, difference(shown[0], shown[1]))
    return float((reference != candidate).mean())


def predict_here(work: Predicting, inputs: Iterator[Input]) -> Iterator[Answer]:
    with open_candidate(work.candidate) as session:
        yield from map(predictor(work, session), inputs)


def predictor(work: Predicting, session: Session) -> Callable[[Input], Answer]:
    """One input through an opened session."""

    def predict(given: Input) -> Answer:
        return _predict(work, session, given)

    return predict


def _work(asked: Prediction, ready: Prepared) -> Predicting:
    model = ready.model
    kind, output = _kind(asked, ready.signature)
    transform = _transform(asked, model, ready.signature, kind)
    windows = kind == "mask" and model.preprocess is None
    labels = None if model.labels is None else in_language(tuple(model.labels), asked.language)
    return Predicting(ready.candidate, transform, kind, output, windows, asked.out is not None, labels, asked)


def contents(paths: Sequence[Path]) -> Iterator[Input]:
    """Every file's bytes, or the array of a .npy file."""
    for path in paths:
        yield path, read_array(path) if path.suffix == ".npy" else read_bytes(path)


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
        elif len(spec.shape) == 4 and spec.shape[1] in (1, 3) and spec.shape[1:2] == signature.inputs[0].shape[1:2]:
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
    if kind != "classes" and model.preprocess is None and channels in (1, 3) and len(shape) == 4:
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


def _predict(work: Predicting, session: Session, given: Input) -> Answer:
    path, content = given
    signature = session.signature
    run: Any = session.run
    if work.windows and all(isinstance(d, int) for d in signature.inputs[0].shape[2:]):
        run, signature = sliding(session.run, signature, Windows())
    fed = _with_channel(content, len(signature.inputs[0].shape)) if isinstance(content, np.ndarray) else content
    made = readers.preparer(work.transform, signature.inputs)(Item(path.name, fed), None)
    rows = signature.static_batch or 1
    outputs = run(stack([Sample(path.name, made)] * rows, signature))
    row = np.moveaxis(outputs[work.output], signature.output(work.output).batch_axis or 0, 0)[0]
    if work.kind == "classes":
        predicted = Predicted(path, work.kind, ranked=_ranked(row, work.asked.top, work.labels))
        return predicted, _labelled(content, predicted) if work.wants_picture else None, None
    if work.kind == "picture":
        picture = to_picture(row, TaskOptions(white=work.asked.white, order=work.asked.order))
        return Predicted(path, work.kind, size=(picture.shape[1], picture.shape[0])), picture, None
    mask = classes_of(row)
    counts = np.bincount(mask.ravel())
    shares = {c: float(n / mask.size) for c, n in enumerate(counts) if n}
    predicted = Predicted(path, work.kind, shares=shares, size=(mask.shape[-1], mask.shape[-2]))
    return predicted, _overlay(content, mask) if work.wants_picture else None, mask


def _with_channel(volume: Array, dims: int) -> Array:
    """A volume (D, H, W) for a model of (N, C, D, H, W) gets its channel axis, as those of ``volumes:DIR`` do."""
    return volume[None] if dims == 5 and volume.ndim == 3 else volume


def _ranked(scores: Array, top: int, labels: Sequence[str] | None) -> tuple[tuple[int, str | None, float], ...]:
    """The best classes with their probabilities: the scores where they already are some, else their softmax."""
    wide = scores.astype(np.float64)
    if bad := int((np.isnan(wide) | np.isposinf(wide)).sum()):
        raise BadInput(f"{bad} of {wide.size} scores are NaN or infinite")
    if wide.min() < 0 or abs(wide.sum() - 1) > 1e-3:
        wide = np.exp(wide - wide.max())
        wide /= wide.sum()
    best = np.argsort(-wide, kind="stable")[:top]
    named = labels if labels is not None and len(labels) == wide.size else None
    return tuple((int(c), None if named is None else named[c], float(wide[c])) for c in best)


def _labelled(content: Any, predicted: Predicted) -> Array | None:
    """The picture with its best classes written on it; None for what is no picture."""
    if not isinstance(content, bytes):
        return None
    labels = [(p, label or f"class {c}") for c, label, p in predicted.ranked]
    lines = [f"{p:.1%}  {label if can_draw(label) else english(label)}" for p, label in labels]
    return with_lines(pillow_path.pixels(pillow_path.decode(content, 3)), lines)


def _overlay(content: Any, mask: Array) -> Array:
    """The mask's classes in colour over the picture; of a volume, the slice with most foreground."""
    place = telling_place([mask])
    if place is not None:
        mask = mask[place]
    if isinstance(content, bytes):
        image = pillow_path.decode(content, 3).resize((mask.shape[1], mask.shape[0]))
        return overlay(pillow_path.pixels(image), mask)
    if place is not None and content.shape[-3] > place and content.shape[-2:] == mask.shape:
        return overlay(grey(content.reshape(-1, *content.shape[-3:])[0, place]), mask)
    return overlay(np.full((*mask.shape, 3), 255, np.uint8), mask)


def _save(asked: Prediction, path: Path, picture: Array) -> Path | None:
    if asked.out is None:
        return None
    from PIL import Image

    file = _target(asked.out, path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(file)
    except ValueError as error:  # a suffix that names no format
        raise BadInput(f"{file}: {error}", remedy="-o picture.png") from error
    except OSError as error:
        raise StorageFailed(f"{file} could not be written ({error.strerror or error})") from error
    return file
