"""What an import gives back, and what every importer is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from assay.core.errors import BadInput
from assay.core.record import Record
from assay.importers.source import Source

SEVERITIES = ("contradiction", "suspect", "note")


@dataclass(frozen=True)
class Hints:
    """What the person who imports knows and the log may not say.

    What is given here counts before what the log or the words around it say; where the log's own figures
    or command disagree about the batch size, a Finding says so.
    """

    model: str | None = None
    device: str | None = None
    batch: int | None = None
    precision: str | None = None
    engine_version: str | None = None
    warmup_ms: float | None = None

    def __post_init__(self) -> None:
        if self.batch is not None and self.batch < 1:
            raise BadInput(f"a batch holds at least one sample, not {self.batch}", remedy="--batch 1")


@dataclass(frozen=True)
class Finding:
    """Something the figures say about each other.

    ``severity``: a *contradiction* cannot be true as written, a *suspect* figure should not be relied
    on, a *note* is what a reader must know to read a figure rightly.  ``where`` is ``file:line``;
    ``figures`` are the numbers the finding rests on, by name.
    """

    kind: str
    text: str
    figures: Mapping[str, float]
    where: str
    severity: str = "suspect"

    def to_json(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "severity": self.severity,
            "text": self.text,
            "figures": {name: value for name, value in self.figures.items() if math.isfinite(value)},
            "where": self.where,
        }


@dataclass(frozen=True)
class Imported:
    """Records with what was noticed about them; ``warnings`` are about the reading, not the figures."""

    records: tuple[Record, ...] = ()
    findings: tuple[Finding, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def __add__(self, other: Imported) -> Imported:
        return Imported(self.records + other.records, self.findings + other.findings, self.warnings + other.warnings)


class Importer(Protocol):
    """Reads the logs of one tool."""

    def confidence(self, source: Source) -> float:
        """How surely this tool wrote ``source``: 0 not at all, 1 without doubt.  Judged by content."""

    def read(self, source: Source, hints: Hints) -> Imported:
        """The Records of ``source``.  Raises BadInput, with file and line, where it is malformed."""
