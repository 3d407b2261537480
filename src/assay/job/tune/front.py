"""The Pareto front of everything that was measured: accuracy, latency, throughput, memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from assay.core.record import Figure, Record
from assay.judge.pareto import front
from assay.present.rows import accuracy_of, numeric_of


@dataclass(frozen=True)
class Member:
    """One configuration on the front.  ``accuracy`` is its own, None where it was not evaluated."""

    subject: dict[str, Any]
    batch: int
    scenario: str
    throughput: Figure
    latency: Figure
    memory: Figure | None
    accuracy: Figure | None
    numerics: str

    def to_json(self) -> dict[str, Any]:
        figures = {"throughput": self.throughput, "latency.p50": self.latency}
        figures |= {"memory.peak": self.memory} if self.memory else {}
        figures |= {"accuracy": self.accuracy} if self.accuracy else {}
        return {
            **{name: self.subject.get(name) for name in ("candidate", "engine", "precision")},
            **{name: self.subject.get(name) for name in ("threads", "streams", "instances")},
            "batch": self.batch,
            "scenario": self.scenario,
            "numerics": self.numerics,
            "figures": {name: figure.to_json() for name, figure in figures.items()},
        }


def pareto(records: Sequence[Record], scenario: str) -> list[Member]:
    """Configurations that none beats in throughput, latency and memory, and in accuracy where it was evaluated.

    Only those whose outputs were compared and found in order.  The accuracy a configuration is ranked by is
    its own, else that of the same engine and precision with other settings; only its own is shown.
    """
    members = _members(records, scenario)
    by_family = {_family(m): m.accuracy.value for m in members if m.accuracy is not None}
    accuracies = [m.accuracy.value if m.accuracy is not None else by_family.get(_family(m)) for m in members]
    known = any(value is not None for value in accuracies)
    points: list[tuple[float | None, ...]] = []
    for member, accuracy in zip(members, accuracies, strict=True):
        assert member.throughput.value is not None
        assert member.latency.value is not None
        memory = -member.memory.value if member.memory and member.memory.value is not None else None
        points.append((member.throughput.value, -member.latency.value, memory, *([accuracy] if known else [])))
    return [members[place] for place in front(points)]


def _members(records: Sequence[Record], scenario: str) -> list[Member]:
    found: dict[tuple[str, int], Member] = {}
    for record in records:
        measured = record.kind in ("measure", "confirm") and record.status == "ok"
        if not measured or record.conditions.get("scenario") != scenario or record.details.get("role"):
            continue
        digest, batch = record.subject.get("candidate"), int(record.conditions["batch"])
        rate, delay = record.figures.get("throughput"), record.figures.get("latency.p50")
        numeric = numeric_of(digest, records)
        if digest is None or not _usable(rate, delay) or numeric.name not in _IN_ORDER:
            continue
        own = accuracy_of(digest, records)
        assert rate is not None
        assert delay is not None
        memory = record.figures.get("memory.peak")
        found[digest, batch] = Member(
            dict(record.subject), batch, scenario, rate, delay, memory, own.figure, str(numeric.name)
        )
    return list(found.values())


_IN_ORDER = ("reference", "equal", "within tolerance", "within format cost")


def _usable(rate: Figure | None, delay: Figure | None) -> bool:
    return rate is not None and rate.value is not None and delay is not None and delay.value is not None


def _family(member: Member) -> tuple[Any, Any]:
    return member.subject.get("engine"), member.subject.get("precision")
