"""What a report shows besides the table, made ready by whoever calls it: nothing here computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay.core.units import PerSecond, Seconds


@dataclass(frozen=True)
class StageBar:
    """One stage of the pipeline: it works ``busy_s`` on a sample, after ``start_s`` of the stages before it.

    ``rate`` is samples per second while it ran, ``utilisation`` the share of its threads that was busy, None
    where that was not recorded; ``alone_rate`` what its calls alone would allow.
    """

    name: str
    start_s: Seconds
    busy_s: Seconds
    rate: PerSecond | None = None
    utilisation: float | None = None
    alone_rate: PerSecond | None = None


@dataclass(frozen=True)
class Waterfall:
    """The pipeline of one evaluation; ``rate`` is samples per second end to end, ``bottleneck`` a sentence."""

    record: str
    title: str
    rate: PerSecond | None
    stages: tuple[StageBar, ...]
    bottleneck: str | None = None


@dataclass(frozen=True)
class Errors:
    """How large the elements' errors of one output are: ``counts`` are (e, elements with an error in
    [2^e, 2^(e+1))); ``equal`` of ``n`` elements have none."""

    record: str
    title: str
    engine: str
    precision: str
    output: str
    batch: str
    counts: tuple[tuple[int, int], ...]
    equal: int
    n: int


@dataclass(frozen=True)
class Operator:
    """One piece of the graph: its own (``local``) and its ``accumulated`` relative rms error against what its
    precision must cost (``due``)."""

    tensor: str
    nodes: str
    local: float | None
    accumulated: float | None
    due: float | None
    guilty: bool
    origin: str = ""


@dataclass(frozen=True)
class StageError:
    """A stage on the way from PyTorch to the engine, with the error it adds and the error up to it."""

    name: str
    state: str
    added: float | None
    due: float | None
    total: float | None
    text: str = ""


@dataclass(frozen=True)
class Divergence:
    """One diagnosis: the stages, then the operators of the guilty one, in the graph's order."""

    record: str
    title: str
    guilty: str | None
    stages: tuple[StageError, ...]
    operators: tuple[Operator, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """``pictures`` are data-URIs by sample id, ``labels`` the names of the classes."""

    waterfalls: tuple[Waterfall, ...] = ()
    errors: tuple[Errors, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()

    def joined(self, other: Evidence) -> Evidence:
        """Both runs' evidence in one report; pictures of one sample are the same picture."""
        return Evidence(
            self.waterfalls + other.waterfalls,
            self.errors + other.errors,
            self.divergences + other.divergences,
            {**self.pictures, **other.pictures},
            self.labels or other.labels,
        )
