"""assay takes a PyTorch model to a deployable inference engine, and proves it.

::

    run = assay.run(module, example=x, data=loader, metric=fn)
    print(run.verdict.passed, run.best.throughput)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assay._version import __version__

if TYPE_CHECKING:
    from assay.api import Best, Run, export_onnx, list_engines, open, run, throughput, transform  # noqa: A004
    from assay.core.errors import AssayError
    from assay.judge.policy import Policy
    from assay.sources.registry import create_model, list_models, register_model
    from assay.sources.torchvision_ops import make_torchvision_importable

_PUBLIC = {
    "AssayError": "assay.core.errors",
    "Best": "assay.api",
    "Policy": "assay.judge.policy",
    "Run": "assay.api",
    "create_model": "assay.sources.registry",
    "export_onnx": "assay.api",
    "list_engines": "assay.api",
    "list_models": "assay.sources.registry",
    "make_torchvision_importable": "assay.sources.torchvision_ops",
    "open": "assay.api",
    "register_model": "assay.sources.registry",
    "run": "assay.api",
    "throughput": "assay.api",
    "transform": "assay.api",
}

__all__ = [
    "AssayError",
    "Best",
    "Policy",
    "Run",
    "__version__",
    "create_model",
    "export_onnx",
    "list_engines",
    "list_models",
    "make_torchvision_importable",
    "open",
    "register_model",
    "run",
    "throughput",
    "transform",
]


def __getattr__(name: str) -> Any:
    """Public names are imported on first use: ``import assay`` stays cheap."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_PUBLIC[name]), name)
