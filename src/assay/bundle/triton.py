"""A Triton model repository from a bundle: ``NAME/config.pbtxt`` and ``NAME/1/`` with what its backend opens.

Two kinds: Triton's own backend for the bundle's file, and its Python backend with a ``model.py`` that opens
the bundle with the same library and settings, and can decode pictures as the bundle says.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assay.bundle import triton_config as config
from assay.bundle.contents import Bundle, read_bundle
from assay.bundle.goldens import read_goldens
from assay.bundle.layouts import Laid, LayoutOptions, Trust, refuse_inside
from assay.bundle.manifest import manifest_digest
from assay.bundle.triton_backends import Native, native_for, parameters
from assay.core.errors import BadInput, NotAvailable, StorageFailed
from assay.core.tensors import Array, Signature

DEFAULT_BATCH = 8
PYTHON_FORMATS = ("onnx", "openvino", "torchscript")
_WARMUP = "warmup"


def write_repository(folder: Path, out_dir: Path, options: LayoutOptions, trust: Trust | None = None) -> Laid:
    """Write ``out_dir``/NAME from the bundle at ``folder``; ``out_dir`` is the model repository, which may exist.

    A default ``max_batch`` is the bundle's largest bucket, else 8; of ``instances`` as many as it was measured with.

    Raises BadInput for options that do not fit the bundle, NotAvailable where Triton cannot serve its file,
    UntrustedCode where what the repository would hold takes trust and there is none (what a backend has no setting
    for is left out and takes none), StorageFailed where it cannot be written.
    """
    bundle = read_bundle(folder)
    name = config.check_name(options.name or bundle.model)
    if options.backend not in ("native", "python"):
        raise BadInput(f"a Triton backend is native or python, not {options.backend!r}", remedy="--backend python")
    if bundle.artifact is None:
        how = (bundle.recipe or {}).get("command")
        raise NotAvailable(f"{folder} holds no engine file, only the recipe to build one", remedy=how)
    target = out_dir / name
    if target.exists():
        raise BadInput(f"{target} exists already", remedy="give another -o or --name")
    refuse_inside(folder, target)
    lay = _native if options.backend == "native" else _python
    try:
        laid = lay(bundle, replace(options, name=name), target, trust or Trust())
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, OSError):
            raise StorageFailed(f"cannot write {target}: {error.strerror or error}") from error
        raise
    return laid


def _native(bundle: Bundle, options: LayoutOptions, target: Path, trust: Trust) -> Laid:
    assert bundle.artifact is not None
    backend = native_for(bundle.artifact.format)
    if backend is None:
        raise NotAvailable(
            f"Triton has no backend that opens a file of the format {bundle.artifact.format}",
            remedy="assay serve serves this bundle",
        )
    if options.pictures:
        raise BadInput("only the Python backend decodes pictures", remedy="--backend python --pictures")
    trust.refuse(_carried(bundle, backend), _asked(bundle))
    version = target / "1"
    _copy_model(bundle, backend, version)
    signature = _named(bundle.signature, backend)
    message = {backend.key: backend.value, **_common(bundle, signature, options)}
    message |= backend.settings(bundle.candidate.options)
    message |= _warmup(bundle, options, target, [s.name for s in signature.inputs])
    lost = backend.lost(bundle.candidate.options)
    notes = [f"Triton's {backend.value} backend has no setting for: {', '.join(lost)}"] if lost else []
    if not backend.names:
        pairs = zip(
            bundle.signature.inputs + bundle.signature.outputs, signature.inputs + signature.outputs, strict=True
        )
        renamed = ", ".join(f"{a.name} is {b.name}" for a, b in pairs if a.name != b.name)
        notes.append(f"Triton's {backend.value} backend knows tensors by position: {renamed}")
    return _finish(bundle, options, target, message, notes)


def _python(bundle: Bundle, options: LayoutOptions, target: Path, trust: Trust) -> Laid:
    assert bundle.artifact is not None
    _refuse_python(bundle, options)
    trust.refuse(bundle, _asked(bundle))
    version = target / "1"
    version.mkdir(parents=True)
    shutil.copytree(bundle.folder, version / "bundle")
    here = Path(__file__).parent
    shutil.copyfile(here / "triton_model.py", version / "model.py")
    message = {"backend": "python", **_common(bundle, bundle.signature, options)}
    if options.pictures:
        shutil.copyfile(here / "triton_images.py", version / "assay_images.py")
        message["input"] = [config.pictures(bundle.signature.inputs[0].name)]
        message |= parameters({"pictures": "yes"})
    message |= _warmup(bundle, options, target, [s.name for s in bundle.signature.inputs])
    notes = [f"Triton's Python needs {', '.join(_needs(bundle, options))}"]
    return _finish(bundle, options, target, message, notes)


def _asked(bundle: Bundle) -> str:
    return f"{bundle.folder}, laid out for Triton,"


def _carried(bundle: Bundle, backend: Native) -> Bundle:
    """The bundle with those of its provider options alone that the repository would hold."""
    options = bundle.candidate.options
    lost = backend.lost(options)
    kept = tuple((key, value) for key, value in options.provider_options if f"{key}={value}" not in lost)
    return replace(bundle, candidate=replace(bundle.candidate, options=replace(options, provider_options=kept)))


def _refuse_python(bundle: Bundle, options: LayoutOptions) -> None:
    assert bundle.artifact is not None
    if bundle.artifact.format not in PYTHON_FORMATS:
        raise NotAvailable(
            f"the Python variant opens {', '.join(PYTHON_FORMATS)}, not {bundle.artifact.format}",
            remedy="--backend native",
        )
    provider = dict(bundle.candidate.options.provider_options).get("provider")
    if bundle.artifact.format == "onnx" and provider not in (None, "cpu", "cuda"):
        raise NotAvailable(f"the Python variant has no {provider} inside ONNX Runtime", remedy="--backend native")
    odd = [s.name for s in (*bundle.signature.inputs, *bundle.signature.outputs) if s.dtype == "bfloat16"]
    if odd:
        raise NotAvailable(f"Triton's Python backend has no bfloat16 arrays, which {odd[0]!r} needs")
    if bundle.artifact.format == "torchscript" and bundle.candidate.options.precision != "fp32":
        raise NotAvailable("the Python variant runs TorchScript in fp32 only")
    if options.pictures and (bundle.preprocess or {}).get("kind") not in ("image", "pixels"):
        raise BadInput(
            "this bundle does not say how pictures become inputs",
            remedy="leave --pictures away, or run it again with --data",
        )
    if options.pictures and len(bundle.signature.inputs) != 1:
        raise BadInput("--pictures is for models with one input")


def _needs(bundle: Bundle, options: LayoutOptions) -> list[str]:
    candidate = bundle.candidate
    library = "torch" if candidate.artifact.format == "torchscript" else candidate.engine
    return ["numpy", f"{library}=={candidate.engine_version.partition('-')[0]}"] + (
        ["pillow"] if options.pictures else []
    )


def _common(bundle: Bundle, signature: Signature, options: LayoutOptions) -> dict[str, Any]:
    batched = config.batches(signature)
    most = _max_batch(bundle, options) if batched else 0
    if options.max_batch is not None and options.max_batch > 1 and not batched:
        raise BadInput(f"this model's batch is not free, so Triton cannot merge requests ({signature})")
    outputs = [config.tensor(spec, spec.name, batched=batched) for spec in signature.outputs]
    labels = bundle.labels
    if labels is not None:
        for spec, described in zip(signature.outputs, outputs, strict=True):
            if spec.shape and spec.shape[-1] == len(labels):
                described["label_filename"] = "labels.txt"
    return {
        "max_batch_size": most,
        "input": [config.tensor(spec, spec.name, batched=batched) for spec in signature.inputs],
        "output": outputs,
        "instance_group": config.instances(
            bundle.candidate.options.device, options.instances or bundle.candidate.options.instances
        ),
        **config.batching(most, options.delay_us),
    }


def _max_batch(bundle: Bundle, options: LayoutOptions) -> int:
    if options.max_batch is not None:
        return options.max_batch
    return max(bundle.candidate.options.buckets, default=DEFAULT_BATCH)


def _named(signature: Signature, backend: Native) -> Signature:
    if backend.names:
        return signature
    return Signature(
        tuple(replace(s, name=f"INPUT__{i}") for i, s in enumerate(signature.inputs)),
        tuple(replace(s, name=f"OUTPUT__{i}") for i, s in enumerate(signature.outputs)),
    )


def _copy_model(bundle: Bundle, backend: Native, version: Path) -> None:
    """The engine file under the backend's name, what belongs to it at the same places beside it."""
    assert bundle.artifact is not None
    root = bundle.artifact.path.parent
    version.mkdir(parents=True)
    shutil.copyfile(bundle.artifact.path, version / backend.file)
    for path in bundle.artifact.companions:
        relative = path.relative_to(root)
        if path.stem == bundle.artifact.path.stem and backend.file.endswith(".xml"):
            relative = relative.with_name(Path(backend.file).stem + path.suffix)
        (version / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, version / relative)


