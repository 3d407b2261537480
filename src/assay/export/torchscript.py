"""The exporter built on TorchScript: for ScriptModules and for opsets below 18."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from assay.export.request import ExportRequest, free_axes
from assay.export.symbolic_calls import recorded
from assay.graph.mapping import append_mapping


def export(request: ExportRequest, path: Path) -> None:
    """``torch.onnx.export(dynamo=False)`` with the free dims given as ``dynamic_axes``."""
    import torch

    axes = {s.name: a for s, a in zip(request.plan.specs, free_axes(request), strict=True) if a}
    batch = request.plan.batch_name
    if batch is not None:
        for name, axis in zip(request.output_names, request.output_axes, strict=True):
            if axis is not None:
                axes[name] = {axis: batch}
    with torch.no_grad(), _registered(request), recorded() as calls:
        torch.onnx.export(
            request.module,
            request.example,
            str(path),
            dynamo=False,
            dynamic_axes=axes or None,
            input_names=[s.name for s in request.plan.specs],
            output_names=list(request.output_names),
            opset_version=request.opset,
            do_constant_folding=request.constant_folding,
        )
    append_mapping(path, calls.mapping())


@contextlib.contextmanager
def _registered(request: ExportRequest) -> Iterator[None]:
    """The user's symbolic functions, registered for this export only."""
    import torch

    done = []
    try:
        for name, function in request.custom.torchscript.items():
            torch.onnx.register_custom_op_symbolic(name, function, request.opset)
            done.append(name)
        yield
    finally:
        for name in done:
            torch.onnx.unregister_custom_op_symbolic(name, request.opset)
            _forget_if_empty(name)


def _forget_if_empty(name: str) -> None:
    """Undo what torch's unregistering leaves: an operator with no translation at all.

    A later export would then die with "min() arg is an empty sequence" in place of naming the
    operator.  torch has no public way; where its internals moved, only that message is worse.
    """
    with contextlib.suppress(ImportError, AttributeError):
        from torch.onnx._internal.torchscript_exporter.registration import registry

        group = registry.get_function_group(name)
        if group is not None and not list(group._functions):
            registry._registry.pop(name, None)
