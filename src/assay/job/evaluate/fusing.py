"""``--fuse-preprocess``: the model exported, its normalising made part of the graph, and the two compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from assay.core.dataset import Item
from assay.core.errors import AssayError, BadInput
from assay.core.sample import Sample, stack
from assay.core.tensors import Array, is_float
from assay.data import preparer
from assay.data.image import ImageTransform
from assay.data.image_bytes import ImageBytesTransform
from assay.graph.external_data import save_model
from assay.graph.fuse_normalise import Normalise, fuse_normalise
from assay.graph.signature import load_model, read_signature
from assay.graph.simplify import TOLERANCE
from assay.job.context import Data
from assay.job.opening import OnnxRunner
from assay.job.packed import bundle_folder
from assay.job.single import Prepared, Wanted, as_written, prepare
from assay.sources import SourceOptions

SAMPLES = 8


@dataclass(frozen=True)
class Fused:
    """``error`` is the largest relative root-mean-square difference of an output, on ``samples`` pictures."""

    ready: Prepared
    samples: int
    error: float

    @property
    def note(self) -> str:
        how = "equal bit for bit" if self.error == 0 else f"equal within {self.error:.1e} (allowed {TOLERANCE:.0e})"
        return f"fused: the model takes bytes and normalises them itself; outputs of {self.samples} pictures are {how}"


def exported(wanted: Wanted, source: SourceOptions) -> Prepared:
    """The MODEL as an ONNX file, in the precision it is written in; a bundle as it was proved."""
    opened = wanted.opened if bundle_folder(wanted.spec) else as_written(wanted.spec)
    return prepare(Wanted(wanted.spec, "onnxruntime", opened, wanted.export), source)


def fuse(plain: Prepared, data: Data, wanted: Wanted, source: SourceOptions) -> Fused:
    """``plain`` is an exported model and ``data`` what goes into it.

    Raises BadInput for data that are not pictures and for a graph that does not take them, AssayError where the fused
    graph computes something else.
    """
    transform = data.transform
    if not isinstance(transform, ImageTransform) or data.reader is None:
        kind = "none" if transform is None else transform.to_json().get("kind")
        raise BadInput(
            f"--fuse-preprocess is about pictures that are normalised; the preprocessing here is {kind!r}",
            remedy="leave --fuse-preprocess out",
        )
    settings = transform.settings
    model = load_model(plain.candidate.artifact.path, external_data=True)
    own = replace(source, out_dir=source.out_dir / "fused", weights=None, arch=None, md5=None, sha256=None)
    own.out_dir.mkdir(parents=True, exist_ok=True)
    path = own.out_dir / "fused.onnx"
    save_model(fuse_normalise(model, Normalise(settings.mean, settings.std)), path)
    items = list(data.reader.items(0, min(SAMPLES, len(data.reader))))
    error = _compared(plain, path, items, transform)
    opened = replace(wanted.opened, base=plain.candidate.options)
    ready = prepare(replace(wanted, spec=str(path), engine=wanted.engine or "onnxruntime", opened=opened), own)
    described = dict(ImageBytesTransform(transform).to_json())
    ready = replace(ready, model=replace(plain.model, preprocess=described))
    return Fused(ready, len(items), error)


def _compared(plain: Prepared, path: Any, items: Sequence[Item], transform: ImageTransform) -> float:
    runner = OnnxRunner()
    try:
        before = _outputs(runner, plain.candidate.artifact.path, items, transform)
        after = _outputs(runner, path, items, ImageBytesTransform(transform))
    finally:
        runner.close()
    worst = 0.0
    for name, expected in before.items():
        if not is_float(str(expected.dtype)):
            continue
        worst = max(worst, _relative(expected, after[name]))
        if not worst <= TOLERANCE:
            raise AssayError(
                f"with the normalising in the graph, output {name!r} differs by {worst:.1e} of its size (allowed "
                f"{TOLERANCE:.0e})",
                remedy="leave --fuse-preprocess out",
            )
    return worst


def _relative(expected: Array, found: Array) -> float:
    a, b = expected.astype(np.float64), found.astype(np.float64)
    size = float(np.sqrt(np.mean(a * a)))
    error = float(np.sqrt(np.mean((a - b) ** 2)))
    return error / size if size else error


def _outputs(runner: OnnxRunner, path: Any, items: Sequence[Item], transform: Any) -> dict[str, Array]:
    signature = read_signature(path)
    made = preparer(transform, signature.inputs)
    rows = signature.static_batch or 1
    found: dict[str, list[Array]] = {}
    for item in items:
        outputs = runner(path, stack([Sample(item.id, made(item, None))] * rows, signature))
        for name, array in outputs.items():
            found.setdefault(name, []).append(array)
    return {name: np.stack(arrays) for name, arrays in found.items()}
