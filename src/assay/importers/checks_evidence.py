"""Which figures speak about the same thing, and whether two of them agree."""

from __future__ import annotations

import re
from collections.abc import Sequence

from assay.core.record import Record
from assay.importers.devices import dies_per_card
from assay.importers.reading import COMPUTED, END_TO_END, EXTRAPOLATED

AGREE = 0.002  # two figures within 0.2 %, or within their printed rounding, are one figure
MEASURES = ("measure", "confirm")


def where(record: Record, line: int | None = None) -> str:
    """``file:line`` of a Record's source."""
    log = record.conditions["source_log"]
    return f"{log['file']}:{line if line is not None else log['lines'][0]}"


def rate(record: Record) -> float:
    return record.value("throughput") or 0.0


def device(record: Record) -> str:
    return str(record.subject.get("device_name"))


def batch(record: Record) -> int | None:
    found = record.subject.get("batch")
    return int(found) if found else None


def is_evidence(record: Record) -> bool:
    """A rate that a log or a text gives, not a table."""
    return record.kind in MEASURES and record.conditions.get("evidence") != "table" and rate(record) > 0


def is_cell(record: Record) -> bool:
    return record.kind in MEASURES and record.conditions.get("evidence") == "table" and rate(record) > 0


def about(records: Sequence[Record], cell: Record) -> list[Record]:
    """The evidence about the same model, device, precision and batch as ``cell``: that of its own file, if any."""
    found = [
        r
        for r in records
        if is_evidence(r)
        and device(r) == device(cell)
        and batch(r) == batch(cell)
        and same_model(r, cell)
        and _compatible(r.subject.get("precision"), cell.subject.get("precision"))
    ]
    return [r for r in found if _file(r) == _file(cell)] or found


def logs(records: Sequence[Record]) -> list[Record]:
    return [r for r in records if r.conditions.get("evidence") == "log"]


def same_model(a: Record, b: Record) -> bool:
    """Model names differ in spelling between documents: one may be part of the other."""
    one, other = (_plain(r.subject.get("model")) for r in (a, b))
    return not one or not other or one in other or other in one


def agree(record: Record, other: Record) -> bool:
    """Whether two rates are one figure, to their printed digits."""
    return agree_values(rate(record), rate(other), _half_unit(record))


def agree_values(a: float, b: float, half_unit: float = 0.0) -> bool:
    return abs(a - b) <= max(AGREE * max(abs(a), abs(b)), half_unit)


def canonical(evidence: Sequence[Record]) -> Record | None:
    """The figure a comparison of cards should use: a log before a statement, the card before the die, what
    was counted before what was computed, the inference before the pipeline around it."""
    return min(evidence, key=_preference, default=None)


def _preference(record: Record) -> tuple[bool, bool, bool, bool]:
    conditions = record.conditions
    of_die = dies_per_card(device(record)) > 1 and conditions.get("scope") != "card"
    return (
        conditions.get("evidence") != "log",
        conditions.get("basis") == END_TO_END,
        of_die,
        conditions.get("how") in (COMPUTED, EXTRAPOLATED) and conditions.get("scope") != "card",
    )


def of_model(records: Sequence[Record], record: Record) -> list[Record]:
    """The Records about the same model as ``record``."""
    return [r for r in records if same_model(r, record)]


def model(record: Record) -> str:
    """The model's name without marks and capitals; empty where it is not known."""
    return _plain(record.subject.get("model"))


def best(records: Sequence[Record], name: str) -> Record | None:
    """The fastest canonical figure of a device over its batch sizes; ``records`` are about one model."""
    batches = {batch(r) for r in records if is_evidence(r) and device(r) == name} - {None}
    chosen = [
        canonical([r for r in records if is_evidence(r) and device(r) == name and batch(r) == b]) for b in batches
    ]
    return max((r for r in chosen if r is not None), key=rate, default=None)


def at_batch(records: Sequence[Record], name: str, size: int) -> Record | None:
    return canonical([r for r in records if is_evidence(r) and device(r) == name and batch(r) == size])


def source_word(record: Record) -> str:
    """How a person calls this evidence."""
    return "log" if record.conditions.get("evidence") == "log" else "text"


def _half_unit(record: Record) -> float:
    """Half a unit of the last digit a table cell prints."""
    text = str(record.details.get("cell", ""))
    match = re.search(r"\d(?:\.(\d+))?\D*$", text)
    return 0.5 * 10.0 ** -len(match[1] or "") if match and text else 0.0


def _file(record: Record) -> str:
    return str(record.conditions["source_log"]["file"])


def _compatible(a: object, b: object) -> bool:
    return not a or not b or a == b


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower()) if name else ""
