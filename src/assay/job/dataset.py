"""Open the data a run is about: reader, transform and task, or the reason why there is no accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay import data as readers
from assay import tasks
from assay.core.artifact import digest_file, digest_json
from assay.core.dataset import Reader, Task
from assay.core.errors import BadInput
from assay.core.model import Model
from assay.core.sample import digest
from assay.core.tensors import Signature, TensorSpec
from assay.core.transform import FunctionTransform, NullTransform, Transform
from assay.data import ReaderContext
from assay.job.context import Data
from assay.job.request import Objects, RunRequest
from assay.sources.built import defining_file

DRAWN = "drawn from the signature"
SYNTHETIC = "synthetic"
NO_DATA = "no data were given (--data)"


@dataclass(frozen=True)
class _Found:
    reader: Reader
    transform: Transform
    identity: str


def open_data(request: RunRequest, objects: Objects, model: Model, signature: Signature) -> Data:
    """Fails before anything long runs: an unknown reader, an empty folder, items that do not fit the model.

    Samples that are drawn have the sizes of the model's inputs (``--shape``) where the file leaves a dim free.
    """
    sizes = _sizes(signature, model) if _drawn(request, objects) else {}
    signature, given = _with_sizes(signature, sizes), tuple(sorted(sizes.items()))
    ranges = request.export.ranges
    if request.data is None and objects.data is None:
        identity = digest_json([[str(s) for s in signature.inputs], request.seed, ranges])
        return Data(DRAWN, signature, request.seed, None, None, None, NO_DATA, ranges, identity, sizes=given)
    found = _find(request, objects, model, signature)
    name = request.data or "the caller's data"
    if len(found.reader) == 0:
        raise BadInput(f"{name} holds no samples")
    transform = found.transform
    _refuse_unused(objects, found.reader, name)
    first = next(iter(readers.samples(found.reader, transform, signature.inputs, 0, 1)))
    task, why = _task(objects, model, signature, found.reader, first.target)
    better = objects.higher_is_better if objects.metric is not None else True
    identity = digest_json([found.identity, given]) if given else found.identity
    return Data(name, signature, request.seed, found.reader, transform, task, why, ranges, identity, better, given)


def _drawn(request: RunRequest, objects: Objects) -> bool:
    """Real samples have sizes of their own."""
    if objects.data is not None:
        return False
    return request.data is None or request.data.partition(":")[0] == SYNTHETIC


def _sizes(signature: Signature, model: Model) -> dict[str, int]:
    """What the model's inputs say where the file leaves a dim free, the batch excepted.  Raises BadInput for two sizes
    of one dim."""
    asked = {spec.name: spec.shape for spec in model.inputs or ()}
    sizes: dict[str, int] = {}
    for spec in signature.inputs:
        for axis, (dim, size) in enumerate(zip(spec.shape, asked.get(spec.name, ()), strict=False)):
            if not isinstance(dim, str) or not isinstance(size, int) or axis == spec.batch_axis:
                continue
            if sizes.setdefault(dim, size) != size:
                raise BadInput(f"the dim {dim!r} of input {spec} cannot be both {sizes[dim]} and {size}")
    return sizes


def _with_sizes(signature: Signature, sizes: Mapping[str, int]) -> Signature:
    def fixed(spec: TensorSpec) -> TensorSpec:
        dims = (
            d if isinstance(d, int) or axis == spec.batch_axis else sizes.get(d, d) for axis, d in enumerate(spec.shape)
        )
        return replace(spec, shape=tuple(dims))

    return Signature(tuple(map(fixed, signature.inputs)), tuple(map(fixed, signature.outputs)))


def kept(objects: Objects) -> Objects:
    """Data that can be gone through only once, as a list: a run goes through them again and again."""
    return replace(objects, data=list(objects.data)) if isinstance(objects.data, Iterator) else objects


def check_data(request: RunRequest, objects: Objects, model: Model) -> None:
    """Fail before the export: an unknown reader, an empty folder, a broken first item, a transform that raises."""
    if model.inputs is None or (request.data is None and objects.data is None):
        return
    signature = Signature(model.inputs, ())
    found = _find(request, objects, model, signature)
    if len(found.reader) == 0:
        raise BadInput(f"{request.data or 'the data'} holds no samples")
    _refuse_unused(objects, found.reader, request.data or "the data")
    if (
        objects.data is None
    ):  # a caller's iterable may name its arrays as the exported file will, not as the source does
        next(iter(readers.samples(found.reader, found.transform, signature.inputs, 0, 1)))


def _find(request: RunRequest, objects: Objects, model: Model, signature: Signature) -> _Found:
    ranges = {name: (low, high) for name, low, high in request.export.ranges}
    context = ReaderContext(signature.inputs, request.labels, request.seed, ranges=ranges)
    if objects.data is not None:
        reader: Reader = readers.from_iterable(objects.data, "the caller's data", signature.inputs)
        transform = _users_transform(objects) or _transform(model, reader, signature)
        samples = readers.samples(reader, transform, signature.inputs, 0, None)
        return _Found(reader, transform, digest_json([digest([sample]) for sample in samples]))
    assert request.data is not None
    reader = readers.open_reader(request.data, context)
    identity, users = _identity(request, reader), _users_transform(objects)
    if users is not None:  # what it makes of the data changes with its code, which nothing else here tells
        return _Found(reader, users, digest_json([identity, users.to_json()]))
    return _Found(reader, _transform(model, reader, signature), identity)


def _refuse_unused(objects: Objects, reader: Reader, name: str) -> None:
    """Arrays by input name go straight to the model: a transform given for them would silently do nothing."""
    if objects.preprocess is None:
        return
    item = next(iter(reader.items(0, 1)))
    if isinstance(item.content, Mapping):
        raise BadInput(
            f"{name} holds arrays by input name; --preprocess would not be used", remedy="leave --preprocess out"
        )


def _users_transform(objects: Objects) -> Transform | None:
    function = objects.preprocess
    if function is None:
        return None
    file = defining_file(function)
    code = None if file is None else digest_file(file)
    return FunctionTransform(function, getattr(function, "__qualname__", repr(function)), code)


def _transform(model: Model, reader: Reader, signature: Signature) -> Transform:
    """The model's own preprocessing; else what suits the reader, at the size and channels the model takes."""
    described = model.preprocess or reader.preprocess
    if described is None:
        return NullTransform()
    return readers.transform_from_json(_fitted(described, signature))


