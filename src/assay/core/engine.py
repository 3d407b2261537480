"""Engine and Session: the two protocols everything that runs a model speaks.

An Engine is stateless and cheap to construct: importing its library happens inside
its methods.  A Session is one opened model.  ``engines/null.py`` is the smallest
complete implementation of both.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from assay.core import checked
from assay.core.artifact import Artifact, digest_json
from assay.core.errors import WrongPrecision
from assay.core.tensors import Array, Feed, Signature

PRECISIONS = ("fp64", "fp32", "tf32", "bf16", "fp16", "int8")
WARN_BELOW_SHARE = 0.90


@dataclass(frozen=True)
class BuildOptions:
    """How to make an engine file.  ``batch`` is None for a free batch dim."""

    precision: str = "fp32"
    device: str = "cpu"
    batch: int | None = None
    provider_options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class OpenOptions:
    """How to open an engine file.

    Precision, threads and streams belong here because one file opened twice can be two
    different models.  ``threads`` None leaves the engine's own default; ``buckets`` are
    static batch sizes, empty for a free batch.
    """

    precision: str = "fp32"
    device: str = "cpu"
    buckets: tuple[int, ...] = ()
    threads: int | None = None
    streams: int | None = None
    instances: int = 1
    provider_options: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        data = asdict(self)
        data["provider_options"] = dict(self.provider_options)
        data["buckets"] = list(self.buckets)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> OpenOptions:
        """Raises KeyError for what is missing, TypeError for a value of a wrong kind."""
        given: dict[str, Any] = checked.field(data, "provider_options", dict)
        return cls(
            precision=checked.field(data, "precision", str),
            device=checked.field(data, "device", str),
            buckets=checked.each(data, "buckets", int),
            threads=checked.optional(data, "threads", int),
            streams=checked.optional(data, "streams", int),
            instances=checked.field(data, "instances", int),
            provider_options=tuple((key, checked.field(given, key, str)) for key in sorted(given)),
        )


@dataclass(frozen=True)
class Candidate:
    """One thing that could be shipped; its digest is the subject speed, accuracy and verdict join on."""

    artifact: Artifact
    engine: str
    engine_version: str
    options: OpenOptions
    device_name: str = ""

    @property
    def digest(self) -> str:
        return digest_json(
            [self.artifact.sha256, self.engine, self.engine_version, self.options.to_json(), self.device_name]
        )

    @property
    def label(self) -> str:
        """A short name for people, such as ``openvino bf16``."""
        parts = [self.engine, self.options.precision]
        if self.options.threads is not None:
            parts.append(f"{self.options.threads}t")
        if self.options.streams is not None:
            parts.append(f"{self.options.streams}s")
        return " ".join(parts)

    def subject(self, model: str, batch: int | None = None) -> dict[str, Any]:
        """The ``subject`` of this candidate's Records (INTERFACE.md)."""
        return {
            "model": model,
            "candidate": self.digest,
            "artifact": self.artifact.sha256,
            "format": self.artifact.format,
            "engine": self.engine,
            "engine_version": self.engine_version,
            "precision": self.options.precision,
            "device": self.options.device,
            "device_name": self.device_name,
            "batch": batch,
            "threads": self.options.threads,
            "streams": self.options.streams,
            "instances": self.options.instances,
        }


@dataclass(frozen=True)
class Attestation:
    """The share of multiply-accumulates per (provider, precision) that really ran.

    ``shares`` sums to 1 when the model has any Conv, MatMul or Gemm, else it is empty.
    ``how`` says where this was read from, ``untold`` why nothing could be read at all.
    """

    shares: Mapping[tuple[str, str], float] = field(default_factory=dict)
    how: str = ""
    untold: str | None = None

    def share(self, provider: str | None, precision: str) -> float:
        return sum(v for (p, q), v in self.shares.items() if q == precision and provider in (None, p))

    def check(self, provider: str | None, precision: str) -> list[str]:
        """Warnings, or WrongPrecision when nothing ran as asked.  A model without MACs attests vacuously: said."""
        if self.untold is not None:
            return [f"precision and provider could not be attested: {self.untold}"]
        if not self.shares:
            return ["the model has no Conv, MatMul or Gemm: precision and provider could not be attested"]
        share = self.share(provider, precision)
        if share <= 0:
            ran = ", ".join(f"{p}/{q} {v:.0%}" for (p, q), v in sorted(self.shares.items()))
            wanted = f"{provider}/{precision}" if provider else precision
            raise WrongPrecision(f"asked for {wanted}, but what ran was {ran} ({self.how})")
        if share < WARN_BELOW_SHARE:
            return [f"only {share:.0%} of the arithmetic ran as asked ({precision})"]
        return []

    def to_json(self) -> dict[str, Any]:
        rows = [{"provider": p, "precision": q, "share": v} for (p, q), v in sorted(self.shares.items())]
        return {"shares": rows, "how": self.how}


@runtime_checkable
class Session(Protocol):
    """One opened model.  Any thread may call ``run``; beyond ``parallelism`` callers block."""

    @property
    def signature(self) -> Signature: ...

    @property
    def parallelism(self) -> int:
        """How many calls make progress at the same time."""
        ...

    def run(
        self,
        feed: Feed,
        out: MutableMapping[str, Array] | None = None,
        spans: MutableMapping[str, float] | None = None,
    ) -> dict[str, Array]:
        """Run once and return when the outputs are readable on the host.

        ``feed`` must match ``signature`` exactly (names, dtypes, ranks, fixed sizes) and stays
        unchanged until return; no reference to it is kept.  Returned arrays belong to the caller
        for ever.  ``out`` holds arrays to write into, where output shapes are fixed; ``spans``
        receives device timings in seconds where the engine has them.

        Raises SignatureMismatch for a feed that does not fit, EngineFailed for anything the
        library raises.
        """
        ...

    def attest(self) -> Attestation: ...

    def close(self) -> None:
        """Wait for calls in flight, then release.  Closing twice is allowed."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Engine(Protocol):
    """One inference library.  ``docs/adding-an-engine.md`` walks through writing one."""

    name: str
    reads: tuple[str, ...]
    """Artifact formats ``build`` accepts."""
    opens: tuple[str, ...]
    """Artifact formats ``open`` accepts."""
    precisions: tuple[str, ...]
    """What it can do somewhere; ``unavailable`` says what it can do here."""

    def version(self) -> str:
        """The library's version; raises NotAvailable when it is not installed."""
        ...

    def unavailable(self, device: str = "cpu", precision: str = "fp32") -> str | None:
        """Why not, and what to install; None when it can run here.  Never raises."""
        ...

    def build(self, artifact: Artifact, options: BuildOptions, out_dir: Path) -> Artifact:
        """Make the file that ``open`` takes.  Raises EngineFailed with the vendor's message."""
        ...

    def open(self, artifact: Artifact, options: OpenOptions) -> Session: ...
