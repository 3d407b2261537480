"""The bundles that benchmarks/serve.py serves, made once and kept under runs/bench-serve/."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from assay.bundle.contents import BundleContents
from assay.bundle.manifest import verify_manifest
from assay.bundle.pack import pack
from assay.core.artifact import Artifact, file_artifact
from assay.core.engine import BuildOptions, Candidate, OpenOptions
from assay.core.errors import AssayError
from assay.core.tensors import Signature, TensorSpec
from assay.engines.null import NullEngine, null_artifact
from assay.engines.openvino import OpenVinoEngine
from assay.measure.environment import device_name

SHAPE = (3, 224, 224)
TENSOR_BYTES = 4 * 3 * 224 * 224
CLASSES = 1000
TRANSFORM = {"kind": "image", "size": [224, 224], "crop_pct": 0.875, "interpolation": "bicubic"}
TRANSFORM |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
NULL_MODEL = '''"""Answers zeros and looks at nothing: what is left is Triton's own path."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        zeros = pb_utils.Tensor("output", np.zeros((1, 1000), np.float32))
        return [pb_utils.InferenceResponse([zeros]) for _ in requests]
'''


def bundle_of(model: str, precision: str, folder: Path) -> Path:
    """A bundle of ``timm:<model>`` (randomised weights: speed is not theirs) for OpenVINO in ``precision``."""
    out = folder / f"{model}-{precision}"
    if _whole(out):
        return out
    folder.mkdir(parents=True, exist_ok=True)
    onnx = folder / f"{model}.onnx"
    if not onnx.is_file():
        assay = str(Path(sys.executable).parent / "assay")
        subprocess.run([assay, "export", f"timm:{model}", "-o", str(onnx), "--quiet"], check=True)
    engine = OpenVinoEngine()
    built = engine.build(file_artifact(onnx, "onnx"), BuildOptions(precision=precision), folder / f"{model}-ir")
    options = OpenOptions(precision=precision)
    candidate = Candidate(built, "openvino", engine.version(), options, device_name("cpu"))
    return _packed(model, candidate, engine, out)


def null_bundle(folder: Path) -> Path:
    """The null engine with the same tensors: 602 KB in, 4 KB out, nothing computed."""
    out = folder / "null"
    if _whole(out):
        return out
    folder.mkdir(parents=True, exist_ok=True)
    given = TensorSpec("input", "float32", ("batch", *SHAPE), 0)
    made = TensorSpec("output", "float32", ("batch", CLASSES), 0)
    artifact = null_artifact(Signature((given,), (made,)), folder / "null.json")
    engine = NullEngine()
    candidate = Candidate(artifact, "null", engine.version(), OpenOptions(), device_name("cpu"))
    return _packed("null", candidate, engine, out)


def null_for_triton(repository: Path, name: str = "null") -> None:
    """The same for Triton's Python backend."""
    version = repository / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(NULL_MODEL)
    (repository / name / "config.pbtxt").write_text(
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: 8\ndynamic_batching {{ }}\n'
        'input { name: "input" data_type: TYPE_FP32 dims: [3, 224, 224] }\n'
        'output { name: "output" data_type: TYPE_FP32 dims: [1000] }\n'
        "instance_group { kind: KIND_CPU count: 1 }\n"
    )


def precisions() -> list[str]:
    """What both servers can run here: bf16 where the processor has it."""
    engine = OpenVinoEngine()
    return [p for p in ("fp32", "bf16") if engine.unavailable("cpu", p) is None]


def jpeg(width: int = 500, height: int = 375, quality: int = 85) -> bytes:
    """A picture with the frequencies of a photograph (1/f noise): about the size of an ImageNet file."""
    from PIL import Image

    rng = np.random.default_rng(0)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    fall = 1.0 / np.maximum(np.hypot(fy, fx), 1.0 / max(width, height))
    layers = []
    for _ in range(3):
        noise = np.fft.rfft2(rng.standard_normal((height, width))) * fall
        layer = np.fft.irfft2(noise, (height, width))
        layers.append(128 + 45 * layer / layer.std())
    pixels = np.clip(np.stack(layers, 2), 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return out.getvalue()


def _packed(name: str, candidate: Candidate, engine: Any, out: Path) -> Path:
    feed = {"input": np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)}
    artifact: Artifact = candidate.artifact
    with engine.open(artifact, candidate.options) as session:
        signature = session.signature
        feed = {signature.inputs[0].name: feed["input"]}
        goldens = ((feed, session.run(feed)),)
    tolerance = {"max_relative_rms": 0.05, "source": "a benchmark's model: speed is what is measured"}
    contents = BundleContents(name, candidate, signature, goldens, tolerance, preprocess=TRANSFORM, command="benchmark")
    return pack(contents, out)


def _whole(folder: Path) -> bool:
    if not (folder / "manifest.json").is_file():
        return False
    try:
        whole = not verify_manifest(folder)
    except AssayError:
        whole = False
    if not whole:
        shutil.rmtree(folder)
    return whole
