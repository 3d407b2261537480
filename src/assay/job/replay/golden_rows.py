"""Feeds of any batch size, made of a bundle's golden inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core.tensors import Feed, Signature


@dataclass(frozen=True)
class GoldenRows(Mapping[int, Sequence[Feed]]):
    """Batch size -> one feed of so many rows, made when it is asked for: only the goldens travel to the child."""

    goldens: tuple[Feed, ...]
    signature: Signature
    sizes: tuple[int, ...]

    def __getitem__(self, batch: int) -> Sequence[Feed]:
        if batch not in self.sizes:
            raise KeyError(batch)
        return [rows_of(self.goldens, self.signature, batch)]

    def __iter__(self) -> Iterator[int]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


def rows_of(feeds: Sequence[Feed], signature: Signature, batch: int) -> dict[str, Any]:
    """One feed of ``batch`` rows, the golden rows taking turns; an input without a batch axis stays as it is."""
    made = {}
    for spec in signature.inputs:
        arrays = [feed[spec.name] for feed in feeds]
        if spec.batch_axis is None:
            made[spec.name] = arrays[0]
            continue
        rows = np.concatenate(arrays, axis=spec.batch_axis)
        turns = np.arange(batch) % rows.shape[spec.batch_axis]
        made[spec.name] = np.ascontiguousarray(np.take(rows, turns, axis=spec.batch_axis))
    return made
