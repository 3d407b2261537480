"""What an ONNX file holds, as data for ``assay inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.tensors import Signature
from assay.core.units import Bytes
from assay.graph.check import misdeclared
from assay.graph.external_data import companions
from assay.graph.macs import count_macs, inferred_shapes
from assay.graph.rounding import rounding_depth_of
from assay.graph.signature import element_name, load_model, signature_of
from assay.graph.subgraphs import every_node

if TYPE_CHECKING:
    import onnx

_SHOWN = 8
_BITS = {"FLOAT": 32, "DOUBLE": 64, "FLOAT16": 16, "BFLOAT16": 16, "INT64": 64, "UINT64": 64, "INT32": 32}
_BITS |= {"UINT32": 32, "INT16": 16, "UINT16": 16, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
_BITS |= {"COMPLEX64": 64, "COMPLEX128": 128}  # everything else takes a byte
_SOURCE_KEYS = ("pkg.torch.onnx.stack_trace",)
_NAMESPACE_KEYS = ("namespace", "pkg.torch.onnx.name_scopes")


@dataclass(frozen=True)
class NodeDescription:
    """One node.  ``attributes`` are printable; ``source`` is the line of Python it came from and
    ``namespace`` the module path, where the exporter left them; ``macs`` None where unknown or none."""

    name: str
    op: str
    domain: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, str]
    macs: int | None = None
    source: str | None = None
    namespace: str | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True)
class GraphDescription:
    """``macs`` is None, with ``macs_unknown`` saying why, where shapes cannot be inferred.

    ``opsets`` maps domains to versions (``""`` is ONNX's own); ``weight_bytes`` counts initializers
    also when they lie in ``external_data``; ``op_counts`` has a domain prefix for foreign operators;
    ``misdeclared`` says which outputs are not what the file declares them to be.
    """

    path: Path
    signature: Signature
    ir_version: int
    producer: str
    opsets: Mapping[str, int]
    op_counts: Mapping[str, int]
    parameters: int
    weight_bytes: Bytes
    macs: int | None
    macs_batch: int
    macs_unknown: str | None
    depth: int
    external_data: tuple[Path, ...]
    nodes: tuple[NodeDescription, ...]
    metadata: Mapping[str, str]
    misdeclared: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["path"] = str(self.path)
        data["signature"] = self.signature.to_json()
        data["external_data"] = [str(p) for p in self.external_data]
        return data


def describe(path: Path, batch: int = 1, sizes: Mapping[str, int] | None = None) -> GraphDescription:
    """Everything ``assay inspect`` prints about an ONNX file.

    MACs are counted at ``batch`` where the batch dim is free; ``sizes`` gives other free dims.
    Raises BadInput for a file that is not ONNX or whose external data is missing.
    """
    model = load_model(path)
    signature = signature_of(model)
    free = {s.batch: batch for s in signature.inputs if isinstance(s.batch, str)}
    shapes = inferred_shapes(model, signature, {**free, **(sizes or {})})
    total, per_node, unknown = count_macs(model, shapes)
    parameters, weight_bytes = _weights(model)
    return GraphDescription(
        path=path,
        signature=signature,
        ir_version=int(model.ir_version),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        opsets={o.domain: int(o.version) for o in model.opset_import},
        op_counts=_op_counts(model),
        parameters=parameters,
        weight_bytes=weight_bytes,
        macs=total,
        macs_batch=signature.static_batch or batch,
        macs_unknown=unknown,
        depth=rounding_depth_of(model),
        external_data=companions(path),
        nodes=tuple(_node(n, per_node) for n in model.graph.node),
        metadata={p.key: p.value for p in model.metadata_props},
        misdeclared=misdeclared(model),
    )


def _op_counts(model: onnx.ModelProto) -> dict[str, int]:
    """Operators by how often they occur, most frequent first; sub-graphs and functions included."""
    counts: Counter[str] = Counter()
    for graph in (model.graph, *model.functions):
        counts.update(_op_name(node) for node in every_node(graph))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _op_name(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _weights(model: onnx.ModelProto) -> tuple[int, Bytes]:
    """Elements and bytes of the initializers, from their dims and dtypes, so external ones count too."""
    elements, bits = 0, 0
    for tensor in model.graph.initializer:
        count = 1
        for dim in tensor.dims:
            count *= dim
        elements += count
        bits += count * _BITS.get(element_name(tensor.data_type), 8)
    return elements, bits // 8


def _node(node: onnx.NodeProto, macs: Mapping[str, int]) -> NodeDescription:
    metadata = {p.key: p.value for p in node.metadata_props}
    trace = next((metadata[k] for k in _SOURCE_KEYS if k in metadata), None)
    return NodeDescription(
        name=node.name,
        op=node.op_type,
        domain=node.domain,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes={a.name: _printable(a) for a in node.attribute},
        macs=macs.get(node.output[0]) if node.output else None,
        source=_source_line(trace) if trace else None,
        namespace=next((metadata[k] for k in _NAMESPACE_KEYS if k in metadata), None),
        metadata=metadata or None,
    )


def _source_line(trace: str) -> str:
    """The innermost frame outside torch, else the innermost, with the code on it, on one line."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    frames = [i for i, line in enumerate(lines) if line.startswith("File ")]
    if not frames:
        return " ".join(lines)
    own = [i for i in frames if "/site-packages/torch/" not in lines[i]]
    return " ".join(lines[(own or frames)[-1] :][:2])


def _printable(attribute: onnx.AttributeProto) -> str:
    """An attribute's value on one line; tensors and graphs by their size."""
    import onnx

    if attribute.ref_attr_name:
        return f"@{attribute.ref_attr_name}"
    try:
        value = onnx.helper.get_attribute_value(attribute)
    except ValueError:
        value = None
    if value is None:  # of a type that is none
        return "damaged"
    if isinstance(value, onnx.TensorProto):
        return _printable_tensor(value)
    if isinstance(value, onnx.GraphProto):
        return f"graph {value.name} of {len(value.node)} nodes"
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, onnx.SparseTensorProto | onnx.TypeProto):
        return type(value).__name__
    items = [_printable_item(v) for v in value]
    shown = ", ".join(items[:_SHOWN])
    return f"[{shown}]" if len(items) <= _SHOWN else f"[{shown}, … {len(items)} in all]"


def _printable_item(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return f"{value:g}" if isinstance(value, float) else str(value) if isinstance(value, int) else type(value).__name__


def _printable_tensor(tensor: onnx.TensorProto) -> str:
    import onnx

    dims = "x".join(map(str, tensor.dims)) or "scalar"
    kind = element_name(tensor.data_type).lower()
    external = tensor.data_location == tensor.EXTERNAL
    try:
        values = [] if external else onnx.numpy_helper.to_array(tensor).ravel()[: _SHOWN + 1].tolist()
    except (ValueError, TypeError, KeyError):  # bytes that do not fill the dims, or a type that is none
        return f"{kind} {dims}, damaged"
    if external or len(values) > _SHOWN:
        return f"{kind} {dims}"
    return f"{kind} {dims} [{', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)}]"
