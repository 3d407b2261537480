"""A real Triton server: the binary and the Python backend that the wheel of nvidia-pytriton carries.

``scripts/install-triton`` puts it into ``.triton/``; ``ASSAY_TRITON_HOME`` names another place.  Its Python backend
runs models in its own embedded Python, which finds the packages of this environment (but its own, older numpy).
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


def home() -> Path:
    return Path(os.environ.get("ASSAY_TRITON_HOME") or ROOT / ".triton")


def missing() -> str | None:
    """Why there is no Triton here; None when there is."""
    stub = home() / "pytriton" / "tritonserver" / "backends" / "python" / "triton_python_backend_stub"
    if not stub.is_file():
        return f"no Triton server in {home()}: scripts/install-triton"
    if not _libpython():
        return "Triton's Python backend needs libpython, which is not here: apt-get install libpython3.11"
    found = subprocess.run(["ldd", stub], capture_output=True, text=True, env=_environment(), check=False)
    lost = [line.strip() for line in found.stdout.splitlines() if "not found" in line and "libcudart" not in line]
    return f"Triton's Python backend lacks {lost[0]}" if lost else None


def perf_analyzer() -> tuple[Path, dict[str, str]] | None:
    """The program and the environment it needs; None where it is not installed."""
    path = home() / "bin" / "perf_analyzer"
    return (path, {**os.environ, "LD_LIBRARY_PATH": str(home() / "lib")}) if path.is_file() else None


@dataclass(frozen=True)
class Triton:
    """A running server; ``url`` has no slash at its end."""

    process: subprocess.Popen[bytes]
    http: int
    grpc: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc}"


@contextlib.contextmanager
def triton(repository: Path, log: Path, *extra: str, timeout_s: float = 180.0) -> Iterator[Triton]:
    """Start it on ``repository`` and wait until every model is ready; it is ended with everything it started."""
    http, grpc, metrics = free_ports(3)
    server = home() / "pytriton" / "tritonserver"
    command = [str(server / "bin" / "tritonserver"), f"--model-repository={repository}"]
    command += [f"--backend-directory={server / 'backends'}", "--disable-auto-complete-config"]
    command += ["--backend-config=python,stub-timeout-seconds=150"]  # a dozen Pythons start at once
    for name, port in (("http", http), ("grpc", grpc), ("metrics", metrics)):
        command += [f"--{name}-address=127.0.0.1", f"--{name}-port={port}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, *extra], stdout=out, stderr=subprocess.STDOUT, env=_environment(), start_new_session=True
        )
    try:
        _wait(process, f"http://127.0.0.1:{http}/v2/health/ready", log, timeout_s)
        yield Triton(process, http, grpc, log)
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"Triton ended with {process.returncode}:\n{log.read_text(errors='replace')[-3000:]}")
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"Triton was not ready in {timeout_s} s:\n{log.read_text(errors='replace')[-3000:]}")


def _environment() -> dict[str, str]:
    """This environment's packages, but not its programs on PATH: Triton's Python would take itself for this
    environment's and load its numpy 2 in place of the one beside it, and every tensor would have 0 bytes."""
    packages = sysconfig.get_paths()["purelib"]
    library = _libpython()
    own = Path(sys.executable).parent
    path = os.pathsep.join(p for p in os.environ.get("PATH", "").split(os.pathsep) if p and Path(p) != own)
    found = {**os.environ, "PATH": path, "PYTHONPATH": packages}
    if library:
        found["LD_LIBRARY_PATH"] = str(library)
    return found


def _libpython() -> Path | None:
    """The folder of libpythonX.Y.so.1.0: the system's, else this interpreter's own."""
    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    folders = [Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"), Path(sysconfig.get_config_var("LIBDIR") or "/")]
    return next((folder for folder in folders if (folder / name).is_file()), None)
