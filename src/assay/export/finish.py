"""What is put right in an exported graph before it is compared: declared dims, names, metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from assay.core.errors import ExportFailed
from assay.core.tensors import Dim
from assay.export.flatten import INNER
from assay.export.inputs import InputPlan
from assay.export.prove import Specialised, Trial
from assay.graph.signature import signature_of, store_batch_axes, with_batch_axes
from assay.graph.subgraphs import subgraphs

if TYPE_CHECKING:
    import onnx


def check_inputs(model: onnx.ModelProto, plan: InputPlan) -> list[str]:
    """The graph's inputs against the plan; notes about inputs the exporter dropped.

    Raises Specialised when an input dim that was to be free has a size in the file.
    """
    signature = signature_of(model)
    present = {s.name: s for s in signature.inputs}
    for spec in plan.specs:
        found = present.get(spec.name)
        for axis, dim in enumerate(spec.shape if found else ()):
            if found and isinstance(dim, str) and isinstance(found.shape[axis], int):
                raise Specialised(
                    f"the dim {dim!r} of input {spec.name!r} was asked to be free, "
                    f"but the exporter fixed it to {found.shape[axis]}",
                    remedy="try the other exporter, or fix this dim with a number in --shape",
                )
    unexpected = sorted(set(present) - {s.name for s in plan.specs})
    if unexpected:
        raise ExportFailed(f"the exported file has an input nobody asked for: {unexpected[0]!r}")
    dropped = [s.name for s in plan.specs if s.name not in present]
    return [f"the output does not depend on input {name!r}, and the exporter dropped it" for name in dropped]


def declare(model: onnx.ModelProto, plan: InputPlan, axes: Mapping[str, int | None], trials: Sequence[Trial]) -> None:
    """Declare the outputs' shapes as they were seen, and store the batch axes.

    A batch axis gets the batch's name.  A dim the exporter left unknown gets the size or the free
    dim it had in every trial; a size that did not hold in every trial is taken back.
    """
    known = {s.name for s in plan.specs}
    for value in model.graph.output:
        shape = value.type.tensor_type.shape
        seen = [t.reference[value.name].shape for t in trials]
        if not value.type.tensor_type.HasField("shape") or len(shape.dim) != len(seen[0]):
            del shape.dim[:]
            for _ in seen[0]:
                shape.dim.add()
    signature = signature_of(model)
    for value, spec in zip(model.graph.output, signature.outputs, strict=True):
        for axis, (dim, now) in enumerate(zip(value.type.tensor_type.shape.dim, spec.shape, strict=True)):
            sizes = [t.reference[value.name].shape[axis] for t in trials]
            wanted = _dim(now, sizes, trials, plan.batch_name if axes[value.name] == axis else None)
            dim.Clear()
            if isinstance(wanted, int):
                dim.dim_value = wanted
            elif wanted != "?":
                dim.dim_param = wanted
    stored = {**{s.name: s.batch_axis for s in plan.specs}, **axes}
    final = signature_of(model)
    store_batch_axes(model, with_batch_axes(final, {n: a for n, a in stored.items() if n in known or n in axes}))


def _dim(now: Dim, sizes: Sequence[int], trials: Sequence[Trial], batch_name: str | None) -> Dim:
    if batch_name is not None:
        return batch_name
    same = len(set(sizes)) == 1
    if isinstance(now, int):
        return now if set(sizes) == {now} else "?"
    if now != "?":
        return now
    if same:
        return sizes[0]
    names = [d for d in trials[0].sizes if all(t.sizes[d] == s for t, s in zip(trials, sizes, strict=True))]
    return names[0] if names else "?"


def strip_prefix(model: onnx.ModelProto) -> None:
    """Take the wrapper's attribute off the weights' names, so that they are the module's own."""
    prefix = f"{INNER}."
    names = {t.name for t in model.graph.initializer}
    renamed = {n: n.removeprefix(prefix) for n in names if n.startswith(prefix) and n.removeprefix(prefix) not in names}
    for tensor in model.graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for value in model.graph.value_info:
        value.name = renamed.get(value.name, value.name)
    _rename(model.graph, renamed)


def _rename(graph: onnx.GraphProto, renamed: Mapping[str, str]) -> None:
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in renamed:
                node.input[index] = renamed[name]
        for inner in subgraphs(node):
            _rename(inner, renamed)
