"""Inputs and outputs of an OpenVINO model as a Signature, and what such a model must not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assay.core.errors import BadInput, EngineFailed, NotAvailable
from assay.core.tensors import Dim, Signature, TensorSpec
from assay.graph.signature import guess_batch_axes, with_batch_axes

_DTYPES = {
    "boolean": "bool",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "u16": "uint16",
    "u32": "uint32",
    "u64": "uint64",
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
}


def model_signature(model: Any, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None) -> Signature:
    """Derived from the ports.  An IR does not keep dim names: every free first dim is ``batch``.

    ``inputs`` and ``outputs`` are the names expected, in order; each port is matched by any of
    its tensor names, and raises EngineFailed where a position does not carry its name.
    """
    given = [_spec(p, i, "input", inputs) for i, p in enumerate(model.inputs)]
    made = [_spec(p, i, "output", outputs) for i, p in enumerate(model.outputs)]
    for what, ports, names in (("inputs", given, inputs), ("outputs", made, outputs)):
        if names is not None and len(ports) != len(names):
            raise EngineFailed(f"openvino sees {len(ports)} {what}; expected {len(names)}: {', '.join(names)}")
    plain = Signature(tuple(given), tuple(made))
    return with_batch_axes(plain, guess_batch_axes(plain))


def _spec(port: Any, index: int, what: str, names: Sequence[str] | None) -> TensorSpec:
    known = set(port.get_names())
    friendly = port.get_node().get_friendly_name()
    if names is not None and index < len(names):
        name = names[index]
        if known and name not in known and name != friendly:
            raise EngineFailed(f"{what} {index} is called {', '.join(sorted(known))} by openvino; expected {name!r}")
    else:
        name = friendly if not known or friendly in known else min(known, key=lambda n: (len(n), n))
    kind = port.get_element_type().get_type_name()
    if kind == "string":
        raise NotAvailable(f"{what} {name!r} is a string tensor, which openvino gives back as text, not as bytes")
    if kind not in _DTYPES:
        raise BadInput(f"{what} {name!r} has the dtype {kind}, which is not supported")
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        if what == "input":
            raise BadInput(f"input {name!r} has no known rank", remedy="export the model with the input's shape given")
        return TensorSpec(name, _DTYPES[kind], (), None)
    dims = tuple(_dim(d, name, axis, what) for axis, d in enumerate(shape))
    return TensorSpec(name, _DTYPES[kind], dims, None)


def _dim(dim: Any, name: str, axis: int, what: str) -> Dim:
    if dim.is_static:
        return int(dim.get_length())
    if axis == 0:
        return "batch"
    return f"dim_{name}_{axis}" if what == "input" else "?"


def refuse_state(model: Any) -> None:
    """Raises BadInput for a model that remembers anything from one call to the next."""
    kept = sorted({op.get_friendly_name() for op in model.get_ops() if op.get_type_name() in ("ReadValue", "Assign")})
    if kept:
        raise BadInput(f"the model keeps state between calls ({', '.join(kept[:3])}); only stateless models are run")


def is_quantised(model: Any) -> bool:
    return any(op.get_type_name() in ("FakeQuantize", "FakeConvert") for op in model.get_ops())
