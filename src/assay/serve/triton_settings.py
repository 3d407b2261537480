"""What a ``config.pbtxt`` of Triton's says, as settings; read by ``triton_config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.core.units import Seconds


@dataclass(frozen=True)
class Tensor:
    """``dims`` without the batch where ``max_batch_size`` is set; -1 is free.  ``datatype`` as on the wire."""

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class QueuePolicy:
    """``on_timeout`` is ``reject`` or ``delay``; None and 0: no limit."""

    on_timeout: str = "reject"
    timeout_s: Seconds | None = None
    max_queue: int = 0


@dataclass(frozen=True)
class Warmup:
    """``count`` batches of ``batch_size``; ``inputs`` by name, each with how it is filled (``zero``, ``random`` or
    the name of a file)."""

    name: str
    batch_size: int
    count: int
    inputs: Mapping[str, tuple[Tensor, str]]


@dataclass(frozen=True)
class VersionPolicy:
    """``latest`` (the ``count`` highest), ``all``, or ``specific`` (``versions``)."""

    kind: str = "latest"
    count: int = 1
    versions: tuple[int, ...] = ()

    def chosen(self, there: list[int]) -> list[int]:
        """Which of the versions that are there are served, ascending."""
        if self.kind == "all":
            return sorted(there)
        if self.kind == "specific":
            return sorted(set(there) & set(self.versions))
        return sorted(there)[-self.count :]


@dataclass(frozen=True)
class Batching:
    """``dynamic_batching``.  ``by_priority``: the queue policies of single priorities."""

    preferred: tuple[int, ...] = ()
    max_delay_s: Seconds = 0.0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority: int = 0
    queue: QueuePolicy = QueuePolicy()
    by_priority: Mapping[int, QueuePolicy] = field(default_factory=dict)


@dataclass(frozen=True)
class TritonConfig:
    """``max_batch`` 0: the model has no batch dimension.  ``batching`` None: requests are not merged.
    ``instances`` is the sum over the groups, 0 where the file names none."""

    name: str = ""
    platform: str = ""
    backend: str = ""
    max_batch: int = 0
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    batching: Batching | None = None
    instances: int = 0
    instance_kinds: tuple[str, ...] = ()
    version_policy: VersionPolicy = VersionPolicy()
    warmups: tuple[Warmup, ...] = ()
    warnings: tuple[str, ...] = ()

    def batcher_options(self) -> dict[str, Any]:
        """What the file says in the words of ``batching.settings.BatcherSettings``; what it leaves open is absent.

        Triton's own policy is ``delay``.  A queue timeout becomes ``slo_s``: a deadline counted from arrival.
        """
        found: dict[str, Any] = {"max_batch": max(1, self.max_batch)}
        if self.instances:
            found["instances"] = self.instances
        batching = self.batching
        if batching is None:
            return {**found, "max_batch": 1}
        found |= {"policy": "delay", "max_delay_s": batching.max_delay_s, "preferred": batching.preferred}
        found["on_timeout"] = batching.queue.on_timeout
        if batching.preserve_ordering:
            found["preserve_ordering"] = True
        if batching.priority_levels:
            found["priority_levels"] = batching.priority_levels
            found["default_priority"] = batching.default_priority
        if batching.queue.max_queue:
            found["max_queue"] = batching.queue.max_queue
        if batching.queue.timeout_s is not None:
            found["slo_s"] = batching.queue.timeout_s
        return found
