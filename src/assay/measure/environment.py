"""What a measurement depends on besides the model: processor, cores granted, versions, variables.

Nothing here names the machine, its user or a path.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

from assay.core.control_group import cgroup_memory, cgroup_quota
from assay.core.units import Bytes

LIBRARIES = (
    "assay",
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "nncf",
    "onnxslim",
    "onnxscript",
    "numpy",
    "ml_dtypes",
    "scikit-learn",
)
VARIABLES = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "OMP_DYNAMIC",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "GOMP_CPU_AFFINITY",
    "GOMP_SPINCOUNT",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "CUDA_VISIBLE_DEVICES",
    "MALLOC_ARENA_MAX",
    "MALLOC_CONF",
)
THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
CPU_FLAGS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "bf16",
    "i8mm",
)
ROOT = Path("/")


def environment() -> dict[str, Any]:
    """What stays the same while a run lasts; ``moment`` gives what does not."""
    flags = _cpu_flags()
    return {
        "cpu": cpu_model(),
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "cores_logical": os.cpu_count() or 1,
        "cores_affinity": affinity_cores(),
        "cores_quota": cgroup_quota(),
        "cores_granted": cores_granted(),
        "governor": _line(ROOT / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_bytes": memory_total(),
        "memory_limit_bytes": cgroup_memory(),
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "gpu_driver": gpu_driver(),
        "versions": library_versions(),
        "thread_env": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def moment() -> dict[str, Any]:
    """What changes from minute to minute: the load averages over 1, 5 and 15 minutes."""
    try:
        return {"load_average": [round(x, 2) for x in os.getloadavg()]}
    except (OSError, AttributeError):  # Windows has no load average
        return {"load_average": None}


def device_name(device: str) -> str:
    """The name a device goes by, such as the processor's model; the device itself where none can be read."""
    kind, _, index = device.partition(":")
    if kind == "cpu":
        return cpu_model()
    if kind in ("cuda", "gpu"):
        return _gpu_name(physical_gpu(int(index) if index.isdigit() else 0)) or device
    return device


def gpu_driver() -> str | None:
    """The version of NVIDIA's kernel driver, as it says itself; None where there is none."""
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)", _text(ROOT / "proc/driver/nvidia/version"))
    return found[1] if found else None


def physical_gpu(index: int) -> int | str:
    """What the driver knows CUDA's ``index``-th device by: its number, or the UUID ``CUDA_VISIBLE_DEVICES`` gives."""
    shown = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    if index >= len(shown):
        return index
    return int(shown[index]) if shown[index].isdigit() else shown[index]


def cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", _text(ROOT / "proc/cpuinfo"), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def affinity_cores() -> int:
    """Logical cores this process may be scheduled on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores_granted() -> float:
    """Cores this process can really use: its affinity, cut by the control group's quota."""
    quota = cgroup_quota()
    return float(affinity_cores()) if quota is None else min(float(affinity_cores()), quota)


def memory_total() -> Bytes | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB$", _text(ROOT / "proc/meminfo"), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def library_versions() -> dict[str, str]:
    """Versions of what is installed, without importing it."""
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def thread_warnings(parallelism: int) -> list[str]:
    """Advice where more threads are asked for than cores are granted; nobody can do with less than one."""
    granted = max(1.0, cores_granted())
    found = []
    if parallelism > granted:
        found.append(
            f"oversubscribed: {parallelism} calls at a time on {granted:g} cores; use fewer streams, instances or "
            "client threads"
        )
    for name in THREAD_COUNTS:
        value = os.environ.get(name, "").split(",")[0].strip()
        if value.isdigit() and int(value) > granted:
            found.append(f"oversubscribed: {name}={value} on {granted:g} cores; set it to {int(granted)}")
    return found


def _gpu_name(wanted: int | str) -> str | None:
    """An NVIDIA device by its place in the order of bus ids, or by its UUID or the beginning of it."""
    for place, folder in enumerate(sorted((ROOT / "proc/driver/nvidia/gpus").glob("*"))):
        text = _text(folder / "information")
        uuid = re.search(r"^GPU UUID:\s*(\S+)", text, re.MULTILINE)
        if wanted == place or (isinstance(wanted, str) and uuid is not None and uuid[1].startswith(wanted)):
            model = re.search(r"^Model:\s*(.+)$", text, re.MULTILINE)
            return model[1].strip() if model else folder.name
    return None


def _cpu_flags() -> set[str]:
    found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", _text(ROOT / "proc/cpuinfo"), re.MULTILINE)
    return set(found[1].split()) if found else set()


def _line(path: Path) -> str | None:
    return _text(path).strip() or None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
