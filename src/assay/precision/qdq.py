"""A quantised ONNX graph (Q/DQ form) whose layers can be put back one by one.

A layer is an operator that reads at least one dequantised tensor.  To put it back, what it reads
is replaced by what was quantised: for an activation the tensor before QuantizeLinear, for a weight
or bias the tensor of the source file.  Where a quantiser sits above operators that only move or
clip values (a pooling between a Relu and a Conv), those are run a second time on the plain values.
An output that leaves the graph through Q/DQ is a layer of its own.  This works on the file of any
quantiser and changes nothing else, so a graph with every layer put back computes what its source
computes.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.core.artifact import Artifact
from assay.core.errors import EngineFailed
from assay.precision.job import Layer, refuse_unknown
from assay.precision.onnx_graph import constants, drop_unused, makers, write_like

if TYPE_CHECKING:
    import onnx

_MOVES = frozenset(
    {
        "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Concat", "Identity",
        "Split", "Gather", "Expand", "DepthToSpace", "SpaceToDepth", "Pad", "Relu", "Clip",
    }
)  # fmt: skip
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})


class QdqModel:
    """See ``precision.job.Lowered``.  ``original`` and ``quantised`` have equal node names."""

    def __init__(self, source: Artifact, original: onnx.ModelProto, quantised: onnx.ModelProto, how: dict[str, Any]):
        self.how = how
        self._source, self._original, self._quantised = source, original, quantised
        self._outputs = {value.name for value in quantised.graph.output}
        known = {node.name: node.op_type for node in original.graph.node}
        made_by = makers(quantised)
        layers = []
        for node in quantised.graph.node:
            if node.op_type == "DequantizeLinear" and node.output[0] in self._outputs:
                layers.append(Layer(f"output {node.output[0]}", "output"))
            elif known.get(node.name) == node.op_type and self._reads_quantised(node, made_by):
                layers.append(Layer(node.name, node.op_type))
        if not layers:
            raise EngineFailed(f"nothing of {source.path} was quantised ({how.get('library')})")
        self.layers = tuple(layers)

    def _reads_quantised(self, node: onnx.NodeProto, made_by: dict[str, onnx.NodeProto]) -> bool:
        if node.op_type in _MOVES | _QUANTISERS:
            return False
        return any(_is_quantised(name, made_by) for name in node.input)

    def write(self, path: Path, keep: Collection[str] = ()) -> Artifact:
        import onnx

        refuse_unknown(keep, self.layers)
        model = onnx.ModelProto()
        model.CopyFrom(self._quantised)
        if keep:
            _Restorer(model, self._original).restore(frozenset(keep))
        return write_like(model, self._source, path)


def _is_quantised(name: str, made_by: dict[str, onnx.NodeProto]) -> bool:
    maker = made_by.get(name)
    if maker is None:
        return False
    if maker.op_type == "DequantizeLinear":
        return True
    return maker.op_type in _MOVES and any(_is_quantised(n, made_by) for n in maker.input)


class _Restorer:
    """Rewires one copy of the quantised graph."""

    def __init__(self, model: onnx.ModelProto, original: onnx.ModelProto) -> None:
        self._graph = model.graph
        self._model = model
        self._made_by = makers(model)
        self._weights = constants(original)
        self._nodes = {node.name: node for node in original.graph.node}
        self._plain: dict[str, str] = {}
        self._added: list[onnx.NodeProto] = []
        self._restored: set[str] = set()

    def restore(self, keep: frozenset[str]) -> None:
        for node in list(self._graph.node):
            if node.name in keep and node.name in self._nodes:
                self._restore_node(node, self._nodes[node.name])
        for name in list(self._made_by):
            if f"output {name}" in keep:
                self._restore_output(name)
        self._graph.node.extend(self._added)
        drop_unused(self._model)

    def _restore_node(self, node: onnx.NodeProto, original: onnx.NodeProto) -> None:
        for index, name in enumerate(original.input):
            if name in self._weights:
                node.input[index] = self._weight(name)
            elif name:
                node.input[index] = self.plain(node.input[index])

    def _weight(self, name: str) -> str:
        """The source's own tensor under a name of its own (a quantiser may have changed the one of that name)."""
        restored = f"{name}/restored"
        if restored not in self._restored:
            tensor = self._graph.initializer.add()
            tensor.CopyFrom(self._weights[name])
            tensor.name = restored
            self._restored.add(restored)
        return restored

    def plain(self, name: str) -> str:
        """The tensor ``name`` stands for, without quantisation on the way to the operator that computed it."""
        if name not in self._plain:
            self._plain[name] = self._find(name)
        return self._plain[name]

    def _find(self, name: str) -> str:
        maker = self._made_by.get(name)
        if maker is None:
            return name
        if maker.op_type == "DequantizeLinear":
            quantiser = self._made_by.get(maker.input[0])
            return name if quantiser is None else self.plain(quantiser.input[0])
        if maker.op_type not in _MOVES:
            return name
        inputs = [self.plain(n) if n else n for n in maker.input]
        if inputs == list(maker.input):
            return name
        import onnx

        copy = onnx.NodeProto()
        copy.CopyFrom(maker)
        copy.name = f"{maker.name}/restored"
        for index, given in enumerate(inputs):
            copy.input[index] = given
        for index, made in enumerate(maker.output):
            if made:
                copy.output[index] = f"{made}/restored"
                self._plain[made] = copy.output[index]
        self._added.append(copy)
        return self._plain[name]

    def _restore_output(self, name: str) -> None:
        """The last DequantizeLinear becomes an Identity of the plain tensor, so that the output keeps its name."""
        last = self._made_by[name]
        last_plain = self.plain(name)
        last.op_type, last.domain = "Identity", ""
        del last.input[:]
        del last.attribute[:]
        last.input.append(last_plain)
