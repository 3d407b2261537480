"""The few calls of the CUDA runtime an engine needs, through ctypes: no Python package of CUDA's is required."""

from __future__ import annotations

import ctypes
import ctypes.util
import sysconfig
from pathlib import Path
from typing import Any

from assay.core.errors import EngineFailed, NotAvailable
from assay.core.tensors import Array
from assay.core.units import Bytes, Seconds

_TO_DEVICE, _TO_HOST = 1, 2
_THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


class CudaRuntime:
    """One device.  Addresses are plain integers; every call raises EngineFailed with CUDA's own words."""

    def __init__(self, index: int = 0) -> None:
        self._runtime, self._driver = _runtime(), _driver()
        self.index = index
        self._check(self._runtime.cudaSetDevice(index), f"use device {index}")

    @staticmethod
    def device_count() -> int:
        """0 where there is no driver or no device."""
        try:
            runtime = _runtime()
        except NotAvailable:
            return 0
        count = ctypes.c_int(0)
        return count.value if runtime.cudaGetDeviceCount(ctypes.byref(count)) == 0 else 0

    def name(self) -> str:
        """Such as ``NVIDIA H200 sm_90``: what a plan is tied to."""
        text = ctypes.create_string_buffer(128)
        self._driver.cuInit(0)
        self._driver.cuDeviceGetName(text, len(text), self.index)
        parts = []
        for attribute in (_MAJOR, _MINOR):
            value = ctypes.c_int(0)
            self._driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, self.index)
            parts.append(str(value.value))
        return f"{text.value.decode()} sm_{''.join(parts)}"

    def activate(self) -> None:
        """The device in use is a setting of the thread."""
        self._check(self._runtime.cudaSetDevice(self.index), "choose the device")

    def malloc(self, size_bytes: Bytes) -> int:
        address = ctypes.c_void_p()
        self._check(self._runtime.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(max(size_bytes, 1))), "allocate")
        return int(address.value or 0)

    def free(self, address: int) -> None:
        self._runtime.cudaFree(ctypes.c_void_p(address))

    def stream(self) -> int:
        handle = ctypes.c_void_p()
        self._check(self._runtime.cudaStreamCreate(ctypes.byref(handle)), "create a stream")
        return int(handle.value or 0)

    def destroy_stream(self, stream: int) -> None:
        self._runtime.cudaStreamDestroy(ctypes.c_void_p(stream))

    def synchronise(self, stream: int) -> None:
        self._check(self._runtime.cudaStreamSynchronize(ctypes.c_void_p(stream)), "wait for the stream")

    def to_device(self, address: int, array: Array, stream: int) -> None:
        """``array`` must be contiguous and stay unchanged until the stream has been waited for."""
        self._copy(address, array.ctypes.data, array.nbytes, _TO_DEVICE, stream)

    def to_host(self, array: Array, address: int, stream: int) -> None:
        self._copy(array.ctypes.data, address, array.nbytes, _TO_HOST, stream)

    def event(self) -> int:
        handle = ctypes.c_void_p()
        self._check(self._runtime.cudaEventCreate(ctypes.byref(handle)), "create an event")
        return int(handle.value or 0)

    def record(self, event: int, stream: int) -> None:
        self._check(self._runtime.cudaEventRecord(ctypes.c_void_p(event), ctypes.c_void_p(stream)), "record an event")

    def destroy_event(self, event: int) -> None:
        self._runtime.cudaEventDestroy(ctypes.c_void_p(event))

    def elapsed(self, start: int, stop: int) -> Seconds:
        """Between two recorded events whose stream was waited for; CUDA gives milliseconds."""
        value = ctypes.c_float(0)
        called = self._runtime.cudaEventElapsedTime(ctypes.byref(value), ctypes.c_void_p(start), ctypes.c_void_p(stop))
        self._check(called, "read an event")
        return value.value / 1e3

    def begin_capture(self, stream: int) -> None:
        """What is put on ``stream`` from here on by this thread is recorded and not run."""
        called = self._runtime.cudaStreamBeginCapture(ctypes.c_void_p(stream), ctypes.c_int(_THREAD_LOCAL))
        self._check(called, "begin recording a graph")

    def end_capture(self, stream: int) -> int:
        """The recorded work as a graph that can be launched."""
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        ended = self._runtime.cudaStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
        self._check(ended, "record a graph")
        made = self._runtime.cudaGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        self._runtime.cudaGraphDestroy(graph)
        self._check(made, "make a graph of what was recorded")
        return int(executable.value or 0)

    def launch(self, graph: int, stream: int) -> None:
        self._check(self._runtime.cudaGraphLaunch(ctypes.c_void_p(graph), ctypes.c_void_p(stream)), "launch a graph")

    def destroy_graph(self, graph: int) -> None:
        self._runtime.cudaGraphExecDestroy(ctypes.c_void_p(graph))

    def _copy(self, target: int, source: int, size_bytes: Bytes, kind: int, stream: int) -> None:
        called = self._runtime.cudaMemcpyAsync(
            ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(size_bytes), kind, ctypes.c_void_p(stream)
        )
        self._check(called, "copy")

    def _check(self, code: int, what: str) -> None:
        if code:
            self._runtime.cudaGetErrorString.restype = ctypes.c_char_p
            raise EngineFailed(f"CUDA could not {what}: {self._runtime.cudaGetErrorString(code).decode()}")


def _runtime() -> Any:
    """libcudart: the system's, or the one that came with a pip package of NVIDIA's."""
    packages = Path(sysconfig.get_paths()["purelib"], "nvidia")
    shipped = sorted(str(path) for path in packages.glob("*/lib/libcudart.so.*"))
    for name in ("libcudart.so", "libcudart.so.13", "libcudart.so.12", *shipped, ctypes.util.find_library("cudart")):
        try:
            if name:
                return ctypes.CDLL(name)
        except OSError:
            continue
    raise NotAvailable("the CUDA runtime (libcudart) is not here", remedy="pip install nvidia-cuda-runtime-cu12")


def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise NotAvailable("there is no NVIDIA driver here (libcuda.so.1)") from None
