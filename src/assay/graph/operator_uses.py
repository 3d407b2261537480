"""The distinct ways in which a model uses operators: one node of each, with the types it works on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from assay.graph.extract import flat
from assay.graph.signature import element_name
from assay.graph.subgraphs import reads

if TYPE_CHECKING:
    import onnx

SMALL = 1024
"""Elements up to which a weight is kept in a part: shapes and axes are, weights of layers are only declared."""


@dataclass(frozen=True)
class Use:
    """One node as ``part``, a model of its own at the file's opset.

    ``types`` maps the operator's type parameters (``T``) to ONNX's words for what the node has there
    (``tensor(float)``), as far as types could be inferred.
    """

    op_type: str
    domain: str
    types: tuple[tuple[str, str], ...]
    part: onnx.ModelProto = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.op_type if not self.domain else f"{self.domain}::{self.op_type}"

    def exists(self, opset: int) -> bool:
        """Whether ONNX has the operator at ``opset``; operators of other domains are not numbered by it."""
        return bool(self.domain) or since(self.op_type, opset) is not None

    @cached_property
    def _at(self) -> dict[int, onnx.ModelProto | None]:
        return {}

    def at(self, opset: int) -> onnx.ModelProto | None:
        """The part written for another opset; None where onnx's own converter cannot."""
        if opset not in self._at:
            self._at[opset] = _converted(self.part, opset)
        return self._at[opset]


def since(op_type: str, opset: int) -> int | None:
    """The opset that last changed ONNX's own operator, seen from ``opset``; None where it does not exist."""
    import onnx

    try:
        found = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    return None if found.deprecated else int(found.since_version)


def uses(model: onnx.ModelProto) -> tuple[Use, ...]:
    """One of every (operator, types), in order of appearance; sub-graphs travel inside their node."""
    model = flat(model)
    known = {v.name: v for v in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    weights = {t.name: t for t in model.graph.initializer}
    found: dict[tuple[str, str, tuple[tuple[str, str], ...], bool], Use] = {}
    for node in model.graph.node:
        domain = "" if node.domain in ("", "ai.onnx") else node.domain
        types = _types(model, node, known, weights)
        key = (node.op_type, domain, types, any(a.type in (5, 10) for a in node.attribute))
        if key not in found:
            found[key] = Use(node.op_type, domain, types, _part(model, node, known, weights))
    return tuple(found.values())


def _types(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    known: dict[str, onnx.ValueInfoProto],
    weights: dict[str, onnx.TensorProto],
) -> tuple[tuple[str, str], ...]:
    import onnx

    opsets = {o.domain: o.version for o in model.opset_import}
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return ()
    found: dict[str, str] = {}
    for formal, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for place, name in enumerate(names):
            kind = _element(name, known, weights)
            if kind and formal:
                found.setdefault(formal[min(place, len(formal) - 1)].type_str, kind)
    return tuple(sorted((k, v) for k, v in found.items() if "(" not in k))


def _element(name: str, known: dict[str, onnx.ValueInfoProto], weights: dict[str, onnx.TensorProto]) -> str | None:
    if name in weights:
        number = weights[name].data_type
    elif name in known and known[name].type.HasField("tensor_type"):
        number = known[name].type.tensor_type.elem_type
    else:
        return None
    return f"tensor({element_name(number).lower()})" if number else None


def _part(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    known: dict[str, onnx.ValueInfoProto],
    weights: dict[str, onnx.TensorProto],
) -> onnx.ModelProto:
    """The node alone; what it reads is an input, except for small weights and what constants make."""
    import onnx

    made = onnx.ModelProto(ir_version=model.ir_version)
    made.opset_import.extend(model.opset_import)
    made.graph.name = "operator"
    constants = {n.output[0]: n for n in model.graph.node if n.op_type == "Constant" and n.output}
    for name in dict.fromkeys(reads(node)):
        if name in constants:
            made.graph.node.append(constants[name])
        elif name in weights and _count(weights[name]) <= SMALL and not weights[name].external_data:
            made.graph.initializer.append(weights[name])
        elif name in weights:
            made.graph.input.append(
                onnx.helper.make_tensor_value_info(name, weights[name].data_type, list(weights[name].dims))
            )
        elif name in known:
            made.graph.input.append(known[name])
    made.graph.node.append(node)
    for name in node.output:
        if name and name in known:
            made.graph.output.append(known[name])
        elif name:
            made.graph.output.append(onnx.ValueInfoProto(name=name))
    return made


def _count(tensor: onnx.TensorProto) -> int:
    count = 1
    for dim in tensor.dims:
        count *= dim
    return count


def _converted(part: onnx.ModelProto, opset: int) -> onnx.ModelProto | None:
    import onnx

    own = next((o.version for o in part.opset_import if o.domain in ("", "ai.onnx")), None)
    if own == opset or own is None:
        return part
    restamped = onnx.ModelProto()
    restamped.CopyFrom(part)
    for node in restamped.graph.node:
        _drop_defaults(node, own)
    plain = onnx.ModelProto()
    plain.CopyFrom(restamped)
    for entry in restamped.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    if _valid(restamped):  # most changes of an operator add types, which is no other way of writing it
        return restamped
    try:
        made = onnx.version_converter.convert_version(plain, opset)
    except Exception:  # the converter raises bare RuntimeErrors, and whatever its C++ side throws
        return None
    return made if _valid(made) else None


def _drop_defaults(node: onnx.NodeProto, opset: int) -> None:
    """Attributes that say what would hold anyway: older opsets may not have them."""
    import onnx

    try:
        known = onnx.defs.get_schema(node.op_type, opset, node.domain).attributes
    except onnx.defs.SchemaError:
        return
    for attribute in list(node.attribute):
        if attribute.name in known and not known[attribute.name].required:
            default = known[attribute.name].default_value
            if default.name and default.SerializeToString() == attribute.SerializeToString():
                node.attribute.remove(attribute)


def _valid(model: onnx.ModelProto) -> bool:
    import onnx

    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {o.domain: o.version for o in model.opset_import}
    try:
        for node in model.graph.node:
            onnx.checker.check_node(node, context)
    except onnx.checker.ValidationError:
        return False
    return True
