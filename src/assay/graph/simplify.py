"""Run graph passes, and believe none of them.

After every pass: the checker and shape inference, the signature (names, dtypes, dims), and the
outputs before against after on the caller's feeds.  A pass that fails any of these, or raises, is
rolled back and named with figures; the next pass starts from the last good model.

The tolerance is on the root-mean-square error relative to the reference's root mean square.  A
pass only reorders fp32 arithmetic: a rounding layer with dot products of some hundred to a few
thousand terms adds a relative error of about sqrt(K)·2**-24, at most some 1e-6, and independent
errors add in quadrature over L layers (Higham, *Accuracy and Stability of Numerical Algorithms*,
§3.1 and §4.2).  Hence 1e-5 up to L = 100 and growing with sqrt(L) beyond.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.compare import compare
from assay.core.errors import BadInput, NotAvailable
from assay.core.table import resolve
from assay.core.tensors import Array, Dim, Feed, Signature, is_float
from assay.core.units import Bytes, format_bytes
from assay.graph.arithmetic import RunOnnx
from assay.graph.check import problems
from assay.graph.external_data import THRESHOLD_BYTES, save_model, weight_bytes
from assay.graph.mapping import remember
from assay.graph.passes import PASSES, GraphPass
from assay.graph.quiet import quiet
from assay.graph.rounding import rounding_depth_of
from assay.graph.signature import load_model, signature_of
from assay.graph.user_file import is_user_function, user_function

if TYPE_CHECKING:
    import onnx


KEPT, ROLLED_BACK, UNAVAILABLE = "kept", "rolled_back", "unavailable"
TOLERANCE = 1e-5
_TOLERANCE_DEPTH = 100
PASS_LIMIT_BYTES: Bytes = 2**31
"""The libraries behind the table's passes serialise the model inside, which protobuf limits to this."""
_LOGGERS = ("onnxslim", "ONNXSlim", "onnx_graphsurgeon")


@dataclass(frozen=True)
class PassResult:
    """What became of one pass.

    ``error`` is the largest relative root-mean-square error over outputs and feeds, None where
    nothing could be compared; ``max_abs`` the largest absolute one.
    """

    name: str
    status: str
    reason: str
    nodes_before: int
    nodes_after: int
    error: float | None = None
    max_abs: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in self.__dataclass_fields__}


@dataclass(frozen=True)
class SimplifyResult:
    """``path`` holds the last good model; ``tolerance`` is what the passes were held to."""

    path: Path
    companions: tuple[Path, ...]
    passes: tuple[PassResult, ...]
    tolerance: float
    nodes_before: int
    nodes_after: int


@dataclass(frozen=True)
class _Reference:
    """The model before any pass, and what it gave on every feed."""

    signature: Signature
    feeds: tuple[Feed, ...]
    outputs: tuple[dict[str, Array], ...]
    tolerance: float


class _Refused(Exception):
    """The pass is to be rolled back, for this reason."""

    def __init__(self, reason: str, error: float | None = None, max_abs: float | None = None) -> None:
        super().__init__(reason)
        self.error = error
        self.max_abs = max_abs


def simplify(
    path: Path,
    out_path: Path,
    passes: tuple[str, ...],
    run: RunOnnx,
    feeds: Sequence[Feed],
    threshold_bytes: Bytes = THRESHOLD_BYTES,
) -> SimplifyResult:
    """Apply ``passes`` in order and write the last good model to ``out_path``.

    A pass is a name of the table or a user's ``FILE.py:function``.  Raises BadInput for no feeds,
    a broken model, or one whose outputs are not finite before any pass; UnknownName for a pass that
    does not exist (before anything runs).
    """
    chosen = [(name, find_pass(name)) for name in passes]
    if chosen and not feeds:
        raise BadInput("no feeds were given: a pass cannot be checked without any")
    model = load_model(path, external_data=True)
    tolerance = TOLERANCE * max(1.0, math.sqrt(rounding_depth_of(model) / _TOLERANCE_DEPTH))
    outputs = tuple(run(path, feed) for feed in feeds) if chosen else ()
    reference = _Reference(signature_of(model), tuple(feeds), outputs, tolerance)
    _require_finite(reference, path)
    first = len(model.graph.node)
    if chosen:
        remember(model)
    rows = []
    for name, function in chosen:
        row, model = _apply(name, function, model, reference, run)
        rows.append(row)
    companions = save_model(model, out_path, threshold_bytes)
    return SimplifyResult(out_path, companions, tuple(rows), tolerance, first, len(model.graph.node))


