"""Reader and Task: where items come from, and what the numbers about them mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from assay.core.record import Figure
from assay.core.tensors import Array


@dataclass(frozen=True)
class Item:
    """One thing a reader found: ``content`` is encoded bytes, an array, or a mapping of arrays."""

    id: str
    content: Any
    target: Any = None


@runtime_checkable
class Reader(Protocol):
    """Streams items in a fixed order.

    ``synthetic`` readers never count as accuracy.  ``labels`` are class names in target order,
    None where there are none.  ``preprocess`` is the transform (as data) that suits the items when
    the model brings none of its own.  A reader that goes through what lies before an item to reach it
    says so with an attribute ``streams = True``.
    """

    name: str
    synthetic: bool
    labels: tuple[str, ...] | None
    preprocess: Mapping[str, Any] | None

    def __len__(self) -> int: ...

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        """Items ``start`` to ``stop`` in order.  Raises BadInput naming a broken item."""
        ...


@dataclass(frozen=True)
class Scored:
    """One sample's result: ``correct`` is None where the task has no such notion; ``row`` is what is
    kept per sample (JSON)."""

    id: str
    row: Mapping[str, Any]
    correct: bool | None = None


@runtime_checkable
class Task(Protocol):
    """What the outputs mean.  ``primary`` names the figure that accuracy limits are about."""

    name: str
    primary: str
    higher_is_better: bool

    def score(self, ids: Sequence[str], outputs: Mapping[str, Array], targets: Sequence[Any]) -> list[Scored]:
        """Score one batch, row by row.  Raises BadInput when outputs and targets cannot belong together."""
        ...

    def figures(self, scored: Sequence[Scored]) -> dict[str, Figure]:
        """The metric over all samples, each figure with its interval.  Raises BadInput for no samples."""
        ...
