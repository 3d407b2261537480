"""Nodes of a model that OpenVINO is to leave in fp32 when the rest runs in bf16 or fp16.

The runtime keeps an operator's own precision where its IR carries the attribute ``precise``.  A product with
constant weights loses that mark on its way into the CPU plugin, so it is written as a convolution of kernel
size 1, which keeps it and computes the same sums.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from pathlib import Path
from typing import Any

from assay.core.errors import EngineFailed, NotAvailable
from assay.core.telemetry import import_untold

_NO_ARITHMETIC = frozenset({"Constant", "Parameter", "Result"})
_MARK = {"name": "precise", "version": "0"}


def keep_precise(source: Path, made: Collection[tuple[str, Collection[str]]], out: Path) -> int:
    """Write ``source`` (ONNX or IR) to ``out`` (.xml, with its .bin beside it) with some operators left in fp32.

    ``made`` names each tensor that is to be computed in fp32 together with the tensors it is computed from:
    every operator between them is kept.  Gives the number of operators kept.  Raises NotAvailable without
    openvino, EngineFailed for what it cannot read or write.
    """
    try:
        library = import_untold("openvino")
    except ImportError:
        raise NotAvailable("openvino is not installed", remedy="pip install 'assay[openvino]'") from None
    try:
        model = library.Core().read_model(str(source))
        kept = {id_: op for tensor, inputs in made for id_, op in _between(model, tensor, set(inputs)).items()}
        names = {name for op in kept.values() for name in _steady(library, op)}
        model.validate_nodes_and_infer_types()
        out.parent.mkdir(parents=True, exist_ok=True)
        library.save_model(model, str(out), compress_to_fp16=False)
    except Exception as error:  # the library raises RuntimeError and several of its own
        said = str(error).strip() or type(error).__name__
        raise EngineFailed(f"openvino could not rewrite {source.name}: {said.splitlines()[-1]}") from error
    return _mark(out, names)


def _between(model: Any, tensor: str, inputs: set[str]) -> dict[str, Any]:
    """The operators between ``inputs`` and ``tensor``, by name."""
    makers = {name: op for op in model.get_ops() for port in op.outputs() for name in port.get_names()}
    found: dict[str, Any] = {}
    waiting = [makers[tensor]] if tensor in makers else []
    while waiting:
        op = waiting.pop()
        if op.get_type_name() in _NO_ARITHMETIC or op.get_friendly_name() in found:
            continue
        found[op.get_friendly_name()] = op
        for port in op.inputs():
            source = port.get_source_output()
            if not inputs & set(source.get_names()):
                waiting.append(source.get_node())
    return found


def _steady(library: Any, op: Any) -> list[str]:
    """The names of the operators that stand for ``op`` and keep the mark."""
    if op.get_type_name() != "MatMul" or not _constant(op.input_value(1).get_node()):
        return [op.get_friendly_name()]
    attributes = op.get_attributes()
    rank = op.input_value(0).get_partial_shape().rank
    weights = op.input_value(1)
    shape = weights.get_partial_shape()
    if attributes.get("transpose_a") or rank.is_dynamic or shape.rank.get_length() != 2 or rank.get_length() < 2:
        return [op.get_friendly_name()]
    return _as_convolution(library, op, (weights, bool(attributes.get("transpose_b"))), rank.get_length())


def _constant(op: Any) -> bool:
    """A weight, possibly behind a conversion."""
    return op.get_type_name() == "Constant" or (
        op.get_type_name() in ("Convert", "Transpose") and _constant(op.input_value(0).get_node())
    )


def _as_convolution(library: Any, op: Any, weights: tuple[Any, bool], rank: int) -> list[str]:
    """x (…, k) · w (k, m) as a 1-D convolution over (n, k, s): the leading axes are n, the last but one is s."""
    import numpy as np

    ops = library.opset13
    x, (kernel, transposed) = op.input_value(0), weights
    if not transposed:
        kernel = ops.transpose(kernel, np.array([1, 0]))
    made = []
    if rank == 2:
        made += [ops.reshape(x, np.array([0, 0, 1]), True)]  # an unsqueeze would lose the mark
    else:
        made += _folded(ops, x) if rank > 3 else []
        made += [ops.transpose(made[-1] if made else x, np.array([0, 2, 1]))]
    made += [ops.convolution(made[-1], ops.unsqueeze(kernel, np.array([2])), [1], [0], [0], [1])]
    if rank == 2:
        made += [ops.reshape(made[-1], np.array([0, 0]), True)]
    else:
        made += [ops.transpose(made[-1], np.array([0, 2, 1]))]
        if rank > 3:
            lead = ops.slice(ops.shape_of(x), np.array([0]), np.array([-1]), np.array([1]))
            made += [ops.reshape(made[-1], ops.concat([lead, np.array([-1])], 0), False)]
    for place, step in enumerate(made):
        step.set_friendly_name(f"{op.get_friendly_name()}/precise/{place}")
    _replace(op, made[-1])
    return [step.get_friendly_name() for step in made]


def _folded(ops: Any, x: Any) -> list[Any]:
    """Leading axes folded into one, so that three are left."""
    import numpy as np

    tail = ops.slice(ops.shape_of(x), np.array([-2]), np.array([2**31 - 1]), np.array([1]))
    return [ops.reshape(x, ops.concat([np.array([-1]), tail], 0), False)]


def _replace(op: Any, other: Any) -> None:
    """Its readers and its tensor names pass to ``other``."""
    names = set(op.output(0).get_names())
    for target in list(op.output(0).get_target_inputs()):
        target.replace_source_output(other.output(0))
    op.output(0).set_names(set())
    other.output(0).set_names(names)


def _mark(path: Path, names: Collection[str]) -> int:
    """Put the attribute on the layers of these names; how many there were."""
    tree = ElementTree.parse(path)  # noqa: S314 - written by save_model just now
    marked = 0
    for layer in tree.iterfind("layers/layer"):
        if layer.get("name") not in names:
            continue
        info = layer.find("rt_info")
        if info is None:
            data = layer.find("data")
            info = ElementTree.Element("rt_info")
            layer.insert(0 if data is None else list(layer).index(data) + 1, info)
        ElementTree.SubElement(info, "attribute", _MARK)
        marked += 1
    tree.write(path)
    return marked
