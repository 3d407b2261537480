"""A server at a time for one model: ``assay serve`` on a bundle, or a real Triton on a model repository.

Triton is what ``scripts/install-triton`` puts into ``.triton/`` (``ASSAY_TRITON_HOME`` names another place): the server
and its Python backend, from NVIDIA's wheel.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ASSAY = str(Path(sys.executable).parent / "assay")
READY_WITHIN_S = 120.0


def triton_home() -> Path:
    return (
        Path(os.environ.get("ASSAY_TRITON_HOME") or Path(__file__).parents[2] / ".triton") / "pytriton" / "tritonserver"
    )


def without_triton() -> str | None:
    """Why there is no Triton here; None when there is."""
    stub = triton_home() / "backends" / "python" / "triton_python_backend_stub"
    if not stub.is_file():
        return "Triton is not installed here (scripts/install-triton)"
    found = subprocess.run(["ldd", stub], capture_output=True, text=True, env=_triton_environment(), check=False)
    lost = [line.split()[0] for line in found.stdout.splitlines() if "not found" in line and "libcudart" not in line]
    return f"Triton's Python backend lacks {lost[0]} here" if lost else None


@contextlib.contextmanager
def assay_serve(bundle: Path, name: str, max_batch: int, log: Path) -> Iterator[str]:
    """The URL of the model."""
    port = _free_port()
    command = [ASSAY, "serve", f"{name}={bundle}", "--trust", "--max-batch", str(max_batch), "--threads", "1"]
    command += ["--http-port", str(port), "--no-grpc", "--no-metrics"]
    with _running(command, None, port, log):
        yield f"http://127.0.0.1:{port}/v2/models/{name}"


@contextlib.contextmanager
def triton(repository: Path, name: str, log: Path) -> Iterator[str]:
    """The URL of the model; only this one of the repository is loaded."""
    port, home = _free_port(), triton_home()
    command = [str(home / "bin" / "tritonserver"), f"--model-repository={repository}"]
    command += [f"--backend-directory={home / 'backends'}", "--disable-auto-complete-config"]
    command += ["--model-control-mode=explicit", f"--load-model={name}"]
    # Room for all tensors under way: the memory shared with the model's process need not grow while it is in use.
    command += ["--backend-config=python,shm-default-byte-size=67108864"]
    command += ["--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
    with _running(command, _triton_environment(), port, log):
        yield f"http://127.0.0.1:{port}/v2/models/{name}"


@contextlib.contextmanager
def _running(command: Sequence[str], environment: Mapping[str, str] | None, port: int, log: Path) -> Iterator[None]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
    try:
        _wait(process, f"http://127.0.0.1:{port}/v2/health/ready", log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"a server did not become ready; the end of {log}:\n{log.read_text(errors='replace')[-2000:]}")


def _triton_environment() -> dict[str, str]:
    """Triton's own Python finds this environment's packages, and libpython.

    The environment's programs are taken off PATH: that Python would take itself for this environment's, and load its
    numpy 2, which the backend reads wrongly, in place of the one beside it.
    """
    own = str(Path(sys.executable).parent)
    path = os.pathsep.join(p for p in os.environ.get("PATH", "").split(os.pathsep) if p.rstrip("/") != own)
    found = {**os.environ, "PATH": path, "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    name = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    folders = [Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"), Path(sysconfig.get_config_var("LIBDIR") or "/")]
    library = next((folder for folder in folders if (folder / name).is_file()), None)
    return found if library is None else {**found, "LD_LIBRARY_PATH": str(library)}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
