"""What a report shows besides the table, read from Records and from what lies beside them.

Everything is read defensively: a Record of another version, or one whose details were cut, gives nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from assay.core import checked
from assay.core.errors import BadInput
from assay.core.record import Record
from assay.job.pictures import load_pictures
from assay.present.evidence import Divergence, Errors, Evidence, Operator, StageBar, StageError, Waterfall

STAGES = ("read", "preprocess", "infer", "post")
MOST_OPERATORS = 400
MOST_ERRORS = 120


def evidence_of(folder: Path, records: Sequence[Record]) -> Evidence:
    """``folder`` is the run's, where the pictures lie."""
    pictures, labels = load_pictures(folder)
    return Evidence(
        waterfalls=tuple(w for r in records if r.kind == "evaluate" if (w := _waterfall(r))),
        errors=tuple(_errors(records)),
        divergences=tuple(d for r in records if r.kind == "diagnose" if (d := _divergence(r))),
        pictures=pictures,
        labels=labels,
    )


def diagnoses_beside(folder: Path) -> list[Record]:
    """Diagnoses in ``diagnose*.json`` of the folder, as ``assay diagnose … --json RUN/diagnose.json`` writes them.

    What is none is passed over: the file may be anybody's.
    """
    found: list[Record] = []
    for path in sorted((*folder.glob("diagnose*.json"), *folder.glob("diagnose/*.json"))):
        try:
            value = checked.loads(path.read_text(encoding="utf-8"))
            told = value.get("records", []) if isinstance(value, Mapping) else []
            found += [r for r in map(Record.from_json, told) if r.kind == "diagnose"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, BadInput):
            continue
    return found


def _waterfall(record: Record) -> Waterfall | None:
    """From ``details["pipeline"]``: ``{"e2e", "stages": {name: {"rate", "module_s", "utilisation"}}}``, where
    ``module_s`` is seconds a sample, for ``post`` seconds a batch of ``subject["batch"]`` samples."""
    told = record.details.get("pipeline")
    stages = told.get("stages") if isinstance(told, Mapping) else None
    if not isinstance(told, Mapping) or not isinstance(stages, Mapping):
        return None
    bars: list[StageBar] = []
    start = 0.0
    for name in (*STAGES, *(n for n in stages if n not in STAGES)):
        stage = stages.get(name)
        if not isinstance(stage, Mapping) or (busy := _number(stage.get("module_s"))) is None:
            continue
        rows = record.subject.get("batch") or 1
        share = rows if name == "post" and isinstance(rows, int) else 1
        rate = _number(stage.get("rate"))
        bars.append(
            StageBar(
                name,
                start,
                busy / share,
                None if rate is None else rate * share,
                _number(stage.get("utilisation")),
                _number(stage.get("interface_rate")),
            )
        )
        start += busy / share
    held = record.details.get("bottleneck")
    text = f"{held.get('stage')} holds it back: {held.get('why')}" if isinstance(held, Mapping) else None
    return Waterfall(record.id, _title(record), _number(told.get("e2e")), tuple(bars), text) if bars else None


def _errors(records: Sequence[Record]) -> Iterable[Errors]:
    """Of every verification, each output at the largest batch size that was compared."""
    found = 0
    for record in records:
        outputs = record.details.get("outputs") if record.kind == "verify" and record.status == "ok" else None
        if not isinstance(outputs, Mapping) or not outputs:
            continue
        batch = max(outputs, key=lambda b: int(b) if str(b).isdigit() else 0)
        for name, told in outputs[batch].items() if isinstance(outputs[batch], Mapping) else ():
            made = _histogram(record, str(batch), str(name), told)
            if made is not None and found < MOST_ERRORS:
                found += 1
                yield made


def _histogram(record: Record, batch: str, output: str, told: Any) -> Errors | None:
    counts = told.get("histogram") if isinstance(told, Mapping) else None
    n = _number(told.get("n")) if isinstance(told, Mapping) else None
    if not isinstance(counts, list | tuple) or not n:
        return None
    pairs = [p for p in counts if isinstance(p, list | tuple) and len(p) == 2 and all(isinstance(v, int) for v in p)]
    engine, precision = (str(record.subject.get(k) or "") for k in ("engine", "precision"))
    equal = int(_number(told.get("equal")) or 0)
    return Errors(
        record.id, _title(record), engine, precision, output, batch, tuple((e, c) for e, c in pairs), equal, int(n)
    )


def _divergence(record: Record) -> Divergence | None:
    details = record.details
    rows = details.get("stages")
    if record.status != "ok" or not isinstance(rows, list | tuple):
        return None
    guilty = _mappings(details.get("guilty"))
    bad = {str(p.get("tensor")): p for p in guilty}
    pieces = _mappings(details.get("pieces")) or guilty
    stage, notes = details.get("guilty_stage"), details.get("notes")
    return Divergence(
        record.id,
        _title(record),
        None if stage is None else str(stage),
        tuple(_stage(row) for row in _mappings(rows)),
        tuple(_operator(p, bad.get(str(p.get("tensor")))) for p in pieces[:MOST_OPERATORS]),
        tuple(map(str, notes)) if isinstance(notes, list | tuple) else (),
    )


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """The objects in what should be a list of them."""
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list | tuple) else []


def _stage(row: Mapping[str, Any]) -> StageError:
    added, due, total = (_number(row.get(k)) for k in ("added", "due", "total"))
    return StageError(
        str(row.get("name")), str(row.get("state") or ""), added, due, total, text=str(row.get("text") or "")
    )


def _operator(piece: Mapping[str, Any], guilty: Mapping[str, Any] | None) -> Operator:
    nodes = [f"{n.get('op')} {n.get('name')}" for n in _mappings(piece.get("nodes"))]
    origins = (guilty or {}).get("origins")
    origin = next(iter(origins.values()), "") if isinstance(origins, Mapping) else ""
    local, accumulated, due = (_number(piece.get(k)) for k in ("local", "accumulated", "due"))
    return Operator(
        str(piece.get("tensor")),
        ", ".join(nodes[:6]) + (" …" if len(nodes) > 6 else ""),
        local,
        accumulated,
        due,
        guilty is not None,
        _place(origin),
    )


def _place(origin: Any) -> str:
    """A provenance as text: its parts that are text, file and line last."""
    if isinstance(origin, Mapping):
        return ", ".join(str(v) for v in origin.values() if isinstance(v, str | int) and str(v))
    return str(origin)


def _title(record: Record) -> str:
    subject = record.subject
    return " ".join(str(subject[n]) for n in ("run", "engine", "precision") if subject.get(n)) or "unnamed"


def _number(value: Any) -> float | None:
    """A finite number, else None: infinities come back from JSON as text."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    with contextlib.suppress(OverflowError):  # an integer beyond any float
        return float(value) if math.isfinite(value) else None
    return None
