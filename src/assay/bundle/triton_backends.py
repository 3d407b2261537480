"""What Triton's own backends call a file, and how a bundle's options are said to them.

Sources: the README of each backend's repository and Triton's model configuration (docs of 2.51 to 2.60).
None of these backends has a wheel, so what is written here is checked against Triton's protobuf alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.core.engine import OpenOptions

Settings = dict[str, Any]


@dataclass(frozen=True)
class Native:
    """One of Triton's backends.

    ``key`` (backend or platform) and ``value`` name it, ``file`` is the name it looks for; ``settings`` makes
    fields of the model configuration of the bundle's options, and ``lost`` says what of them has no field.
    ``names`` False: inputs are INPUT__0, INPUT__1, ….
    """

    key: str
    value: str
    file: str
    settings: Callable[[OpenOptions], Settings]
    lost: Callable[[OpenOptions], list[str]] = field(default=lambda options: [])
    names: bool = True


def native_for(format: str) -> Native | None:
    """The backend that opens an artifact of this format as it is; None where there is none."""
    return _NATIVE.get(format)


def parameters(values: Mapping[str, object]) -> Settings:
    """Triton's ``parameters``: a map of strings."""
    return {"parameters": {key: {"string_value": str(value)} for key, value in values.items()}} if values else {}


_LEVELS = {"all": 0, "basic": -1, "extended": 1, "disable": 2}
"""``optimization.graph.level`` as the backend's README has it."""


def _onnxruntime(options: OpenOptions) -> Settings:
    given = dict(options.provider_options)
    level = given.pop("graph_optimization_level", None)
    provider = given.pop("provider", None)
    optimization: Settings = {}
    if level is not None:
        optimization["graph"] = {"level": _LEVELS[level]}
    if provider in ("tensorrt", "openvino"):
        side = "gpu_execution_accelerator" if provider == "tensorrt" else "cpu_execution_accelerator"
        accelerator: Settings = {"name": provider}
        if given:
            accelerator["parameters"] = {key: str(value) for key, value in given.items()}
        optimization["execution_accelerators"] = {side: [accelerator]}
    values = {} if options.threads is None else {"intra_op_thread_count": options.threads}
    return {**({"optimization": optimization} if optimization else {}), **parameters(values)}


def _lost_onnxruntime(options: OpenOptions) -> list[str]:
    given = dict(options.provider_options)
    known = {"graph_optimization_level", "provider"}
    if given.get("provider") in ("tensorrt", "openvino"):
        return []
    return [f"{key}={value}" for key, value in given.items() if key not in known]


def _openvino(options: OpenOptions) -> Settings:
    values: dict[str, object] = {}
    if options.device != "cpu":
        values["TARGET_DEVICE"] = options.device.upper().replace(":", ".")
    if options.threads is not None:
        values["INFERENCE_NUM_THREADS"] = options.threads
    if options.streams is not None:
        values["NUM_STREAMS"] = options.streams
    if options.precision == "bf16":
        values["HINT_BF16"] = "YES"
    given = dict(options.provider_options)
    if "PERFORMANCE_HINT" in given:
        values["PERFORMANCE_HINT"] = given["PERFORMANCE_HINT"]
    return parameters(values)


def _lost_openvino(options: OpenOptions) -> list[str]:
    lost = [f"{key}={value}" for key, value in options.provider_options if key != "PERFORMANCE_HINT"]
    if options.precision in ("fp32", "fp16"):
        lost.append(f"precision {options.precision} (OpenVINO computes in bf16 where the processor has it)")
    return lost


def _nothing(options: OpenOptions) -> Settings:
    return {}


def _all_lost(options: OpenOptions) -> list[str]:
    return [f"{key}={value}" for key, value in options.provider_options]


_NATIVE: dict[str, Native] = {
    "onnx": Native("backend", "onnxruntime", "model.onnx", _onnxruntime, _lost_onnxruntime),
    "openvino": Native("backend", "openvino", "model.xml", _openvino, _lost_openvino),
    "tensorrt": Native("backend", "tensorrt", "model.plan", _nothing, _all_lost),
    "torchscript": Native("backend", "pytorch", "model.pt", _nothing, _all_lost, names=False),
    "aoti": Native("platform", "torch_aoti", "model.pt2", _nothing, _all_lost, names=False),
}
