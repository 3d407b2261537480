"""What the pipeline is made of: four callables, and how they are pressed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.dataset import Item, Scored
from assay.core.errors import BadInput
from assay.core.tensors import Array, Feed, Signature

Rows = Mapping[str, Array]
Failure = tuple[str, str]
"""A sample's id (or place, where it could not be read) and what went wrong with it."""


@dataclass(frozen=True)
class Stages:
    """``read(start, stop)`` gives items in order; it may raise AssayError for a bad one and is then begun again
    behind it.  ``prepare(item, rows)`` gives the model's inputs for one item, without batch axis; where the inputs
    have fixed shapes, ``rows`` are places in a batch to write into, and giving them back saves a copy.
    ``infer(feed)`` runs the model; ``score(ids, outputs, targets)`` sees outputs with the rows along the
    first axis.  All but ``read`` are called from several threads at once.
    """

    read: Callable[[int, int], Iterator[Item]]
    prepare: Callable[[Item, Rows | None], Rows]
    infer: Callable[[Feed], Mapping[str, Array]]
    score: Callable[[Sequence[str], Mapping[str, Array], Sequence[Any]], list[Scored]]
    signature: Signature


@dataclass(frozen=True)
class Flow:
    """``workers`` threads take a batch each through preprocess, infer and score.

    Where inference runs on the same cores (``shared``), workers and engine threads both equal the cores:
    whichever a worker waits for is then what its core does, and no core waits for a queue.  With an
    accelerator there are more workers, of which ``cores`` may preprocess at a time.  ``parallelism`` is how
    many inference calls make progress at once.  ``max_failures`` None never stops.
    """

    total: int
    batch: int = 32
    workers: int = 1
    cores: int = 1
    parallelism: int = 1
    shared: bool = True
    shard_size: int = 1024
    max_failures: int | None = 0

    def __post_init__(self) -> None:
        for name in ("total", "batch", "workers", "cores", "parallelism", "shard_size"):
            if getattr(self, name) < 1:
                raise BadInput(f"the pipeline's {name} must be at least 1, not {getattr(self, name)}")

    @property
    def batches_per_shard(self) -> int:
        """A shard holds whole batches, so that a batch is made of the same samples after a restart."""
        return max(1, self.shard_size // self.batch)

    @property
    def samples_per_shard(self) -> int:
        return self.batches_per_shard * self.batch

    @property
    def shards(self) -> int:
        return -(-self.total // self.samples_per_shard)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First sample of a shard, and the one behind its last."""
        size = self.samples_per_shard
        return shard * size, min(self.total, (shard + 1) * size)