def find_pass(name: str) -> GraphPass:
    """The pass of that name, or the function of a user's ``FILE.py:function`` (which runs the file)."""
    if is_user_function(name):
        function: GraphPass = user_function(name)
        return function
    resolved: GraphPass = resolve(PASSES, name, "pass")
    return resolved


def _apply(
    name: str, function: GraphPass, before: onnx.ModelProto, reference: _Reference, run: RunOnnx
) -> tuple[PassResult, onnx.ModelProto]:
    """One pass with all its checks; gives back the model to go on with."""
    import onnx

    nodes = len(before.graph.node)
    size = weight_bytes(before)
    if name in PASSES and size > PASS_LIMIT_BYTES:
        reason = f"the weights take {format_bytes(size)}, it can do up to {format_bytes(PASS_LIMIT_BYTES)}"
        return PassResult(name, UNAVAILABLE, reason, nodes, nodes), before
    working = onnx.ModelProto()
    working.CopyFrom(before)
    try:
        with quiet(_LOGGERS):
            after = function(working)
        if not isinstance(after, onnx.ModelProto):
            raise _Refused(f"it gave back {type(after).__name__}, not an onnx.ModelProto")
        after = _restored(after, before)
        _check_signature(reference.signature, signature_of(after))
        error, max_abs = _check_file(after, reference, run)
    except NotAvailable as missing:
        reason = f"{missing.message}; {missing.remedy}" if missing.remedy else missing.message
        return PassResult(name, UNAVAILABLE, reason, nodes, nodes), before
    except _Refused as refused:
        row = PassResult(name, ROLLED_BACK, str(refused), nodes, nodes, refused.error, refused.max_abs)
        return row, before
    except Exception as failure:  # a pass is third-party code: whatever it raises, the model before it is good
        said = " ".join(str(failure).split())[:300]
        return PassResult(name, ROLLED_BACK, f"it failed: {type(failure).__name__}: {said}", nodes, nodes), before
    reason = f"outputs equal within {error:.1e} (allowed {reference.tolerance:.1e})"
    return PassResult(name, KEPT, reason, nodes, len(after.graph.node), error, max_abs), after


def _restored(after: onnx.ModelProto, before: onnx.ModelProto) -> onnx.ModelProto:
    """Put back what passes drop without harm: inputs nothing reads, metadata, and the dim names of
    outputs of unchanged rank.

    A size in place of a name is left as it is: that is a lost dim, for the signature check to find.
    """
    kept = {v.name for v in after.graph.input}
    for place, value in enumerate(before.graph.input):
        if value.name not in kept and not any(value.name in n.input for n in before.graph.node):
            after.graph.input.insert(place, value)
    present = {p.key for p in after.metadata_props}
    for entry in before.metadata_props:
        if entry.key not in present:
            after.metadata_props.add(key=entry.key, value=entry.value)
    old = {v.name: v for v in before.graph.output}
    for value in after.graph.output:
        known = old.get(value.name)
        if known is None or not known.type.tensor_type.HasField("shape"):
            continue
        dims, wanted = value.type.tensor_type.shape.dim, known.type.tensor_type.shape.dim
        if not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.CopyFrom(known.type.tensor_type.shape)
        elif len(dims) == len(wanted):
            for new, named in zip(dims, wanted, strict=True):
                if not new.HasField("dim_value") and named.WhichOneof("value"):
                    new.CopyFrom(named)
    return after


