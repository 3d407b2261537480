"""Parts of an ONNX graph as models of their own, and inner tensors made outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from assay.core.errors import BadInput
from assay.core.tensors import Array
from assay.graph.subgraphs import inlined, name_nodes, reads

if TYPE_CHECKING:
    import onnx


def flat(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without local functions, every node with a name of its own, types of inner tensors inferred.

    Raises BadInput for functions that cannot be written out.
    """
    import onnx

    model = inlined(model)
    copy = onnx.ModelProto()
    try:
        copy.CopyFrom(onnx.shape_inference.infer_shapes(model))
    except (ValueError, onnx.shape_inference.InferenceError):  # too large, or an operator nobody can infer
        copy.CopyFrom(model)
    name_nodes(copy.graph)
    return copy


class Parts:
    """Cuts pieces out of one model (``flat``, weights in memory)."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        graph = model.graph
        self.nodes = list(graph.node)
        self.maker = {name: i for i, node in enumerate(self.nodes) for name in node.output if name}
        self._weights = {t.name: t for t in graph.initializer}
        self.inputs = [v.name for v in graph.input if v.name not in self._weights]
        self.outputs = [v.name for v in graph.output]
        self._known = {v.name: v for v in (*graph.value_info, *graph.input, *graph.output)}
        self._varying = self._dependent()

    def _dependent(self) -> set[str]:
        """Tensors that depend on the inputs: the rest is constant."""
        found = set(self.inputs)
        for node in self.nodes:
            if any(n in found for n in reads(node)):
                found |= {n for n in node.output if n}
        return found

    def dtype(self, name: str) -> int:
        """onnx's element type, 0 where unknown."""
        value = self._known.get(name)
        return int(value.type.tensor_type.elem_type) if value is not None else 0

    def tensors(self) -> list[str]:
        """Inner and output tensors that depend on the inputs and whose type is known, in topological order."""
        return [n for node in self.nodes for n in node.output if n in self._varying and self.dtype(n)]

    def region(self, target: str, borders: Collection[str]) -> tuple[list[int], list[str]]:
        """The nodes between ``borders`` and ``target``, and the borders (and model inputs) they read."""
        found: set[int] = set()
        edges: dict[str, None] = {}
        waiting = [self.maker[target]]
        while waiting:
            index = waiting.pop()
            if index in found:
                continue
            found.add(index)
            for name in reads(self.nodes[index]):
                if name in self._weights:
                    continue
                if name in self.inputs or (name in borders and name != target):
                    edges[name] = None
                elif name in self.maker:
                    waiting.append(self.maker[name])
        return sorted(found), list(edges)

    def cut(self, nodes: Iterable[int], inputs: Mapping[str, Array], targets: Sequence[str]) -> onnx.ModelProto:
        """The nodes as a model; ``inputs`` are recorded arrays, whose dtypes and shapes it declares."""
        import onnx

        chosen = [self.nodes[i] for i in nodes]
        needed = {n for node in chosen for n in reads(node)}
        made = onnx.ModelProto(ir_version=self.model.ir_version)
        made.opset_import.extend(self.model.opset_import)
        made.graph.name = "part"
        made.graph.node.extend(chosen)
        made.graph.initializer.extend(t for n, t in self._weights.items() if n in needed)
        for name, array in inputs.items():
            if name in needed:
                kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
                made.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
        for name in targets:
            made.graph.output.append(self._declared(name))
        return made

    def exposed(self, names: Sequence[str]) -> onnx.ModelProto:
        """The whole model with these tensors as outputs too (and alone, so that nothing else is kept)."""
        import onnx

        needed: set[int] = set()
        for name in names:
            if name in self.maker:
                needed |= set(self.region(name, ())[0])
        made = onnx.ModelProto(ir_version=self.model.ir_version)
        made.opset_import.extend(self.model.opset_import)
        made.metadata_props.extend(self.model.metadata_props)
        made.graph.name = "exposed"
        made.graph.node.extend(self.nodes[i] for i in sorted(needed))
        wanted = {n for i in needed for n in reads(self.nodes[i])}
        made.graph.initializer.extend(t for n, t in self._weights.items() if n in wanted)
        made.graph.input.extend(v for v in self.model.graph.input if v.name in self.inputs)
        made.graph.output.extend(self._declared(n) for n in names if n in self.maker)
        return made

    def _declared(self, name: str) -> onnx.ValueInfoProto:
        """Its type and rank; sizes are left open, since a declared one may be wrong for this feed."""
        import onnx

        known = self._known.get(name)
        if known is None or not known.type.tensor_type.elem_type:
            raise BadInput(f"the type of the tensor {name!r} is not known, so it cannot be made an output")
        kind = known.type.tensor_type
        shape = [None] * len(kind.shape.dim) if kind.HasField("shape") else None
        return onnx.helper.make_tensor_value_info(name, kind.elem_type, shape)
