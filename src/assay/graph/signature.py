"""The Signature of an ONNX file, and loading such a file with clear errors.

An ONNX file does not say which axis holds independent rows, so ``read_signature`` goes by
these rules, in order:

1. the file's own metadata ``assay.batch_axes`` (written by the exporter, which saw the
   PyTorch module run at several batch sizes);
2. a free first dim of an input is the batch; the same name on another axis, of an input or
   an output, is that tensor's batch axis;
3. with static first dims only, axis 0 by convention where every input has the same first
   dim; an output follows where its first dim has that size.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core.errors import BadInput
from assay.core.tensors import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

BATCH_AXES_KEY = "assay.batch_axes"
UNKNOWN: Dim = "?"
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_FUNCTIONS = frozenset({"floor", "ceil", "ceiling", "Max", "Min", "max", "min", "Mod", "Pow"})


def load_model(path: Path, *, external_data: bool = False) -> onnx.ModelProto:
    """Parse an ONNX file; weights kept in companion files are loaded only when asked for.

    Raises BadInput for a missing, unreadable, corrupt or empty file, or missing companions.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not path.is_file():
        raise BadInput(f"there is no file {path}")
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise BadInput(f"{path} is not an ONNX file, or a damaged one: {error}") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error}") from None
    if not model.ir_version or not model.HasField("graph") or not model.graph.output:
        raise BadInput(f"{path} is not an ONNX file: no graph with outputs was found in it")
    if external_data:
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
            raise BadInput(f"the external data of {path} cannot be read: {error}") from None
    return model


def read_signature(path: Path) -> Signature:
    """Inputs (initializers excluded) and outputs of an ONNX file.

    Unnamed free input dims are called ``dim_<input>_<axis>``; an output dim that is no size and
    no expression over the inputs' dims is ``"?"``.  Raises BadInput for a file that is not ONNX,
    and for sequences, maps, optionals and dtypes outside the closed list.
    """
    return signature_of(load_model(path))


def signature_of(model: onnx.ModelProto) -> Signature:
    """The same for a parsed model."""
    graph = model.graph
    initializers = {t.name for t in graph.initializer} | {t.values.name for t in graph.sparse_initializer}
    inputs = [(v.name, *_tensor(v, "input")) for v in graph.input if v.name not in initializers]
    known: set[str] = set()
    named: list[TensorSpec] = []
    for name, dtype, dims in inputs:
        if dims is None:
            raise BadInput(f"input {name!r} has no known rank", remedy="export the model with the input's shape given")
        shape = tuple(d or f"dim_{name}_{axis}" for axis, d in enumerate(dims))
        known |= {d for d in shape if isinstance(d, str)}
        named.append(TensorSpec(name, dtype, shape, None))
    outputs = []
    for value in graph.output:
        dtype, dims = _tensor(value, "output")
        shape = tuple(_output_dim(d, known) for d in dims or ())
        outputs.append(TensorSpec(value.name, dtype, shape, None))
    plain = Signature(tuple(named), tuple(outputs))
    return with_batch_axes(plain, _stored_axes(model, plain) or guess_batch_axes(plain))


def guess_batch_axes(signature: Signature) -> dict[str, int | None]:
    """Rules 2 and 3 of this module's docstring: the batch axis of every tensor, by name."""
    ranked = [s for s in signature.inputs if s.shape]
    free = [s.shape[0] for s in ranked if isinstance(s.shape[0], str)]
    axes: dict[str, int | None] = {s.name: None for s in (*signature.inputs, *signature.outputs)}
    if free:
        batch = free[0]
        for spec in (*signature.inputs, *signature.outputs):
            axes[spec.name] = spec.shape.index(batch) if batch in spec.shape else None
        for spec in ranked:  # dims nobody named cannot be told apart: each is the batch
            if spec.shape[0] == f"dim_{spec.name}_0":
                axes[spec.name] = 0
        return axes
    sizes = {s.shape[0] for s in ranked}
    if len(sizes) == 1:
        size = sizes.pop()
        for spec in (*signature.inputs, *signature.outputs):
            axes[spec.name] = 0 if spec.shape and spec.shape[0] == size else None
    return axes


