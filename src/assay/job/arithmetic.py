"""The reference in exact arithmetic: what tells rounding from error (see measure/truth.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from assay.core.artifact import Artifact
from assay.core.tensors import Signature
from assay.export.arithmetic import ModuleArithmetic
from assay.graph.arithmetic import GraphArithmetic
from assay.job.opening import OnnxRunner, precision_of
from assay.measure.truth import Arithmetic

COST_ROWS = 8
"""Rows a format's cost is measured on; relative rms over so many rows varies little."""


@contextlib.contextmanager
def arithmetic_of(artifact: Artifact, signature: Signature) -> Iterator[tuple[Arithmetic | None, str | None]]:
    """The arithmetic of a module or an ONNX file, or None with the reason why there is none."""
    if artifact.module is not None:
        yield ModuleArithmetic(artifact.module(), signature), None
        return
    if artifact.format != "onnx":
        yield None, f"a {artifact.format} file cannot be run in float64: there is no truth to hold the errors against"
        return
    native = precision_of(artifact.path)
    if native != "fp32":
        yield None, f"the reference is written in {native}: it has no exact form"
        return
    runner = OnnxRunner()
    graph = GraphArithmetic(artifact.path, runner)
    try:
        yield graph, None
    finally:
        graph.close()
        runner.close()
