"""A folder that shows the fault with nothing but numpy and one inference library installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from assay.core.errors import StorageFailed
from assay.core.tensors import Array, Feed
from assay.graph.external_data import save_model

if TYPE_CHECKING:
    import onnx

RUNTIMES = {
    "onnxruntime": """\
import onnxruntime

options = onnxruntime.SessionOptions()
level = ABOUT["settings"].get("graph_optimization_level", "ORT_ENABLE_ALL")
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), options, providers=["CPUExecutionProvider"])
names = [o.name for o in session.get_outputs()]
found = dict(zip(names, session.run(names, {i.name: given[i.name] for i in session.get_inputs()})))
""",
    "openvino": """\
import openvino

core = openvino.Core()
model = core.read_model(str(HERE / "model.onnx"))
compiled = core.compile_model(model, "CPU", ABOUT["settings"])
results = compiled([given[port.any_name] for port in compiled.inputs])
found = {port.any_name: np.array(results[port]) for port in compiled.outputs}
""",
}
_SCRIPT = '''\
"""Shows that one part of a model gives other outputs than it should.

    python reproduce.py

model.onnx is the part, input.npz what goes in, expected.npz what the reference gives for it and
candidate.npz what the candidate gave when this folder was written.  Exit code 1: the difference is there.
"""

import json
import pathlib
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ABOUT = json.loads((HERE / "about.json").read_text())


def load(name):
    """The names are the first array, the tensors follow."""
    arrays = list(np.load(HERE / name).values())
    return dict(zip(arrays[0].tolist(), arrays[1:]))


given, expected = load("input.npz"), load("expected.npz")

{runtime}
worst = 0.0
for name, reference in expected.items():
    error = found[name].astype(np.float64) - reference
    scale = np.sqrt(np.mean(reference.astype(np.float64) ** 2)) or 1.0
    relative = float(np.sqrt(np.mean(error**2)) / scale)
    worst = relative if not relative <= worst else worst
    print(f"{{name}}: relative rms error {{relative:.3g}}, largest {{np.abs(error).max():.3g}}")
print(f"allowed: {{ABOUT['due']:.3g}}")
print("the difference is there" if not worst <= ABOUT["due"] else "no difference beyond what is due")
sys.exit(0 if worst <= ABOUT["due"] else 1)
'''


_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


def runtime_settings(runtime: str, precision: str, level: str) -> dict[str, str]:
    """What the script opens the part with, so that it computes as the candidate did."""
    if runtime == "openvino":
        mode = "ACCURACY" if precision == "fp32" else "PERFORMANCE"
        return {"INFERENCE_PRECISION_HINT": _HINTS.get(precision, "f32"), "EXECUTION_MODE_HINT": mode}
    return {"graph_optimization_level": _LEVELS[level]}


@dataclass(frozen=True)
class Case:
    """``runtime`` is a name of ``RUNTIMES``; ``settings`` are what it is opened with; ``about`` is for readers."""

    model: onnx.ModelProto
    feed: Feed
    expected: Mapping[str, Array]
    candidate: Mapping[str, Array]
    due: float
    runtime: str
    settings: Mapping[str, Any]
    about: Mapping[str, Any]


def write_reproduction(folder: Path, case: Case) -> Path:
    """Write the folder (made if needed) and return it.  Raises StorageFailed where that cannot be done."""
    save_model(case.model, folder / "model.onnx")
    about = {"due": case.due, "runtime": case.runtime, "settings": dict(case.settings), **case.about}
    try:
        for name, arrays in (("input", case.feed), ("expected", case.expected), ("candidate", case.candidate)):
            numbered = [np.asarray(a) for a in arrays.values()]
            np.savez(folder / f"{name}.npz", np.array(list(arrays)), *numbered)  # names may not be names of Python
        (folder / "about.json").write_text(json.dumps(about, indent=2, default=str) + "\n")
        (folder / "reproduce.py").write_text(_SCRIPT.format(runtime=RUNTIMES[case.runtime]))
    except OSError as error:
        raise StorageFailed(f"cannot write in {folder}: {error.strerror or error}") from error
    return folder