def with_batch_axes(signature: Signature, axes: Mapping[str, int | None]) -> Signature:
    """``signature`` with the batch axes given by tensor name; names not given have none."""

    def put(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(TensorSpec(s.name, s.dtype, s.shape, axes.get(s.name)) for s in specs)

    return Signature(put(signature.inputs), put(signature.outputs))


def store_batch_axes(model: onnx.ModelProto, signature: Signature) -> None:
    """Write the batch axes of ``signature`` into the model's metadata, where ``read_signature`` finds them."""
    axes = {s.name: s.batch_axis for s in (*signature.inputs, *signature.outputs)}
    kept = [p for p in model.metadata_props if p.key != BATCH_AXES_KEY]
    entries = [(p.key, p.value) for p in kept] + [(BATCH_AXES_KEY, json.dumps(axes, sort_keys=True))]
    del model.metadata_props[:]
    for key, value in entries:
        model.metadata_props.add(key=key, value=value)


def _stored_axes(model: onnx.ModelProto, signature: Signature) -> dict[str, int | None] | None:
    """The axes in the metadata, or None where they are absent or no longer fit the graph."""
    text = next((p.value for p in model.metadata_props if p.key == BATCH_AXES_KEY), None)
    if text is None:
        return None
    try:
        axes = json.loads(text)
    except (ValueError, RecursionError):  # anybody may write into a file
        return None
    specs = {s.name: s for s in (*signature.inputs, *signature.outputs)}
    if not isinstance(axes, dict) or set(axes) != set(specs):
        return None
    fits = all(a is None or (type(a) is int and 0 <= a < len(specs[n].shape)) for n, a in axes.items())
    return axes if fits else None


def _tensor(value: onnx.ValueInfoProto, what: str) -> tuple[str, list[Dim | None] | None]:
    """dtype and dims (None: free without a name) of a graph input or output."""
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        found = "nothing" if kind is None else kind.removesuffix("_type").replace("_", " ")
        raise BadInput(f"{what} {value.name!r} is not a tensor but {_article(found)}; only tensors are supported")
    tensor = value.type.tensor_type
    dims = [_dim(d) for d in tensor.shape.dim] if tensor.HasField("shape") else None
    return _dtype(tensor.elem_type, f"{what} {value.name!r}"), dims


def _article(word: str) -> str:
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}" if word != "nothing" else word


def _dtype(elem_type: int, what: str) -> str:
    names = dtype_names()
    if elem_type not in names:
        found = element_name(elem_type)
        raise BadInput(f"{what} has the dtype {found}, which is not supported; known: {', '.join(names.values())}")
    return names[elem_type]


def dtype_names() -> dict[int, str]:
    """ONNX element type -> the closed list's name."""
    from onnx import TensorProto as T

    return {
        T.BOOL: "bool",
        T.INT8: "int8",
        T.INT16: "int16",
        T.INT32: "int32",
        T.INT64: "int64",
        T.UINT8: "uint8",
        T.UINT16: "uint16",
        T.UINT32: "uint32",
        T.UINT64: "uint64",
        T.FLOAT16: "float16",
        T.BFLOAT16: "bfloat16",
        T.FLOAT: "float32",
        T.DOUBLE: "float64",
        T.STRING: "string",
    }


def element_name(elem_type: int) -> str:
    """ONNX's word for an element type (``FLOAT``); the number itself where there is none."""
    import onnx

    known = onnx.TensorProto.DataType
    return str(known.Name(elem_type)) if elem_type in known.values() else str(elem_type)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim | None:
    kind = dim.WhichOneof("value")
    if kind == "dim_value":
        return int(dim.dim_value) if dim.dim_value > 0 else None
    return str(dim.dim_param) or None if kind == "dim_param" else None


def _output_dim(dim: Dim | None, known: set[str]) -> Dim:
    """A size, a known input dim, an expression over known input dims, else ``"?"``."""
    if dim is None or isinstance(dim, int):
        return UNKNOWN if dim is None else dim
    if dim in known:
        return dim
    names = set(_IDENTIFIER.findall(dim)) - _FUNCTIONS
    return dim if names and names <= known else UNKNOWN
