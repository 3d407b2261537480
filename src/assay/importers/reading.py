"""A Record from what an importer read: one place where subject, conditions and source are put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from assay.core.artifact import digest_json
from assay.core.derive import Derived
from assay.core.record import Figure, Record
from assay.core.stats import needed_for_percentile
from assay.importers.devices import canonical, kind_of
from assay.importers.imported import Hints
from assay.importers.source import Source

DEVICE_ONLY = "device-only"
WITH_COPIES = "with copies"
END_TO_END = "end to end"
NOT_STATED = "not stated"
MEASURED = "measured"
COMPUTED = "computed"
EXTRAPOLATED = "extrapolated"


@dataclass(frozen=True)
class Basis:
    """What a rate counts: over which part of the way (``of``), what is one (``per`` sample or batch), for
    what (``scope``: a die, a card, a device), and whether it was counted, computed from a time, or
    extrapolated to what was not measured."""

    of: str
    per: str = "sample"
    how: str = MEASURED
    scope: str = "device"

    def to_json(self) -> dict[str, Any]:
        return {
            "basis": self.of,
            "per": self.per,
            "how": self.how,
            "measured": self.how == MEASURED,
            "scope": self.scope,
        }


@dataclass(frozen=True)
class Tool:
    """Who wrote the log: its name, its version as far as known, its engine."""

    name: str
    engine: str
    version: str | None = None
    protocol: str | None = None


@dataclass(frozen=True)
class Reading:
    """One measurement as read.  ``lines`` are (first, last) of the file; ``evidence`` says what it is:
    a ``log`` of the tool, a ``statement`` in a text, or a cell of a ``table``."""

    source: Source
    lines: tuple[int, int]
    tool: Tool
    hints: Hints
    basis: Basis | None = None
    evidence: str = "log"
    conditions: Mapping[str, Any] = field(default_factory=dict)


def record_of(
    reading: Reading, figures: Mapping[str, Figure], details: Mapping[str, Any] | None = None, kind: str = "measure"
) -> Record:
    """The Record; ``conditions`` carry the source (file, digest, lines) and the basis of every rate."""
    hints, tool = reading.hints, reading.tool
    log = reading.source.log(*reading.lines)
    return Record(
        kind=kind,
        subject={**_subject(hints, tool), **_engine_settings(reading.conditions)},
        figures=dict(figures),
        conditions={
            "imported": True,
            "tool": tool.name,
            "tool_version": tool.version,
            "protocol": tool.protocol or tool.name,
            **({} if hints.batch is None else {"batch": hints.batch}),
            "evidence": reading.evidence,
            **_bases(reading.basis, figures),
            **reading.conditions,
            "source_log": log,
        },
        details=dict(details or {}),
    )


def failed_record(reading: Reading, reason: str) -> Record:
    """A run that the log itself calls failed."""
    made = record_of(reading, {})
    return Record(made.kind, made.subject, "failed", {}, made.conditions, reason=reason)


def with_n(value: float, unit: str, n: int | None, name: str = "") -> Figure:
    """A figure with the number of observations, and the caveat where it is a percentile of too few."""
    reason = None
    share = _percentile_of(name)
    if n is not None and share is not None and n < needed_for_percentile(share):
        reason = f"{n} observations do not bound this percentile (needs {needed_for_percentile(share)})"
    return Figure(value, unit, n=n, reason=reason)


def milliseconds(values: Mapping[str, float], prefix: str = "latency", n: int | None = None) -> dict[str, Figure]:
    """``{"mean": 4.4, "p99": 5.4}`` in ms -> figures ``latency.mean``, ``latency.p99`` in seconds."""
    return {f"{prefix}.{name}": with_n(v / 1000, "s", n, name) for name, v in values.items()}


def rederived(figure: str, derived: Derived, tolerance: float) -> dict[str, Any]:
    """An entry of ``details["rederived"]``: the consistency check compares ``figure`` with it."""
    return {"figure": figure, "tolerance": tolerance, **derived.to_json()}


def _subject(hints: Hints, tool: Tool) -> dict[str, Any]:
    device = canonical(hints.device) if hints.device else None
    version = tool.version if tool.version is not None else hints.engine_version
    identity = [hints.model, tool.engine, hints.precision, device]
    return {
        "model": hints.model,
        "candidate": "imported-" + digest_json(identity)[:24],
        "engine": tool.engine,
        "engine_version": version,
        "precision": hints.precision,
        "device": kind_of(device) if device else None,
        "device_name": device,
        "batch": hints.batch,
    }


def _engine_settings(conditions: Mapping[str, Any]) -> dict[str, Any]:
    return {name: conditions.get(name) for name in ("threads", "streams")}


def _bases(basis: Basis | None, figures: Mapping[str, Figure]) -> dict[str, Any]:
    if basis is None:
        return {}
    rates = {
        name: {**basis.to_json(), "per": "batch" if figure.unit == "batches/s" else basis.per}
        for name, figure in figures.items()
        if figure.unit.endswith("/s")
    }
    return {**basis.to_json(), "rates": rates}


def _percentile_of(name: str) -> float | None:
    if not name.startswith("p") or name == "p50":
        return None
    try:
        share = float(name[1:]) / 100
    except ValueError:
        return None
    return share if 0 < share < 1 else None