def _fitted(described: Mapping[str, Any], signature: Signature) -> dict[str, Any]:
    """Preprocessing size always equals the exported size."""
    fitted = dict(described)
    shape = signature.inputs[0].shape
    if fitted.get("kind") == "image" and len(shape) == 4:
        height, width = shape[2], shape[3]
        if isinstance(height, int) and isinstance(width, int):
            fitted["size"] = [height, width]
        if isinstance(shape[1], int) and shape[1] in (1, 3):
            fitted |= _channels(fitted, shape[1])
    return fitted


def _channels(described: Mapping[str, Any], channels: int) -> dict[str, Any]:
    if "mean" not in described or "std" not in described:  # the transform has defaults, or says what is missing
        return {"channels": channels}
    mean, std = list(described["mean"]), list(described["std"])
    if len(mean) == channels:
        return {"channels": channels}
    if len(mean) == 1:
        return {"channels": channels, "mean": mean * channels, "std": std * channels}
    return {"channels": channels, "mean": [sum(mean) / len(mean)], "std": [sum(std) / len(std)]}


def _task(
    objects: Objects, model: Model, signature: Signature, reader: Reader, target: Any
) -> tuple[Task | None, str | None]:
    """The task, or the reason why accuracy is not checked."""
    if reader.synthetic:
        return None, "the data are synthetic: they never count as accuracy"
    if model.randomised:
        return None, "the weights are randomised: an accuracy would mean nothing"
    if objects.metric is not None:
        return tasks.open_task(
            "tensor", tasks.TaskOptions(metric=objects.metric, higher_is_better=objects.higher_is_better is not False)
        ), None
    if target is None:
        return None, "the data have no targets"
    name = tasks.fitting(signature, target)
    if name is None:
        return None, "no task fits these targets and outputs; give a metric"
    described = reader.preprocess or {}
    options = tasks.TaskOptions(white=described.get("white", 1.0), order=described.get("order", "RGB"))
    return tasks.open_task(name, options), None


def _identity(request: RunRequest, reader: Reader) -> str:
    """What tells one state of the data from another without reading all of it: names, sizes and times of files."""
    labels = digest_file(request.labels) if request.labels and request.labels.is_file() else None
    return digest_json([_content_identity(request.data or "", reader), labels])


def _content_identity(spec: str, reader: Reader) -> str:
    path = Path(spec.partition(":")[2] or spec).expanduser()
    if not path.exists():
        path = Path(spec).expanduser()
    listed = [file for file in getattr(reader, "files", ()) if file != path]  # by a pattern, or by an index file
    if path.is_file():
        content = digest_file(path)
        return digest_json([content, [_stamp(p, p) for p in listed]]) if listed else content
    if path.is_dir():
        return digest_json([_stamp(p, p.relative_to(path)) for p in sorted(path.rglob("*")) if p.is_file()])
    return digest_json([spec, [_stamp(p, p) for p in listed] if listed else [reader.name, len(reader)]])


def _stamp(file: Path, name: Path) -> tuple[str, int, int]:
    """Name, bytes and time in nanoseconds; a file that is gone has neither, and is told of where it is read."""
    try:
        found = file.stat()
    except OSError:
        return str(name), -1, -1
    return str(name), found.st_size, found.st_mtime_ns
