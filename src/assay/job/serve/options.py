"""What ``assay serve`` was asked for: which models, how they are batched, how they share the machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from assay.core.errors import BadInput
from assay.core.units import Seconds
from assay.serve.settings import ServeSettings

MAX_BATCH = 8
MOST_PIXELS = 50_000_000
LONGEST_WATCH_S: Seconds = 86_400.0


@dataclass(frozen=True)
class Batching:
    """How one model's requests are merged.  ``instances`` and ``threads`` None: as the bundle was measured."""

    policy: str = "adaptive"
    max_batch: int = MAX_BATCH
    max_delay_s: Seconds = 0.0
    preferred: tuple[int, ...] = ()
    instances: int | None = None
    threads: int | None = None
    slo_s: Seconds | None = None
    max_queue: int = 1000
    priority_levels: int = 3
    default_priority: int = 2
    on_timeout: str = "reject"
    preserve_ordering: bool = False

    def __post_init__(self) -> None:
        if self.instances is not None and self.instances < 1:
            raise BadInput(f"instances must be at least 1, not {self.instances}")
        if self.max_batch < 1:
            raise BadInput(f"max_batch must be at least 1, not {self.max_batch}")


@dataclass(frozen=True)
class Serving:
    """One model: ``source`` is a bundle's folder, a folder of versions (1/, 2/ …) of them, or a MODEL.

    ``precision`` and ``device`` None: nobody asked.  ``digest`` is that of a bundle's manifest, which pins it.
    ``triton_config`` is a config.pbtxt (that of a folder of versions is found by itself): what it says of
    batching holds, except for the fields of ``batching`` that are named in ``given``.
    ``told`` is what its users call the source where that is another (a copy that a replica made), None where not.
    """

    source: str
    name: str | None = None
    engine: str | None = None
    precision: str | None = None
    device: str | None = None
    preprocess: str | None = None
    trust: bool = False
    digest: str | None = None
    triton_config: str | None = None
    batching: Batching = field(default_factory=Batching)
    given: frozenset[str] = frozenset()
    told: str | None = None


@dataclass(frozen=True)
class ServeRequest:
    """Everything ``assay serve`` is told.  ``watch`` is a folder whose sub-folders are models; ``shadows`` are rules
    as ``serve.shadow.parse_shadow`` reads them, their Records go to ``shadow_out``/records.jsonl."""

    models: tuple[Serving, ...]
    settings: ServeSettings = field(default_factory=ServeSettings)
    watch: Path | None = None
    watch_s: Seconds = 1.0
    defaults: Serving = field(default_factory=lambda: Serving(""))
    most_pixels: int = MOST_PIXELS
    decoders: int | None = None
    check_goldens: bool = True
    shadows: tuple[str, ...] = ()
    shadow_out: Path | None = None

    def __post_init__(self) -> None:
        if not self.models and self.watch is None:
            raise BadInput("nothing to serve", remedy="assay serve BUNDLE, or assay serve --watch FOLDER")
        if not 0 < self.watch_s <= LONGEST_WATCH_S:
            raise BadInput(
                f"a folder cannot be looked at every {self.watch_s:g} s", remedy="watch_every from 100ms to 1h"
            )
        if self.settings.http_port is None and self.settings.grpc_port is None:
            raise BadInput("neither REST nor gRPC is served", remedy="leave out --no-http or --no-grpc")
