"""The reference in exact arithmetic: what tells rounding from error (see measure/truth.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from assay.core.artifact import Artifact
from assay.core.engine import Candidate
from assay.core.errors import AssayError
from assay.core.tensors import Signature
from assay.export.arithmetic import ModuleArithmetic
from assay.graph.arithmetic import GraphArithmetic
from assay.graph.quantised_runs import QuantisedGraph
from assay.job.opening import OnnxRunner, precision_of
from assay.measure.quantised import QuantisedRuns
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


@contextlib.contextmanager
def quantised_of(candidate: Candidate, made_from: Iterable[Artifact | None] = ()) -> Iterator[QuantisedRuns | None]:
    """What the candidate's file says by its own scales; None for what is not quantised, or in a way that cannot be
    read.

    An engine's own file is read as the ONNX file among ``made_from`` that it names as its parent.
    """
    own = candidate.artifact
    known = [own, *(a for a in made_from if a is not None and a.sha256 in own.parents)]
    artifact = next((a for a in known if a.format == "onnx"), None)
    if artifact is None or candidate.options.precision not in INTEGER:
        yield None
        return
    with quantised_file(artifact) as runs:
        yield runs


@contextlib.contextmanager
def quantised_file(artifact: Artifact) -> Iterator[QuantisedRuns | None]:
    """What a quantised ONNX file says by its own scales; None for any other file, or where they cannot be read."""
    if artifact.format != "onnx" or precision_of(artifact.path) != "int8":
        yield None
        return
    runner = OnnxRunner(keep=8)
    try:
        graph = QuantisedGraph(artifact.path, runner)
    except AssayError:
        runner.close()
        yield None
        return
    try:
        yield graph
    finally:
        graph.close()
        runner.close()


INTEGER = ("int8", "fp32")
"""What a quantised file is opened as: OpenVINO's fp32 runs one as it is."""
