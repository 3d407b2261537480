"""ONNX Runtime: its own registry of kernels for the CPU says what it takes, without opening anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assay.core.errors import NotAvailable
from assay.diagnose.support.table import ASKED, Knowledge
from assay.graph.operator_uses import Use, since

_PROVIDER = "CPUExecutionProvider"
_OPEN_END = 2**31 - 1
_OLDEST = 7
"""What its makers promise to open."""
_DOMAINS = {"": ("", "ai.onnx"), "ai.onnx": ("", "ai.onnx")}
_BUILT_IN = frozenset({"Constant"})
"""Folded into the graph when it is read: there is no kernel for it."""


def knowledge() -> Knowledge:
    """Raises NotAvailable where onnxruntime is missing, or was built without its registry's bindings."""
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as inner

        kernels = inner.get_all_opkernel_def()
    except ImportError:
        raise NotAvailable("onnxruntime is not installed", remedy="pip install onnxruntime") from None
    except AttributeError:
        raise NotAvailable("this build of onnxruntime does not list its kernels") from None
    by_name: dict[str, list[Any]] = {}
    for kernel in kernels:
        if kernel.provider == _PROVIDER:
            by_name.setdefault(kernel.op_name, []).append(kernel)

    def refusal(use: Use, opset: int) -> str | None:
        return _refusal(use, opset, by_name)

    return Knowledge(ASKED, f"onnxruntime {onnxruntime.__version__}, {_PROVIDER}", refusal, (_OLDEST, _newest()))


def _newest() -> int:
    """The newest opset of which it opens the smallest model there is."""
    import onnx

    return next(v for v in range(onnx.defs.onnx_opset_version(), _OLDEST - 1, -1) if v == _OLDEST or _opens(v))


def _opens(opset: int) -> bool:
    import onnx
    import onnxruntime
    from onnx import helper

    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[_PROVIDER])
    except Exception:  # its own classes, none of them public
        return False
    return True


def _refusal(use: Use, opset: int, by_name: Mapping[str, Sequence[Any]]) -> str | None:
    if use.op_type in _BUILT_IN:
        return None
    domains = _DOMAINS.get(use.domain, (use.domain,))
    there = [k for k in by_name.get(use.op_type, ()) if k.domain in domains]
    changed = since(use.op_type, opset) if not use.domain else None
    if changed is not None:
        there = [k for k in there if _covers(k.version_range, changed)]
    if not there:
        return None if _is_function(use, opset) else "there is no kernel for it"
    if any(_takes(k.type_constraints, use.types) for k in there):
        return None
    return f"there is no kernel for {', '.join(t for _, t in use.types)}"


def _covers(versions: tuple[int, int], changed: int) -> bool:
    """An open range stands for its first version only: what later opsets change is another kernel's."""
    first, last = versions
    return first == changed or (first < changed <= last and last != _OPEN_END)


def _takes(constraints: Mapping[str, Sequence[str]], types: Sequence[tuple[str, str]]) -> bool:
    return all(name not in constraints or kind in constraints[name] for name, kind in types)


def _is_function(use: Use, opset: int) -> bool:
    """ONNX defines some operators by others; the library then runs those."""
    import onnx

    if use.domain:
        return False
    schema = onnx.defs.get_schema(use.op_type, opset, "")
    return bool(schema.has_function or schema.has_context_dependent_function)
