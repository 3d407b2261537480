"""onnxsim (onnx-simplifier): its C++ code runs in a child process, since a crash there ends the process."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from assay.core import child
from assay.core.errors import NotAvailable
from assay.graph.external_data import save_model
from assay.graph.signature import load_model

if TYPE_CHECKING:
    import onnx


def onnxsim(model: onnx.ModelProto) -> onnx.ModelProto:
    if importlib.util.find_spec("onnxsim") is None:
        raise NotAvailable("onnxsim is not installed", remedy="pip install onnxsim")
    with tempfile.TemporaryDirectory(prefix="assay-onnxsim-") as folder:
        source, target = Path(folder, "in.onnx"), Path(folder, "out.onnx")
        save_model(model, source)
        child.run("assay.graph.passes.onnxsim:simplify_file", {"source": str(source), "target": str(target)})
        return load_model(target, external_data=True)


def simplify_file(source: str, target: str) -> None:
    """Body of the child process.  onnxsim's own random check is off: ours follows."""
    import onnxsim as library

    simplified, _ = library.simplify(load_model(Path(source), external_data=True), check_n=0)
    save_model(simplified, Path(target))
