"""A full disk: said in one line, exit code 4, nothing half-written left as if whole."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import MODEL

Cli = Callable[..., Any]


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of its own with ``request.param`` KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("small_disk", [64, 1600], indirect=True)
def test_a_full_disk(small_disk: Path, trained: Path, cli: Cli) -> None:
    out = small_disk / "run"
    done = cli(
        "run", MODEL, "--weights", trained, "--data", "digits", "--quick", "--out", out,
        "--engine", "onnxruntime", "--precision", "fp32",
    )  # fmt: skip
    assert done.code == 4, done.out + done.err
    assert "Traceback" not in done.err
    assert "space" in done.err
    assert not (out / "verdict.json").exists()
    assert not (out / "bundle").exists()
    assert not list(out.rglob("model.onnx"))
    for stage in (out / "stages").glob("*.json") if (out / "stages").exists() else ():
        json.loads(stage.read_text())
