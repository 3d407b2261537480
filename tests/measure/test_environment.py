import json
import socket
from pathlib import Path

import pytest

from assay.job.keys import identity
from assay.measure import environment as module
from assay.measure.environment import (
    cores_granted,
    device_name,
    environment,
    moment,
    thread_warnings,
)


def write(root, files):
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return root


def test_what_decides_results_is_there():
    found = environment()
    assert found["cpu"]
    assert 0 < found["cores_granted"] <= found["cores_affinity"] <= found["cores_logical"]
    assert found["versions"]["numpy"]
    assert found["memory_bytes"] > 2**20
    json.dumps(found)
    assert found == environment()  # nothing in it changes from moment to moment


def test_nothing_private_is_there(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    text = json.dumps(environment())
    assert socket.gethostname() not in text
    assert "hunter2" not in text
    assert str(Path.home()) not in text


def test_thread_variables_are_kept(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environment()["thread_env"]["OMP_NUM_THREADS"] == "3"


def test_moment():
    assert len(moment()["load_average"]) == 3


def test_a_quota_cuts_the_cores_granted(monkeypatch):
    monkeypatch.setattr(module, "cgroup_quota", lambda: 0.5)
    assert cores_granted() == 0.5


def test_device_names(tmp_path, monkeypatch):
    assert device_name("cpu") == environment()["cpu"]
    assert device_name("npu:0") == "npu:0"
    write(tmp_path, {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H100\nIRQ: 1\n"})
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert device_name("cuda") == device_name("gpu:0") == "NVIDIA H100"
    assert device_name("cuda:7") == "cuda:7"


def test_a_device_has_the_name_of_the_one_that_is_shown(tmp_path, monkeypatch):
    cards = {"0000:01:00.0": ("NVIDIA H100", "GPU-aa-11"), "0000:02:00.0": ("NVIDIA L4", "GPU-bb-22")}
    for place, (model, uuid) in cards.items():
        text = f"Model: \t\t {model}\nGPU UUID: \t {uuid}\n"
        write(tmp_path, {f"proc/driver/nvidia/gpus/{place}/information": text})
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for shown, name in (("1", "NVIDIA L4"), ("1,0", "NVIDIA L4"), ("GPU-bb", "NVIDIA L4"), ("GPU-cc", "cuda:0")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
        assert device_name("cuda:0") == name


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n", "535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build\n", "550.54.14"),
        ("GCC version: 12\n", None),
    ],
)
def test_the_driver_of_a_gpu_is_told(said, version, tmp_path, monkeypatch):
    """After its upgrade a replay names it, and what was measured with another is measured again."""
    write(tmp_path, {"proc/driver/nvidia/version": said})
    before = identity(environment())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    assert environment()["gpu_driver"] == version
    assert identity({**environment(), "gpu_driver": "1"}) != identity({**environment(), "gpu_driver": "2"})
    assert "gpu_driver" not in before or before["gpu_driver"]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_more_threads_than_cores_is_advised_against(monkeypatch, name):
    monkeypatch.setattr(module, "cgroup_quota", lambda: 2.0)
    monkeypatch.setenv(name, "64")
    assert any(f"{name}=64" in text for text in thread_warnings(1))
    monkeypatch.setenv(name, "1")
    assert not any(name in text for text in thread_warnings(1))


def test_less_than_a_core_is_no_advice_to_use_less_than_one(monkeypatch):
    monkeypatch.setattr(module, "cgroup_quota", lambda: 0.5)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert not any("OMP_NUM_THREADS" in text or "calls at a time" in text for text in thread_warnings(1))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert any("OMP_NUM_THREADS=2 on 1 cores; set it to 1" in text for text in thread_warnings(1))
