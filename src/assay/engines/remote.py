"""A model on a running Open Inference Protocol v2 server, as a Session.

The artifact is a JSON file: ``{"url": …, "protocol": "http" | "grpc", "model": …, "version": …}``,
where ``url`` is the server's base (``http://host:port``; a path such as ``/v2/models/NAME`` is
ignored) and ``version`` may be missing.  Tensors travel in the binary extension where the server
offers it, else as JSON.  Each instance is one connection.  What the server runs is its own
choice: nothing about precision or provider can be attested.  The precision that is asked for is what the user
says of the server; it decides how its answers are judged.
"""

from __future__ import annotations

import json
import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from assay.core.artifact import Artifact
from assay.core.engine import Attestation, BuildOptions, OpenOptions
from assay.core.errors import AssayError, BadInput, NotAvailable
from assay.core.tensors import Array, Feed, Signature
from assay.core.units import Seconds
from assay.engines.base import PooledSession, check_format, check_open, failed, parse_device, reason, refuse_streams

_TIMEOUT_S = 60.0


class RemoteEngine:
    name = "remote"
    harmless_options = frozenset({"timeout_s"})
    """Provider options that a stranger's bundle may set."""
    reads: tuple[str, ...] = ("remote",)
    opens: tuple[str, ...] = ("remote",)
    precisions: tuple[str, ...] = ("fp32", "tf32", "bf16", "fp16", "int8")
    status = "runs whatever the server runs: a precision is what you say of it"

    def version(self) -> str:
        """Of the protocol: the server's own is the server's business."""
        return "v2"

    def unavailable(self, device: str = "cpu", precision: str = "fp32") -> str | None:
        def probe() -> str | None:
            if parse_device(device).kind == "cpu":
                return None
            return f"the server chooses its device, so {device} cannot be asked of it: leave the device at cpu"

        return reason(self.name, self.precisions, precision, probe)

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """Nothing to build: the model runs elsewhere."""
        check_format(self.name, "build from", self.reads, artifact)
        why = self.unavailable(options.device, options.precision)
        if why is not None:
            raise NotAvailable(why)
        return artifact

    def open(self, artifact: Artifact, options: OpenOptions) -> RemoteSession:
        check_open(self, artifact, options)
        refuse_streams(self.name, options)
        address = read_address(artifact.path, dict(options.provider_options))
        connections: list[Connection] = []
        try:
            for _ in range(options.instances):
                connections.append(_connect(address))
            signature = connections[0].signature()
        except BaseException as error:
            for connection in connections:
                connection.close()
            if isinstance(error, AssayError) or not isinstance(error, Exception):
                raise
            raise failed(self.name, f"reach {address.model!r} at {address.place}", error) from error
        return RemoteSession(signature, connections)


@dataclass(frozen=True)
class Address:
    """Where a model is served; ``version`` "" is the server's choice."""

    protocol: str
    host: str
    port: int
    model: str
    version: str = ""
    tls: bool = False
    timeout_s: Seconds = _TIMEOUT_S

    @property
    def place(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Connection(Protocol):
    """One connection, used by one call at a time."""

    def signature(self) -> Signature: ...

    def infer(self, signature: Signature, feed: Feed) -> list[Array]: ...

    def close(self) -> None: ...


class RemoteSession(PooledSession[Connection]):
    def __init__(self, signature: Signature, connections: Sequence[Connection]) -> None:
        super().__init__("remote", signature, connections)

    def _infer(self, worker: Connection, feed: Feed, spans: MutableMapping[str, float] | None) -> Sequence[Array]:
        return worker.infer(self._signature, feed)

    def _attest(self, worker: Connection) -> Attestation:
        return Attestation({}, how="remote server: cannot be attested", untold="a server does not say what it ran")

    def _release(self) -> None:
        for worker in self._workers:
            worker.close()


def read_address(path: Path, options: dict[str, str]) -> Address:
    """``options`` may hold ``timeout_s``.  Raises BadInput for a file or URL that says too little."""
    timeout_s = _timeout(options)
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        protocol, model, url = data["protocol"], data["model"], data["url"]
        parts = urlsplit(url if "//" in url else f"//{url}")
        host, port = parts.hostname, parts.port
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{path} does not describe a remote model: {error!r}",
            remedy='{"url": "http://host:port", "protocol": "http", "model": "name", "version": ""}',
        ) from None
    if protocol not in ("http", "grpc"):
        raise BadInput(f"{path}: the protocol is {protocol!r}; http and grpc are known")
    if not host:
        raise BadInput(f"{path}: the url {url!r} names no host")
    default = 8001 if protocol == "grpc" else 443 if parts.scheme == "https" else 80
    tls = parts.scheme in ("https", "grpcs")
    return Address(protocol, host, port or default, str(model), str(data.get("version") or ""), tls, timeout_s)


def _timeout(options: dict[str, str]) -> Seconds:
    unknown = sorted(set(options) - {"timeout_s"})
    if unknown:
        raise BadInput(f"remote has no option {unknown[0]!r}", remedy="it has: timeout_s")
    try:
        timeout_s = float(options.get("timeout_s", _TIMEOUT_S))
    except ValueError:
        timeout_s = math.nan
    if not 0 < timeout_s < math.inf:
        raise BadInput(f"timeout_s is {options['timeout_s']!r}, no number of seconds", remedy="timeout_s=60")
    return timeout_s


def _connect(address: Address) -> Connection:
    if address.protocol == "grpc":
        from assay.engines.remote_grpc import GrpcConnection

        return GrpcConnection(address)
    from assay.engines.remote_http import HttpConnection

    return HttpConnection(address)
