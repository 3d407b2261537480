"""BatcherSettings: everything that can be chosen about a batcher, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from assay.batching.policies import POLICIES
from assay.core.errors import BadInput, UnknownName
from assay.core.units import Seconds

ON_TIMEOUT = ("reject", "delay")


@dataclass(frozen=True)
class BatcherSettings:
    """How requests are merged.  Sizes count rows; ``max_queue`` counts requests.

    * ``policy`` — a name in ``POLICIES``.
    * ``max_delay_s``, ``preferred`` — the ``delay`` policy's: how long the oldest request may
      wait for company, and batch sizes that are sent at once when they can be filled.
    * ``instances`` — batches in the session at one time: one thread each.
    * ``buckets`` — the only batch sizes the engine is given, ascending; a batch is padded up to
      the next one.  Empty: any size up to ``max_batch``.
    * ``slo_s`` — a deadline, counted from arrival, for every request; a request's own deadline
      can only be earlier.
    * ``priority_levels``, ``default_priority`` — 1 is served first; a request's priority 0 means
      the default one.
    * ``on_timeout`` — a request whose deadline passed in the queue is answered with ``Expired``
      (``reject``) or served after all others (``delay``).
    * ``preserve_ordering`` — answers leave in the order in which requests came.  Merges only
      neighbours, and a slow batch holds up the ones behind it.
    * ``brief_s`` — a batch that is usually over sooner than this is run by the thread that submits it, where an
      instance idles: waking another thread would take longer.  0: never.  Callers must then not mind that
      ``on_done`` is called before ``submit`` returns.
    * ``isolate_failures`` — when a merged batch fails, every request of it is run again alone, so
      that only the ones that fail alone fail.
    """

    max_batch: int = 8
    policy: str = "adaptive"
    max_delay_s: Seconds = 0.0
    preferred: tuple[int, ...] = ()
    instances: int = 1
    max_queue: int = 1000
    buckets: tuple[int, ...] = ()
    slo_s: Seconds | None = None
    priority_levels: int = 1
    default_priority: int = 1
    on_timeout: str = "reject"
    preserve_ordering: bool = False
    isolate_failures: bool = True
    brief_s: Seconds = 0.0

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UnknownName("batching policy", self.policy, POLICIES)
        for name in ("max_batch", "instances", "max_queue", "priority_levels"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("max_delay_s", "brief_s"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"{name} cannot be {getattr(self, name)}")
        if self.slo_s is not None and not self.slo_s > 0:
            raise BadInput(f"slo_s must be positive, not {self.slo_s}")
        for name in ("buckets", "preferred"):
            _check_sizes(name, getattr(self, name), self.max_batch)
        if self.buckets and self.buckets[-1] != self.max_batch:
            raise BadInput(
                f"the largest bucket ({self.buckets[-1]}) must be max_batch ({self.max_batch})",
                remedy=f"set max_batch={self.buckets[-1]}",
            )
        if not 1 <= self.default_priority <= self.priority_levels:
            raise BadInput(f"default_priority {self.default_priority} is not within 1..{self.priority_levels}")
        if self.on_timeout not in ON_TIMEOUT:
            raise UnknownName("timeout action", self.on_timeout, ON_TIMEOUT)
        if self.preserve_ordering and (self.priority_levels > 1 or self.on_timeout == "delay"):
            raise BadInput("preserve_ordering contradicts priorities and on_timeout='delay', which overtake")


def _check_sizes(name: str, sizes: tuple[int, ...], most: int) -> None:
    if any(s < 1 or s > most for s in sizes) or list(sizes) != sorted(set(sizes)):
        raise BadInput(f"{name} must be ascending sizes within 1..{most}, not {sizes}")
