"""OpenVINO IR: ``model.xml`` with ``model.bin`` beside it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from assay.core.artifact import file_artifact
from assay.core.errors import BadInput
from assay.core.model import Model
from assay.core.tensors import TensorSpec
from assay.sources.arguments import first_line
from assay.sources.fetch import check_digests
from assay.sources.inputs import fit_shapes
from assay.sources.options import SourceOptions

_TYPES = {
    "boolean": "bool", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
    "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "string": "string",
}  # fmt: skip


def open_source(spec: str, options: SourceOptions) -> Model:
    """Read the inputs from the XML; the weights file must lie beside it.  Raises BadInput."""
    path = Path(spec)
    check_digests(path, options)
    root = _parse(path)
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise BadInput(
            f"{path} needs its weights, {weights.name}, beside it, and they are not there",
            remedy=f"copy {weights.name} into {path.parent}",
        )
    _check_extent(root, path, weights)
    return Model(
        name=path.stem,
        spec=spec,
        artifact=file_artifact(path, "openvino", companions=(weights,)),
        weights=f"in {weights.name}",
        inputs=fit_shapes(_inputs(root, path), options.shapes),
    )


def _parse(path: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(path).getroot()  # noqa: S314 - expat limits entity expansion itself
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the latter two of its encoding
        raise BadInput(f"{path} is not readable XML: {first_line(error)}") from error
    if root.tag != "net" or root.find("layers") is None:
        raise BadInput(f"{path} is XML, but not an OpenVINO model: its root is <{root.tag}>")
    return root


def _inputs(root: ElementTree.Element, path: Path) -> tuple[TensorSpec, ...]:
    specs = []
    for layer in root.iterfind("layers/layer[@type='Parameter']"):
        data, port = layer.find("data"), layer.find("output/port")
        if data is None:
            raise BadInput(f"{path} is damaged: a parameter has no description")
        names = port.get("names", "") if port is not None else ""
        name = names.split(",")[0] or layer.get("name", "")
        dtype = _TYPES.get(data.get("element_type", ""))
        if dtype is None:
            raise BadInput(f"{path}: input {name!r} has the type {data.get('element_type')!r}, which is not supported")
        sizes = [s.strip() for s in data.get("shape", "").split(",") if s.strip()]
        shape = tuple(
            int(s) if s.isdecimal() else "batch" if axis == 0 else f"{name}_dim_{axis}" for axis, s in enumerate(sizes)
        )
        specs.append(TensorSpec(name, dtype, shape, 0 if shape else None))
    if not specs:
        raise BadInput(f"{path} has no inputs")
    return tuple(specs)


def _check_extent(root: ElementTree.Element, path: Path, weights: Path) -> None:
    """No constant may lie beyond the end of the weights file."""
    size = weights.stat().st_size
    for data in root.iterfind("layers/layer[@type='Const']/data"):
        try:
            end = int(data.get("offset", 0)) + int(data.get("size", 0))
        except ValueError as error:
            raise BadInput(f"{path} is damaged: a constant has no place ({first_line(error)})") from error
        if end > size:
            raise BadInput(f"{weights} is cut short: {path.name} reads {end} bytes of it, it has {size}")
