"""Reading an accelerator: against stand-ins, a module in NVML's place and a program in npu-smi's."""

import os
import sys
import threading
import types

import numpy as np
import pytest

from assay.measure.accelerator import Reading, Watch, gauge_of
from assay.measure.measurement import Measurement

USAGES = """
	NPU ID                         : 1
	Chip Count                     : 1

	DDR Capacity(MB)               : 21527
	DDR Usage Rate(%)              : 10
	DDR Hugepages Usage Rate(%)    : 0
	Aicore Usage Rate(%)           : 87
	Aicpu Usage Rate(%)            : 3
	Ctrlcpu Usage Rate(%)          : 2
	DDR Bandwidth Usage Rate(%)    : 5
	Chip ID                        : 0
"""


class NVMLError(Exception):
    pass


def stand_in(**changed):
    """A module with what is used of nvidia-ml-py, for a device that does not tell its power."""
    module = types.ModuleType("pynvml")

    def no_power(handle):
        raise NVMLError("Not Supported")

    parts = {
        "NVMLError": NVMLError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUtilizationRates": lambda handle: types.SimpleNamespace(gpu=93, memory=40),
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(used=2**30, total=2**34),
        "nvmlDeviceGetClockInfo": lambda handle, which: {1: 1500, 2: 5000}[which],
        "nvmlDeviceGetTemperature": lambda handle, sensor: 61,
        "nvmlDeviceGetPowerUsage": no_power,
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [
            types.SimpleNamespace(pid=os.getpid()),
            types.SimpleNamespace(pid=os.getpid() + 1),
        ],
        **changed,
    }
    for name, value in parts.items():
        setattr(module, name, value)
    return module


def test_nvml_tells_what_it_can_and_the_rest_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", stand_in())
    read = gauge_of("cuda:0")
    found = read()
    assert (found.usage, found.memory_bytes, found.temperature_c) == (0.93, 2**30, 61)
    assert (found.clock_hz, found.memory_clock_hz, found.power_w) == (1.5e9, 5e9, None)
    assert found.others == 1


def test_cudas_numbers_are_not_nvmls(monkeypatch):
    asked = []
    module = stand_in(nvmlDeviceGetHandleByIndex=asked.append)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 2")
    gauge_of("cuda:1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    gauge_of("cuda:1")
    assert asked == [2, 1]


@pytest.mark.parametrize(("seen", "others"), [((2**22 + 1,), 0), ((2**22 + 1, 2**22 + 2), 1), ((1,), 1), ((), 0)])
def test_numbers_of_processes_from_outside_a_container(monkeypatch, seen, others):
    """The largest number Linux gives a process is 2**22; process 1 is one that everybody sees."""
    users = [types.SimpleNamespace(pid=pid) for pid in seen]
    monkeypatch.setitem(sys.modules, "pynvml", stand_in(nvmlDeviceGetComputeRunningProcesses=lambda handle: users))
    assert gauge_of("cuda:0")().others == others


def test_a_device_shown_by_its_uuid_is_asked_for_by_it(monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "pynvml", stand_in(nvmlDeviceGetHandleByUUID=asked.append))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa-bb,GPU-cc-dd")
    assert callable(gauge_of("cuda:1"))
    assert asked == ["GPU-cc-dd"]


def test_why_nothing_is_read(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "nvidia-ml-py" in gauge_of("cuda:0")
    assert "npu-smi is not on the PATH" in gauge_of("npu:0")
    assert "ran on the processor" in gauge_of("cpu")
    assert "gpu:0" in gauge_of("gpu:0")

    def no_driver():
        raise NVMLError("Driver Not Loaded")

    monkeypatch.setitem(sys.modules, "pynvml", stand_in(nvmlInit=no_driver))
    assert "Driver Not Loaded" in gauge_of("cuda:0")
    with Watch("cuda:0") as watch:
        pass
    assert watch.usage.value is None and "Driver Not Loaded" in watch.usage.reason
    assert watch.to_json() == {} and watch.warnings() == []


@pytest.fixture
def npu_smi(tmp_path, monkeypatch):
    """A stand-in that answers as the driver's tool does, about NPU 1 alone."""
    (tmp_path / "usages").write_text(USAGES)
    (tmp_path / "power").write_text("\tPower Dissipation(W)           : 12.8\n")
    (tmp_path / "temp").write_text("\tTemperature (C)                : 45\n")
    tool = tmp_path / "npu-smi"
    tool.write_text(f'#!/bin/sh\n[ "$5" = 1 ] || exit 1\ncat {tmp_path}/"$3"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


def test_npu_smi(npu_smi):
    found = gauge_of("npu:1")()
    assert found.usage == pytest.approx(0.87)
    assert found.memory_bytes == int(21527 * 2**20 * 0.1)
    assert (found.power_w, found.temperature_c, found.clock_hz) == (12.8, 45, None)
    assert "tells nothing about npu:0" in gauge_of("npu:0")
    (npu_smi / "usages").write_text("\tHBM Capacity(MB)  : 100\n\tHBM Usage Rate(%) : 50\n")
    without = gauge_of("npu:1")()
    assert (without.usage, without.memory_bytes) == (None, 50 * 2**20)


def test_a_watch_gives_the_median_the_ends_and_what_was_wrong():
    clocks = iter((1.5e9, 1.2e9, 1.5e9))
    usages = iter((0.2, 0.9, 0.7))
    three = threading.Event()
    seen = []

    def gauge():
        seen.append(None)
        if len(seen) == 3:
            three.set()
        if len(seen) > 3:
            raise OSError("the device is gone")
        return Reading(0.0, next(usages), len(seen), next(clocks), others=2)

    with Watch("cuda:0", gauge) as watch:
        assert three.wait(30)
    assert watch.usage.value == 0.7 and watch.usage.n == 3
    told = watch.to_json()
    assert (told["readings"], told["first"]["usage"], told["last"]["usage"]) == (3, 0.2, 0.7)
    assert told["largest"]["memory_bytes"] == 3
    said = " ".join(watch.warnings())
    assert "2 other processes" in said and "between 1200 and 1500 MHz" in said


def test_a_measurement_gets_what_its_device_did():
    told = threading.Event()

    def gauge():
        told.set()
        return Reading(0.0, 0.5, others=1)

    with Watch("cuda:0", gauge) as watch:
        assert told.wait(30)
    plain = Measurement({}, np.ones(3), np.zeros(3, bool), "stable", "", ("short",), {})
    found = watch.beside(plain)
    assert found.figures["gpu.usage"].value == 0.5
    assert found.details["accelerator"]["last"]["others"] == 1
    assert found.warnings[0] == "short" and "other processes" in found.warnings[1]
    with Watch("cpu") as nothing:
        pass
    assert nothing.beside(plain) is plain


@pytest.mark.parametrize(
    ("device", "error"),
    [("npu:0", OSError("no such device")), ("cuda:0", AttributeError("this binding has no such call"))],
)
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_why_a_device_cannot_be_read_any_more_is_said(device, error):
    """Whatever a binding raises."""

    def gone():
        raise error

    with Watch(device, gone) as watch:
        pass
    assert str(error) in watch.usage.reason
