"""What one measured speed is a speed of, and in which of these two of them differ.

Something that is not stated is neither equal nor unequal to anything: it is told apart from a
difference, so that a log's silence is named and not taken for agreement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.core.record import Figure, Record

CATEGORIES = ("precision", "batch", "data", "scenario", "basis", "protocol", "environment", "model")
"""What may be allowed to differ by name, in the order in which differences are told."""

WITH_COPIES = "with copies"
DIE = "die"
_EVIDENCE = {"log": 0, None: 0, "text": 1, "statement": 1, "table": 2}
_HOW = {"measured": 0, None: 0, "extrapolated": 1, "computed": 2}
_BASES = ("device-only", WITH_COPIES, "end to end")
_HOST = ("cores_granted", "governor", "thread_env")
_PROCESSOR = ("cpu", "cpu_flags")
_UNSTATED = ("not stated", "", None)


@dataclass(frozen=True)
class Case:
    """One Record's figure with everything it must be compared under; None: not stated.

    ``state`` is the accuracy state in words (every speed stands beside it).  ``scope`` is ``die`` where a
    card has several and only one was measured.  ``evidence`` is ``log``, ``statement`` or ``table`` for
    imported figures.
    """

    run: str
    record: Record
    figure: Figure
    state: str
    model: str | None
    engine: str | None
    precision: str | None
    device: str | None
    batch: int | None
    threads: Any
    streams: Any
    scenario: str | None
    basis: str | None
    scope: str | None
    evidence: str | None

    @property
    def value(self) -> float | None:
        return self.figure.value

    @property
    def standing(self) -> tuple[int, int, int]:
        """How far a figure is from a measurement that can be looked up: logs before words before tables,
        counted before computed, the narrower basis first.  Smaller is better."""
        how = self.record.conditions.get("how")
        place = _BASES.index(self.basis) if self.basis in _BASES else len(_BASES)
        return _EVIDENCE.get(self.evidence, 2), _HOW.get(how, 2), place

    @property
    def claimed(self) -> bool:
        """Whether it stands in a table alone, with neither a log nor a calculation to look up."""
        return _EVIDENCE.get(self.evidence, 2) == _EVIDENCE["table"]

    @property
    def marks(self) -> tuple[str, ...]:
        """What must be said of the figure itself."""
        how = self.record.conditions.get("how")
        found = [str(how)] if how not in ("measured", None) else []
        if self.evidence in ("table", "text", "statement"):
            found.append("from a table" if self.evidence == "table" else "from the text")
        if self.record.label not in ("stable", None):
            found.append(str(self.record.label))
        found += list(dict.fromkeys(text.partition(":")[0] for text in self.record.warnings))
        silent = [name for name in ("precision", "basis") if getattr(self, name) is None]
        return (*found, *([f"{' and '.join(silent)} not stated"] if silent else []))


def case_of(run: str, record: Record, figure: str, state: str) -> Case:
    """The Case of a speed Record; a figure it does not have is withheld."""
    subject, conditions = record.subject, record.conditions
    imported = bool(conditions.get("imported"))
    batch = conditions.get("batch", subject.get("batch"))
    reason = f"{record.status}: {record.reason}" if record.status != "ok" else "it was not measured"
    return Case(
        run=run,
        record=record,
        figure=record.figures.get(figure) or Figure(None, "", reason=reason),
        state=state,
        model=_text(subject.get("model")),
        engine=_text(subject.get("engine")),
        precision=_text(subject.get("precision")),
        device=_text(subject.get("device_name") or subject.get("device")),
        batch=batch if isinstance(batch, int) else None,
        threads=subject.get("threads"),
        streams=subject.get("streams"),
        scenario=_text(conditions.get("scenario")),
        basis=_text(conditions.get("basis")) or (None if imported else WITH_COPIES),
        scope=DIE if conditions.get("scope") == DIE else None,
        evidence=_text(conditions.get("evidence")),
    )


def differences(case: Case, other: Case) -> dict[str, str]:
    """By category, in words, everything both state and state differently.  The device and the engine are
    what is compared and no difference in this sense; a processor belongs to its device."""
    found = {
        name: f"{name} {_shown(a)} against {_shown(b)}"
        for name in ("precision", "batch", "scenario", "basis", "model")
        if (a := getattr(case, name)) is not None and (b := getattr(other, name)) is not None and a != b
    }
    if text := _data(case.record, other.record):
        found["data"] = text
    if text := _protocol(case.record, other.record):
        found["protocol"] = text
    if text := _environment(case, other):
        found["environment"] = text
    return {name: found[name] for name in CATEGORIES if name in found}


def one_sided_environment(case: Case, other: Case) -> bool:
    """Whether only one of the two says on what machine it was measured."""
    return bool(case.record.environment) != bool(other.record.environment)


def _data(a: Record, b: Record) -> str | None:
    for name in ("data", "real_data", "sizes"):
        one, two = a.conditions.get(name), b.conditions.get(name)
        if one not in _UNSTATED and two not in _UNSTATED and one != two:
            return f"{name.replace('_', ' ')} {_shown(one)} against {_shown(two)}"
    return None


def _protocol(a: Record, b: Record) -> str | None:
    """Two versions of one tool that measure different things; two tools are two engines' and are compared
    by their basis."""
    if a.conditions.get("tool") != b.conditions.get("tool"):
        return None
    one, two = (r.conditions.get("protocol") for r in (a, b))
    return f"protocol {_shown(one)} against {_shown(two)}" if one and two and one != two else None


def _environment(case: Case, other: Case) -> str | None:
    a, b = case.record.environment, other.record.environment
    if not a or not b:
        return None
    names = _HOST if case.device != other.device else (*_PROCESSOR, *_HOST)
    parts = [f"{n} {_shown(a.get(n))} against {_shown(b.get(n))}" for n in names if _plain(a, n) != _plain(b, n)]
    return ", ".join(parts) or None


def _plain(environment: Mapping[str, Any], name: str) -> Any:
    """A tuple becomes a list when a Record is read back."""
    value = environment.get(name)
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    return "not stated" if value is None else str(value)


def _text(value: object) -> str | None:
    return None if value in _UNSTATED else str(value)
