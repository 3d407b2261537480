"""An ONNX file run in exact (float64) arithmetic, and with a number format's rounding put in.

float64 runs on the caller's engine where that has the kernels (ONNX Runtime has none for Conv), else
on onnx's reference evaluator with the products and poolings done by torch when it is installed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from assay.core.errors import AssayError, EngineFailed
from assay.core.tensors import Array, Feed
from assay.graph.double import to_double
from assay.graph.emulate import emulate
from assay.graph.external_data import save_model
from assay.graph.quiet import quiet
from assay.graph.reference_ops import fast_ops
from assay.graph.signature import load_model

RunOnnx = Callable[[Path, Feed], dict[str, Array]]
"""Runs an ONNX file on one feed; the caller brings the engine."""


class GraphArithmetic:
    """``run`` runs an ONNX file in fp32; close to remove the temporary files."""

    def __init__(self, path: Path, run: RunOnnx) -> None:
        self._path = path
        self._run = run
        self._folder = tempfile.TemporaryDirectory(prefix="assay-arithmetic-")
        self._emulated: dict[tuple[str, int], Path] = {}
        self._exact: Callable[[Feed], dict[str, Array]] | None = None

    def exact(self, feed: Feed) -> dict[str, Array]:
        """All outputs in float64.  Raises BadInput for a quantised graph, EngineFailed where it does not run."""
        if self._exact is not None:
            return self._exact(feed)
        path = Path(self._folder.name, "double.onnx")
        model = to_double(load_model(self._path, external_data=True))
        save_model(model, path)
        try:
            found = self._run(path, feed)
        except AssayError:
            self._exact = reference_evaluator(path)
            return self._exact(feed)
        self._exact = lambda feed: self._run(path, feed)
        return found

    def rounded(self, feed: Feed, precision: str, seed: int) -> dict[str, Array]:
        """All outputs with the format's rounding.  Raises BadInput or EngineFailed where it cannot be put in."""
        key = (precision, seed)
        if key not in self._emulated:
            path = Path(self._folder.name, f"{precision}-{seed}.onnx")
            save_model(emulate(load_model(self._path, external_data=True), precision, seed), path)
            self._emulated[key] = path
        return self._run(self._emulated[key], feed)

    def release(self) -> None:
        """Drop the float64 copy."""
        self._exact = None

    def close(self) -> None:
        self._folder.cleanup()


def reference_evaluator(path: Path) -> Callable[[Feed], dict[str, Array]]:
    """onnx's own evaluator on a file, in whatever dtypes the file has."""
    import onnx.reference

    evaluator = onnx.reference.ReferenceEvaluator(load_model(path, external_data=True), new_ops=fast_ops())
    names = list(evaluator.output_names)

    def run(feed: Feed) -> dict[str, Array]:
        try:
            with quiet(), np.errstate(all="ignore"):
                found: Any = evaluator.run(names, dict(feed))
        except Exception as error:  # the evaluator raises whatever numpy raises
            raise EngineFailed(f"onnx's reference evaluator failed: {type(error).__name__}: {error}") from error
        return dict(zip(names, found, strict=True))

    return run
