"""How the server listens, whom it lets in, and how much anybody may ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from assay.core.errors import BadInput
from assay.core.units import Bytes, PerSecond, Seconds

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Limits:
    """What one client may cost.

    ``head_s`` — from a request's first byte to the end of its header.  A body may take ``body_s`` plus its
    size over ``slowest``.  ``idle_s`` — between requests.  ``write_s`` — for a client that does not
    read its answer.  ``request_s`` — from a complete request to its answer.  ``inflated`` — a compressed
    body's size when inflated.  ``bodies`` — what came of all clients' bodies and is not answered yet, of each
    protocol; two of the largest always fit.  ``answers`` — what one gRPC connection's client has not taken yet; as much
    as ``bodies`` for all of them.  ``pipelined`` — requests of one REST connection that are worked on at one time.
    """

    head: Bytes = 32 * 1024
    body: Bytes = 128 * 1024 * 1024
    inflated: Bytes = 128 * 1024 * 1024
    bodies: Bytes = 1024 * 1024 * 1024
    answers: Bytes = 256 * 1024 * 1024
    connections: int = 1024
    pipelined: int = 16
    head_s: Seconds = 10.0
    body_s: Seconds = 15.0
    slowest: PerSecond = 16 * 1024
    idle_s: Seconds = 75.0
    write_s: Seconds = 30.0
    request_s: Seconds = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise BadInput(f"the limit {name} must be positive, not {value}")

    @property
    def held(self) -> Bytes:
        """The limit on all bodies together."""
        return max(self.bodies, 2 * max(self.body, self.inflated))


@dataclass(frozen=True)
class Access:
    """``token``: every request but the health probes and the API's description must bear it.

    ``admin``: loading, unloading, shared memory and trace settings are allowed.  ``hosts``: names a browser may know
    this server by, besides its address.
    """

    token: bytes | None = field(default=None, repr=False)
    admin: bool = False
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


@dataclass(frozen=True)
class ServeSettings:
    """Port 0 is any free one; None: do not listen.  ``drain_s`` — how long requests in flight may take when the
    server goes down."""

    host: str = "127.0.0.1"
    http_port: int | None = 8000
    grpc_port: int | None = 8001
    metrics_port: int | None = 8002
    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    drain_s: Seconds = 30.0
    access_log: bool = False
