"""What can be asked of ONNX Runtime: providers by name, and settings that must not contradict the precision."""

from __future__ import annotations

from assay.core.engine import OpenOptions
from assay.core.errors import BadInput, NotAvailable, UnknownName
from assay.engines.base import parse_device

INSTALL = "pip install onnxruntime"
INSTALL_CUDA = "pip uninstall onnxruntime && pip install onnxruntime-gpu"
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "npu": "CANNExecutionProvider"}
_NAMED = {  # provider and the kinds of device it runs on
    "cpu": ("CPUExecutionProvider", ("cpu",)),
    "cuda": ("CUDAExecutionProvider", ("cuda",)),
    "tensorrt": ("TensorrtExecutionProvider", ("cuda",)),
    "openvino": ("OpenVINOExecutionProvider", ("cpu", "gpu", "npu")),
    "cann": ("CANNExecutionProvider", ("npu",)),
}
HOW = {"npu": "pip install onnxruntime-cann"}
LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
FAST_MATH = "mlas.enable_gemm_fastmath_arm64_bfloat16"
SPINNING = "session.intra_op.allow_spinning"
GRAPHS = "enable_cuda_graph"
MEMORY = {"cpu": "cpu", "cuda": "cuda", "npu": "cann"}
_BY_PRECISION = ("use_tf32", FAST_MATH)


def binds(options: OpenOptions) -> bool:
    """Whether inputs and outputs are bound to the device: as asked, else on cuda, where copies cost most."""
    return asked(options, "io_binding", "1" if parse_device(options.device).kind == "cuda" else "0")


def asked(options: OpenOptions, name: str, default: str = "0") -> bool:
    return dict(options.provider_options).get(name, default) == "1"


def provider_of(options: OpenOptions) -> str:
    """The execution provider: the option ``provider`` names it, else it follows from the device.

    Raises BadInput for a name that is not one or not for this device, NotAvailable where this build has it not.
    """
    import onnxruntime

    kind = parse_device(options.device).kind
    name = dict(options.provider_options).get("provider")
    if name is None:
        return PROVIDERS[kind]
    if name not in _NAMED:
        raise UnknownName("provider", name, _NAMED)
    provider, kinds = _NAMED[name]
    if kind not in kinds:
        raise BadInput(f"the provider {name} runs on {', '.join(kinds)}, not on {options.device}")
    if provider not in onnxruntime.get_available_providers():
        found = ", ".join(onnxruntime.get_available_providers())
        raise NotAvailable(f"this onnxruntime has no {provider}, only {found}", remedy=_INSTALLS.get(name))
    return provider


_INSTALLS = {
    "cuda": INSTALL_CUDA,
    "tensorrt": INSTALL_CUDA,
    "openvino": "pip uninstall onnxruntime && pip install onnxruntime-openvino",
    "cann": HOW["npu"],
}


def check_provider_options(options: OpenOptions) -> None:
    """The library ignores what it does not know; here that is an error."""
    cpu = provider_of(options) == "CPUExecutionProvider"
    for key, value in options.provider_options:
        if key == "provider":
            continue
        if key in _BY_PRECISION:
            raise BadInput(f"{key} follows from the precision", remedy=f"drop it; {options.precision} sets it")
        if key == "graph_optimization_level":
            if value not in LEVELS:
                raise BadInput(f"{key} is {value!r}", remedy=f"one of {', '.join(LEVELS)}")
        elif key == "io_binding":
            if value not in ("0", "1"):
                raise BadInput(f"io_binding is {value!r}", remedy="io_binding=1 or io_binding=0")
            if value == "0" and asked(options, GRAPHS):
                raise BadInput("a CUDA graph needs its inputs and outputs bound", remedy="leave io_binding=0 out")
        elif "." not in key and cpu:
            raise BadInput(f"onnxruntime's CPU provider has no option {key!r}")
