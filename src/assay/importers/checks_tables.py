"""Tables held against the logs and the texts around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assay.core import derive
from assay.core.record import Record
from assay.importers.checks_evidence import (
    about,
    agree,
    agree_values,
    batch,
    canonical,
    device,
    is_cell,
    is_evidence,
    logs,
    rate,
    source_word,
    where,
)
from assay.importers.imported import Finding


def cells(records: Sequence[Record]) -> Iterator[Finding]:
    """Every cell of a table: no log, or a log that says something else."""
    found = [r for r in records if is_cell(r) and batch(r) and r.subject.get("device_name")]
    unlogged = [c for c in found if not about(records, c)]
    if found and len(unlogged) == len(found) and not any(is_evidence(r) for r in records):
        text = f"none of the {len(found)} cells of this table has a log"
        yield Finding("table-without-logs", text, {"cells": float(len(found))}, where(found[0]))
        return
    for cell in found:
        evidence = about(records, cell)
        if not evidence:
            yield _unlogged(cell)
        elif not _supported(cell, evidence):
            yield _contradicted(cell, evidence)
    yield from _only_stated(records, found)


def _supported(cell: Record, evidence: Sequence[Record]) -> bool:
    """A log that agrees, by any of its readings; where there is no log, a text that agrees."""
    return any(agree(cell, r) for r in (logs(evidence) or evidence))


def _unlogged(cell: Record) -> Finding:
    name = _name(cell)
    return Finding("cell-without-log", f"{name} {rate(cell):.10g} has no log", {"cell": rate(cell)}, where(cell))


def _contradicted(cell: Record, evidence: Sequence[Record]) -> Finding:
    other = canonical(evidence)
    assert other is not None
    change = rate(cell) / rate(other) - 1
    text = (
        f"{_name(cell)} {rate(cell):.10g} is contradicted by the {source_word(other)} at {where(other)}: "
        f"{rate(other):.10g} samples/s ({change:+.1%})"
    )
    figures = {"cell": rate(cell), source_word(other): rate(other), "difference": change}
    return Finding("cell-contradicted", text, figures, where(cell), "contradiction")


def _only_stated(records: Sequence[Record], found: Sequence[Record]) -> Iterator[Finding]:
    """Cells that a text supports, but no log: one note for all of them."""
    stated = [c for c in found if (e := about(records, c)) and not logs(e) and _supported(c, e)]
    if stated:
        listed = ", ".join(_name(c) for c in stated)
        text = f"these cells agree with a figure the text states, but no log is given for them: {listed}"
        yield Finding("cell-only-stated", text, {"cells": float(len(stated))}, where(stated[0]), "note")


def statements(records: Sequence[Record]) -> Iterator[Finding]:
    """A figure in the text that the log of the same device and batch does not give."""
    for record in records:
        if record.conditions.get("evidence") != "statement" or rate(record) <= 0 or not batch(record):
            continue
        own = logs(about(records, record))
        other = canonical(own)
        if other is not None and not any(agree(record, r) for r in own):
            text = (
                f"the text says {rate(record):.10g} for {_name(record)}, the log at {where(other)} {rate(other):.10g}"
            )
            figures = {"text": rate(record), "log": rate(other)}
            yield Finding("statement-contradicted", text, figures, where(record), "contradiction")


def best_rows(records: Sequence[Record]) -> Iterator[Finding]:
    """What a row called best rests on."""
    for record in records:
        if not is_cell(record) or not record.conditions.get("best_row"):
            continue
        column = [
            r for r in records if is_cell(r) and batch(r) and device(r) == device(record) and _one_table(r, record)
        ]
        if not column:
            continue
        top = max(column, key=rate)
        if not agree(record, top):
            text = f"the best of {device(record)} is given as {rate(record):.10g}, but {_name(top)} is {rate(top):.10g}"
            figures = {"best": rate(record), "highest": rate(top)}
            yield Finding("best-is-not-the-highest", text, figures, where(record), "contradiction")
            continue
        yield from _support_of_best(records, record, top)


def _support_of_best(records: Sequence[Record], record: Record, top: Record) -> Iterator[Finding]:
    evidence = about(records, top)
    figures = {"best": rate(record), "batch": float(batch(top) or 0)}
    if not evidence and any(is_evidence(r) for r in records):
        text = f"the best of {device(record)} ({rate(record):.10g}) rests on {_name(top)}, which has no log"
        yield Finding("best-without-log", text, figures, where(record))
    elif evidence and not _supported(top, evidence):
        text = f"the best of {device(record)} ({rate(record):.10g}) rests on {_name(top)}, which its log contradicts"
        yield Finding("best-contradicted", text, figures, where(record))


def ratio_cells(records: Sequence[Record]) -> Iterator[Finding]:
    """Ratios of a table against the cells of the same row."""
    for record in records:
        if record.kind != "ratio" or record.conditions.get("evidence") != "table":
            continue
        row = [r for r in records if is_cell(r) and where(r) == where(record)]
        parts = [
            next((r for r in row if device(r) == record.conditions[k]), None) for k in ("numerator", "denominator")
        ]
        if parts[0] is None or parts[1] is None:
            continue
        expected = derive.ratio(rate(parts[0]), rate(parts[1])).value
        said = record.value("ratio") or 0.0
        if not agree_values(said, expected, 0.005 * expected):
            words = record.conditions["words"]
            text = f"the ratio {words} is given as {said:g}; the cells of its row make {expected:.6g}"
            yield Finding("ratio-arithmetic", text, {"said": said, "cells": expected}, where(record), "contradiction")


def _one_table(a: Record, b: Record) -> bool:
    one, other = (r.conditions["table"]["line"] for r in (a, b))
    return bool(one == other) and a.conditions["source_log"]["file"] == b.conditions["source_log"]["file"]


def _name(record: Record) -> str:
    return f"{device(record)} at batch {batch(record)}"