def _warmup(bundle: Bundle, options: LayoutOptions, target: Path, names: list[str]) -> dict[str, Any]:
    """One golden input's first row, as raw files: real ids, not random ones that an embedding has no row for."""
    batched = config.batches(bundle.signature)
    feed = read_goldens(bundle.folder, bundle.signature).pairs[0][0]
    folder = target / _WARMUP
    folder.mkdir()
    rows = []
    for index, (spec, name) in enumerate(zip(bundle.signature.inputs, names, strict=True)):
        array = np.asarray(feed[spec.name][:1] if batched else feed[spec.name], order="C")
        type, dims, content = config.TYPES[spec.dtype], list(array.shape[1:] if batched else array.shape), _raw(array)
        if options.pictures:
            type, dims, content = "TYPE_STRING", [1], _bytes_element(_tiny_png())
        (folder / f"input{index}").write_bytes(content)
        entry = {"data_type": config.Name(type), "dims": dims or [1], "input_data_file": f"input{index}"}
        rows.append((name, entry))
    most = _max_batch(bundle, options)
    return {"model_warmup": config.warmup(rows, sorted({1, most}) if batched and most > 1 else [1])}


def _raw(array: Array) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    return b"".join(_bytes_element(bytes(one)) for one in array.ravel())


def _bytes_element(content: bytes) -> bytes:
    """The protocol's BYTES element: its length in 4 bytes, little-endian, then itself."""
    return struct.pack("<I", len(content)) + content


def _tiny_png(edge: int = 32) -> bytes:
    """A grey picture of edge × edge pixels (PNG specification: signature, IHDR, IDAT, IEND)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", edge, edge, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([128]) * edge) * edge)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _finish(bundle: Bundle, options: LayoutOptions, target: Path, message: Mapping[str, Any], notes: list[str]) -> Laid:
    if bundle.labels is not None:
        text = "".join(f"{' '.join(label.split())}\n" for label in bundle.labels)
        (target / "labels.txt").write_text(text, encoding="utf-8")
    head = [
        f"Written by assay pack --layout triton from the bundle {manifest_digest(bundle.folder)}:",
        f"{bundle.model}, {bundle.candidate.label}, version {bundle.candidate.engine_version}.",
        *notes,
    ]
    comment = "".join(f"# {' '.join(line.split())}\n" for line in head)
    text = comment + config.text_format({"name": options.name, **message})
    (target / "config.pbtxt").write_text(text, encoding="utf-8")
    return Laid(target, tuple(notes))
