"""What an accelerator does while a load runs: NVIDIA's through NVML, Ascend's through ``npu-smi``.

Nothing is read where nothing can be: then there is the reason.  Readings are taken on a thread of their
own, a few a second, and each costs about a millisecond; a processor alone is never watched so.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from assay.core import clock
from assay.core.record import Figure, withheld
from assay.core.units import Bytes, Seconds
from assay.measure.environment import physical_gpu
from assay.measure.measurement import Measurement

EVERY_S = 0.2
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Reading:
    """One moment of one device; None is what it does not tell.

    ``usage`` is the share of its last sampling period in which it worked (for NVIDIA: in which any kernel ran);
    ``others`` counts other processes that compute on it.
    """

    at_s: Seconds
    usage: float | None = None
    memory_bytes: Bytes | None = None
    clock_hz: float | None = None
    memory_clock_hz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    others: int | None = None


Gauge = Callable[[], Reading]


def gauge_of(device: str) -> Gauge | str:
    """How to read ``device`` (``cuda:0``, ``npu:1``), or the reason why it cannot be read."""
    kind, _, index = device.partition(":")
    number = int(index) if index.isdigit() else 0
    if kind == "cuda":
        return _nvml(number)
    if kind == "npu":
        return _npu_smi(number)
    if kind == "cpu":
        return "it ran on the processor: no accelerator was used"
    return f"nothing here reads the usage of {device}"


def _nvml(index: int) -> Gauge | str:
    try:
        pynvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return "NVML's Python binding is not installed: pip install nvidia-ml-py"
    try:
        pynvml.nvmlInit()
        known_by = physical_gpu(index)
        by_number = isinstance(known_by, int)
        handle = (pynvml.nvmlDeviceGetHandleByIndex if by_number else pynvml.nvmlDeviceGetHandleByUUID)(known_by)
    except pynvml.NVMLError as error:
        return f"NVML cannot read cuda:{index}: {error}"

    def asked(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except pynvml.NVMLError:  # this device does not tell that
            return None

    def read() -> Reading:
        rates = asked(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle))
        memory = asked(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
        sm = asked(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))
        bus = asked(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM))
        milliwatts = asked(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))
        users = asked(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
        return Reading(
            clock.now(),
            usage=None if rates is None else rates.gpu / 100,
            memory_bytes=None if memory is None else int(memory.used),
            clock_hz=None if sm is None else 1e6 * sm,
            memory_clock_hz=None if bus is None else 1e6 * bus,
            temperature_c=asked(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
            power_w=None if milliwatts is None else milliwatts / 1e3,
            others=None if users is None else _others({user.pid for user in users}),
        )

    return read


def _others(pids: Collection[int]) -> int:
    """How many of the processes on the device are not this one, which computes on it while it measures.

    Many drivers know no namespaces and give the host's numbers inside a container, where this process goes by
    another one: some of them are then of no process to be seen here.
    """
    if os.getpid() in pids or all(Path(f"/proc/{pid}").exists() for pid in pids):
        return len([pid for pid in pids if pid != os.getpid()])
    return len(pids) - 1


_NPU_FIELDS = {
    "usage": (r"Aicore Usage Rate\(%\)", 0.01),
    "power_w": (r"(?:Power Dissipation|NPU Real-time Power)\(W\)", 1.0),
    "temperature_c": (r"(?:NPU )?Temperature ?\(C\)", 1.0),
}
_NPU_MEMORY = ("DDR", "HBM")
_MEBIBYTE = 2**20


def _npu_smi(index: int) -> Gauge | str:
    tool = shutil.which("npu-smi")
    if tool is None:
        return "npu-smi is not on the PATH: it comes with the Ascend driver"

    def told(topic: str) -> str:
        command = [tool, "info", "-t", topic, "-i", str(index)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        return done.stdout if done.returncode == 0 else ""

    def read() -> Reading:
        text = "\n".join(told(topic) for topic in ("usages", "power", "temp"))
        values: dict[str, Any] = {n: _npu_value(text, pattern, scale) for n, (pattern, scale) in _NPU_FIELDS.items()}
        return Reading(clock.now(), memory_bytes=_npu_memory(text), **values)

    try:
        if not told("usages"):
            return f"npu-smi tells nothing about npu:{index}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"npu-smi does not answer: {error}"
    return read


def _npu_value(text: str, pattern: str, scale: float) -> float | None:
    """The first line of that name: a card with several chips lists each, and the first is the one used."""
    found = re.search(rf"^\s*{pattern}\s*:\s*([\d.]+)\s*$", text, re.MULTILINE)
    return None if found is None else float(found[1]) * scale


def _npu_memory(text: str) -> Bytes | None:
    for kind in _NPU_MEMORY:
        size = _npu_value(text, rf"{kind} Capacity\(MB\)", _MEBIBYTE)
        share = _npu_value(text, rf"{kind} Usage Rate\(%\)", 0.01)
        if size and share is not None:
            return int(size * share)
    return None


class Watch:
    """Reads a device until the block ends.  ``readings`` is empty, with ``reason``, where it cannot be read."""

    def __init__(self, device: str, gauge: Gauge | str | None = None) -> None:
        found = gauge_of(device) if gauge is None else gauge
        self.reason = found if isinstance(found, str) else None
        self.readings: list[Reading] = []
        self._gauge = None if isinstance(found, str) else found
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self._gauge is not None:
            self._thread = threading.Thread(target=self._watch, name="accelerator-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUT_S * 3)

    def _watch(self) -> None:
        assert self._gauge is not None
        while True:
            over = self._over.wait(EVERY_S)  # so that the last reading lies at the end of the load
            try:
                self.readings.append(self._gauge())
            except Exception as error:  # a binding's own; a thread that dies would print a traceback
                self.reason = f"reading the device failed: {error}"
                return
            if over:
                return

    @property
    def usage(self) -> Figure:
        """The median share of the time in which the device worked, from 0 to 1; withheld with the reason."""
        values = [r.usage for r in self.readings if r.usage is not None]
        if not values:
            return withheld("fraction", self.reason or "the device does not tell its usage")
        return Figure(float(np.median(values)), "fraction", n=len(values))

    def to_json(self) -> dict[str, Any]:
        """First, last and extreme readings, for the environment of a Record; empty without readings."""
        if not self.readings:
            return {}
        first, last = ({k: v for k, v in asdict(r).items() if k != "at_s"} for r in self._ends())
        return {"readings": len(self.readings), "first": first, "last": last, "largest": _largest(self.readings)}

    def beside(self, found: Measurement) -> Measurement:
        """``found`` with what the device did meanwhile; unchanged where it cannot be read."""
        readings = self.to_json()
        if not readings:
            return found
        figures = {**found.figures, "gpu.usage": self.usage}
        details = {**found.details, "accelerator": readings}
        return replace(found, figures=figures, details=details, warnings=(*found.warnings, *self.warnings()))

    def _ends(self) -> tuple[Reading, Reading]:
        return self.readings[0], self.readings[-1]

    def warnings(self) -> list[str]:
        """Another process on the device, or a clock that fell by more than a tenth while the load ran."""
        found = []
        others = max((r.others or 0 for r in self.readings), default=0)
        if others:
            found.append(f"noisy neighbours: {others} other processes compute on the device; stop them, measure again")
        clocks = [r.clock_hz for r in self.readings if r.clock_hz and (r.usage or 0) > 0]
        if clocks and min(clocks) < 0.9 * max(clocks):
            found.append(
                f"the device's clock moved between {min(clocks) / 1e6:.0f} and {max(clocks) / 1e6:.0f} MHz meanwhile; "
                "fix it, or warm up for longer"
            )
        return found


def _largest(readings: Sequence[Reading]) -> dict[str, float]:
    names = ("memory_bytes", "temperature_c", "power_w")
    values = {n: [v for r in readings if (v := getattr(r, n)) is not None] for n in names}
    return {n: max(found) for n, found in values.items() if found}
