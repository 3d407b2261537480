"""ONNX files with their weights beside them: saving, listing and digesting.

A protobuf message cannot exceed 2 GiB, so larger models keep their weights in one companion
file ``<name>.onnx.data``.  Files are written into a temporary folder beside the target and
renamed, the weights first, so that a half-written model never carries the final name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.artifact import Artifact, file_artifact
from assay.core.errors import BadInput, StorageFailed
from assay.core.units import Bytes
from assay.graph.signature import load_model

if TYPE_CHECKING:
    import onnx

THRESHOLD_BYTES: Bytes = 1_900_000_000
"""Above this the weights leave the ``.onnx`` file: protobuf's limit of 2**31 with room for the graph."""
_SMALLEST_TENSOR_BYTES = 1024


def weight_bytes(model: onnx.ModelProto) -> Bytes:
    """Bytes of the weights a parsed model holds in memory."""
    return sum(len(t.raw_data) if t.HasField("raw_data") else t.ByteSize() for t in model.graph.initializer)


def save_model(model: onnx.ModelProto, path: Path, threshold_bytes: Bytes = THRESHOLD_BYTES) -> tuple[Path, ...]:
    """Write ``model`` to ``path``; return its companion files (none, or one).

    ``model`` must hold its weights in memory (``load_model(..., external_data=True)``) and is not
    changed.  Raises StorageFailed when the folder cannot be written or the disk is full.
    """
    import onnx

    external = weight_bytes(model) > threshold_bytes
    data_name = f"{path.name}.data"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            part = Path(folder, path.name)
            if external:
                whole, model = model, onnx.ModelProto()
                model.CopyFrom(whole)
                onnx.save_model(
                    model,
                    str(part),
                    format="protobuf",
                    save_as_external_data=True,
                    all_tensors_to_one_file=True,
                    location=data_name,
                    size_threshold=_SMALLEST_TENSOR_BYTES,
                )
            else:
                onnx.save_model(model, str(part), format="protobuf")
            written = Path(folder, data_name).exists()
            if written:
                Path(folder, data_name).replace(path.with_name(data_name))
            part.replace(path)
    except OSError as error:
        raise StorageFailed(
            f"{path} could not be written: {error.strerror or error}",
            remedy="choose a folder that can be written and has enough free space",
        ) from None
    return (path.with_name(data_name),) if written else ()


def companions(path: Path) -> tuple[Path, ...]:
    """The external data files a model refers to, in order of appearance.

    Raises BadInput for a location outside the model's folder, or a missing or too short file.
    """
    needed: dict[str, int] = {}
    for tensor in all_tensors(load_model(path)):
        entries = {e.key: e.value for e in tensor.external_data}
        if "location" in entries and tensor.data_location == tensor.EXTERNAL:
            end = _end(path, tensor.name, entries)
            needed[entries["location"]] = max(needed.get(entries["location"], 0), end)
    return tuple(_inside(path, location, end) for location, end in needed.items())


def _end(path: Path, name: str, entries: Mapping[str, str]) -> int:
    """Where a tensor ends in its file.  Raises BadInput for an offset or length that is no number."""
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", 0))
    except ValueError as error:
        raise BadInput(f"{path}: the place of the weight {name!r} in its file is not a number ({error})") from None
    if min(offset, length) < 0 or offset + length >= 2**63:
        raise BadInput(f"{path}: the weight {name!r} lies at {offset} with {length} bytes, which is nowhere")
    return offset + length


def onnx_artifact(path: Path, parents: tuple[str, ...] = ()) -> Artifact:
    """The Artifact of an ONNX file together with its external data.  Raises BadInput."""
    return file_artifact(path, "onnx", parents=parents, companions=companions(path))


def all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a model: its graph's, and those of its local functions and training graphs."""
    yield from tensors(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)
        yield from _of_attributes(function.attribute_proto)
    for training in model.training_info:
        yield from tensors(training.initialization)
        yield from tensors(training.algorithm)


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every constant of a graph: initializers and tensors in attributes, sub-graphs included."""
    yield from graph.initializer
    yield from _of_sparse(graph.sparse_initializer)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        yield from _of_attributes(node.attribute)


def _of_attributes(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        yield from _of_sparse([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else [])
        yield from _of_sparse(attribute.sparse_tensors)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from tensors(graph)


def _of_sparse(sparse: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for tensor in sparse:
        yield tensor.values
        yield tensor.indices


def _inside(path: Path, location: str, end: int) -> Path:
    folder = path.parent.resolve()
    if "\0" in location:
        raise BadInput(f"{path} refers to weights in {location!r}, which is no file name")
    target = Path(os.path.normpath(folder / location))
    if Path(location).is_absolute() or not target.resolve().is_relative_to(folder):
        raise BadInput(
            f"{path} refers to weights outside its own folder: {location!r}",
            remedy="a model and its external data belong in one folder; do not open this file unless you trust it",
        )
    if not target.is_file():
        raise BadInput(f"{path} needs the file {location!r} beside it, and it is not there")
    if target.stat().st_size < end:
        raise BadInput(f"{target} is damaged: {target.stat().st_size} bytes, the model refers to {end}")
    return path.parent / location