def _check_signature(before: Signature, after: Signature) -> None:
    for what, old, new in (("inputs", before.inputs, after.inputs), ("outputs", before.outputs, after.outputs)):
        if [s.name for s in old] != [s.name for s in new]:
            raise _Refused(f"it changed the {what}: {_names(old)} became {_names(new)}")
        for a, b in zip(old, new, strict=True):
            if a.dtype != b.dtype or len(a.shape) != len(b.shape) or not all(map(_same, a.shape, b.shape)):
                raise _Refused(f"it changed the {what[:-1]} {a} to {b}")


def _same(before: Dim, after: Dim) -> bool:
    """An unknown dim may become known; the runs then show whether what is claimed is true."""
    return before in (after, "?")


def _names(specs: Sequence[Any]) -> str:
    return ", ".join(s.name for s in specs) or "none"


def _check_file(after: onnx.ModelProto, reference: _Reference, run: RunOnnx) -> tuple[float, float]:
    if not any(array.size for outputs in reference.outputs for array in outputs.values()):
        raise _Refused("every output is empty on these feeds, so nothing could be compared")
    with tempfile.TemporaryDirectory(prefix="assay-pass-") as folder:
        candidate = Path(folder, "model.onnx")
        save_model(after, candidate)
        found = problems(candidate)
        if found:
            raise _Refused("; ".join(found))
        signature = signature_of(after)
        results = [difference(r, run(candidate, f)) for f, r in zip(reference.feeds, reference.outputs, strict=True)]
        for feed, outputs in zip(reference.feeds, reference.outputs, strict=True):
            _check_sizes(signature, feed, outputs)
    error = max(r[0] for r in results)
    max_abs = max(r[1] for r in results)
    if not error <= reference.tolerance:
        figures = f"relative error {error:.2e}, largest absolute {max_abs:.2e}; allowed {reference.tolerance:.1e}"
        raise _Refused(f"it changed the outputs: {figures}", error, max_abs)
    return error, max_abs


def _check_sizes(signature: Signature, feed: Feed, outputs: Mapping[str, Array]) -> None:
    for spec in signature.outputs:
        for dim, size in zip(spec.shape, outputs[spec.name].shape, strict=True):
            if isinstance(dim, int) and dim != size:
                raise _Refused(f"it declares the output {spec}, but that has the shape {outputs[spec.name].shape}")


def difference(before: Mapping[str, Array], after: Mapping[str, Array]) -> tuple[float, float]:
    """Largest relative rms error and largest absolute error over all outputs.

    Infinite when an output is missing, has another shape, or is not finite somewhere.  For integer
    and boolean outputs the relative error is that of the values, so one flipped element shows.
    """
    if set(before) != set(after) or any(before[n].shape != after[n].shape for n in before):
        return math.inf, math.inf
    numeric = [n for n in before if before[n].dtype != object]
    if any(not np.array_equal(before[n], after[n]) for n in before if n not in numeric):
        return math.inf, math.inf
    worst, worst_abs = 0.0, 0.0
    for measures in compare({n: before[n] for n in numeric}, {n: after[n] for n in numeric}).values():
        if measures.bad_reference or measures.bad_candidate:
            return math.inf, math.inf
        worst = max(worst, measures.relative_rms)
        worst_abs = max(worst_abs, measures.max_abs)
    return worst, worst_abs


def _require_finite(reference: _Reference, path: Path) -> None:
    for outputs in reference.outputs:
        for name, array in outputs.items():
            floating = array.dtype != object and is_float(str(array.dtype))
            if floating and not np.isfinite(array.astype(np.float64)).all():
                raise BadInput(f"the output {name!r} of {path} has NaN or infinite values before any pass")
