"""``assay serve`` as a process of its own, as a user starts it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.serve_peers.triton import free_ports


@dataclass(frozen=True)
class Ours:
    """A running server; ``ready_s`` is the time from its start to the first 200 of /v2/health/ready."""

    process: subprocess.Popen[bytes]
    http: int
    grpc: int
    metrics: int
    log: Path
    ready_s: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.grpc}"


@contextlib.contextmanager
def ours(models: Sequence[object], log: Path, *extra: str, timeout_s: float = 60.0) -> Iterator[Ours]:
    """Serve ``models`` (bundles, MODELs or NAME=…) and wait until they are ready; SIGTERM ends it."""
    http, grpc, metrics = free_ports(3)
    command = [str(Path(sys.executable).parent / "assay"), "serve", *map(str, models), "--http-port", str(http)]
    command += ["--grpc-port", str(grpc), "--metrics-port", str(metrics), *extra]
    began = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(process, f"http://127.0.0.1:{http}/v2/health/ready", log, timeout_s)
        yield Ours(process, http, grpc, metrics, log, time.monotonic() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, timeout_s: float) -> None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"assay serve ended with {process.returncode}:\n{log.read_text()[-3000:]}")
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.02)
    raise RuntimeError(f"assay serve was not ready in {timeout_s} s:\n{log.read_text()[-3000:]}")
