"""``assay doctor``: what is installed, what is missing, and the classic traps."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata, util
from typing import Any

from assay.engines import ENGINES
from assay.job.opening import engine, hardware_status
from assay.measure.environment import environment


@dataclass(frozen=True)
class Finding:
    """``state`` is ``ok``, ``missing`` (optional, with how to install it), ``note`` or ``trap`` (fix this)."""

    part: str
    state: str
    text: str
    remedy: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


OPTIONAL = (
    # distribution, import name, what it is for, extra
    ("torch", "torch", "PyTorch models, the reference, export", "torch"),
    ("onnxscript", "onnxscript", "the dynamo exporter", "torch"),
    ("onnxslim", "onnxslim", "graph simplification", "torch"),
    ("safetensors", "safetensors", ".safetensors weights", "torch"),
    ("timm", "timm", "timm: models", "timm"),
    ("torchvision", "torchvision", "torchvision: models", "timm"),
    ("openvino", "openvino", "the openvino engine", "openvino"),
    ("nncf", "nncf", "int8", "quantize"),
    ("pillow", "PIL", "reading images", "data"),
    ("scikit-learn", "sklearn", "the digits data set", "data"),
    ("simplejpeg", "simplejpeg", "reading JPEGs fast", "data"),
    ("pyarrow", "pyarrow", "parquet: data", "data"),
    ("nibabel", "nibabel", "NIfTI volumes", "data"),
    ("uvloop", "uvloop", "serving with less overhead", "serve"),
    ("httptools", "httptools", "serving REST", "serve"),
    ("hpack", "hpack", "serving gRPC", "grpc"),
    ("tritonclient", "tritonclient", "grpc: models on a running server", "grpc"),
    ("ray", "ray", "many machines", "ray"),
    ("mlcommons-loadgen", "mlperf_loadgen", "assay bench --loadgen", "loadgen"),
    ("nvidia-ml-py", "pynvml", "usage and clocks of NVIDIA GPUs", "nvidia"),
)
ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-cann")


def examine() -> list[Finding]:
    """Every check; one that fails itself is a finding, not a traceback."""
    found: list[Finding] = []
    for check in (_machine, _packages, _engines, _opsets, _onnxruntimes, _torchvision, _cuda, _threads):
        found += _guarded(check)
    return found


def _guarded(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        for finding in check():
            found.append(finding)  # one by one: what was found before a check fails is kept
    except Exception as error:
        part = check.__name__.strip("_")
        found.append(Finding(part, "note", f"could not be examined: {type(error).__name__}: {error}"))
    return found


def version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _machine() -> Iterator[Finding]:
    here = environment()
    flags = ", ".join(here.get("cpu_flags") or ()) or "none of AVX-512 BF16, AMX"
    yield Finding("machine", "ok", f"{here.get('cpu')}, {here.get('cores_granted')} cores granted, {flags}")


def _packages() -> Iterator[Finding]:
    for distribution, module, purpose, extra in OPTIONAL:
        have = version(distribution)
        if have is None or util.find_spec(module) is None:
            yield Finding(distribution, "missing", f"not installed; for {purpose}", f"pip install 'assay[{extra}]'")
        else:
            yield Finding(distribution, "ok", f"{have}, for {purpose}")


def _engines() -> Iterator[Finding]:
    for name in ENGINES:
        found = engine(name)
        works = [p for p in found.precisions if found.unavailable("cpu", p) is None]
        if works:
            status = hardware_status(found, "cpu")
            yield Finding(f"engine {name}", "ok", status or f"works here in {', '.join(works)}")
        else:
            why = found.unavailable("cpu", found.precisions[0]) or "unavailable"
            yield Finding(f"engine {name}", "missing", why)


def _opsets() -> Iterator[Finding]:
    """The highest opset each part reads or writes."""
    import onnx

    yield Finding("opset onnx", "ok", f"onnx {onnx.__version__} knows opsets up to {onnx.defs.onnx_opset_version()}")
    if util.find_spec("onnxruntime") is not None:
        highest = _highest_onnxruntime_opset()
        yield Finding("opset onnxruntime", "ok", f"onnxruntime {version('onnxruntime')} runs opsets up to {highest}")
    if version("torch"):
        from assay.export.options import DYNAMO_MIN_OPSET, MAX_OPSET, MIN_OPSET, TORCHSCRIPT_MAX_OPSET

        yield Finding("opset dynamo", "ok", f"the dynamo exporter writes opsets {DYNAMO_MIN_OPSET} to {MAX_OPSET}")
        text = f"the torchscript exporter writes opsets {MIN_OPSET} to {TORCHSCRIPT_MAX_OPSET}"
        yield Finding("opset torchscript", "ok", text)


def _highest_onnxruntime_opset() -> int | None:
    """Tried, not looked up: the newest opset at which a one-node graph opens."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
    )
    for opset in range(onnx.defs.onnx_opset_version(), 6, -1):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception:  # noqa: S112 - not read at this opset: the question being asked
            continue
        return opset
    return None


def _onnxruntimes() -> Iterator[Finding]:
    have = [name for name in ONNXRUNTIMES if version(name)]
    if len(have) > 1:
        yield Finding(
            "onnxruntime",
            "trap",
            f"{' and '.join(have)} are installed together; they overwrite each other's files",
            f"pip uninstall -y {' '.join(have)} && pip install {have[-1]}",
        )
        return
    if util.find_spec("onnxruntime") is None:
        return  # the engine's own line says how to install it
    import onnxruntime

    providers = ", ".join(onnxruntime.get_available_providers())
    yield Finding("onnxruntime", "ok", f"{version(have[0]) if have else 'unknown'}, providers compiled in: {providers}")


def _torchvision() -> Iterator[Finding]:
    """torchvision built for CUDA beside a CPU-only torch: its import dies unless it is prepared."""
    have, beside = version("torchvision"), version("torch")
    if have is None or beside is None:
        return
    from assay.sources.torchvision_ops import make_importable

    if make_importable():
        yield Finding(
            "torchvision", "note", f"{have} is built for CUDA and torch {beside} is not; assay works around it"
        )


def _cuda() -> Iterator[Finding]:
    if version("torch") is None:
        return
    torch = importlib.import_module("torch")
    if torch.version.cuda is None:
        yield Finding(
            "CUDA", "note", f"torch {torch.__version__} is built without CUDA: devices cuda:N are not available"
        )
        return
    if not torch.cuda.is_available():
        yield Finding(
            "CUDA",
            "trap",
            f"torch is built for CUDA {torch.version.cuda} but finds no usable GPU or driver",
            "check nvidia-smi, or install a CPU build of torch",
        )
        return
    yield Finding(
        "CUDA",
        "ok",
        f"torch: CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {torch.cuda.get_device_name(0)}",
    )
    if util.find_spec("onnxruntime") is None:
        return
    import onnxruntime

    wanted = getattr(onnxruntime, "cuda_version", None)
    if wanted and wanted.split(".")[0] != torch.version.cuda.split(".")[0]:
        yield Finding(
            "CUDA",
            "trap",
            f"onnxruntime is built for CUDA {wanted}, torch for CUDA {torch.version.cuda}",
            "install builds for the same major version of CUDA",
        )


def _threads() -> Iterator[Finding]:
    here = environment()
    granted, logical = here.get("cores_granted"), here.get("cores_logical")
    if granted and logical and granted < logical:
        yield Finding(
            "cores",
            "note",
            f"{granted} of {logical} cores are granted; libraries that count all of them oversubscribe",
            f"assay run … --threads {max(1, int(granted))}",
        )
