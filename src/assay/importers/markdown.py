"""Markdown documents: fenced logs, pipe tables and stated figures, with the device and batch their
surroundings name.  A document without measurements gives no Records and says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from assay.core.errors import BadInput
from assay.core.record import Record
from assay.importers import timm_results, torchpipe
from assay.importers.context import (
    Document,
    about_performance,
    claimed_version,
    document_of,
    dumps_above,
    hints_at,
)
from assay.importers.devices import kind_of
from assay.importers.document import blocks, is_document
from assay.importers.imported import Hints, Imported, Importer
from assay.importers.source import Source
from assay.importers.statements import Place, statements
from assay.importers.table_cells import Around, cell_records
from assay.importers.tables import Table, tables

SURE = 0.9


@dataclass(frozen=True)
class Markdown:
    """``embedded`` are the importers for the logs inside a document, by name; without them only tables
    and statements are read."""

    embedded: Mapping[str, Importer] | None = None

    def confidence(self, source: Source) -> float:
        if is_document(source.text):
            return 1.0
        return 0.3 if source.name.lower().endswith((".md", ".markdown")) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        document = document_of(blocks(source))
        logs = self._logs(source, document)
        found = Imported()
        for i, block in enumerate(document.blocks):
            here = hints_at(document, i, hints, frozenset(logs))
            part = source.part(block.first, block.last)
            if i in logs:
                here = _plausible(logs[i], here, hints)
                found += _read_log(self._importers[logs[i]], part, here, _Extras(document, i))
            elif block.kind == "table":
                found += _read_table(part, here, hints, _Extras(document, i))
            elif block.kind == "text":
                found += _read_text(part, here, document)
        records = _without_repeats(found.records)
        warnings = found.warnings
        if not records:
            warnings = (*warnings, f"{source.path}: no measurement found in this document")
        return Imported(tuple(records), found.findings, warnings)

    @property
    def _importers(self) -> Mapping[str, Importer]:
        return self.embedded or {}

    def _logs(self, source: Source, document: Document) -> dict[int, str]:
        """Which blocks are logs, and of whom."""
        found: dict[int, str] = {}
        for i, block in enumerate(document.blocks):
            if block.kind in ("fence", "text"):
                part = source.part(block.first, block.last)
                sure = [name for name, importer in self._importers.items() if importer.confidence(part) >= SURE]
                if sure and (block.kind == "fence" or _reads(self._importers[sure[0]], part)):
                    found[i] = sure[0]
        return found


@dataclass(frozen=True)
class _Extras:
    """A block's place in its document."""

    document: Document
    index: int

    def conditions(self, record: Record) -> dict[str, Any]:
        """What only the document knows about a log's Record."""
        if record.kind == "evaluate":
            return {"scored_from": dumps_above(self.document, self.index)}
        if record.conditions.get("tool") == "trtexec":
            return {"claimed_version": claimed_version(self.document, self.index)}
        return {}


def _plausible(tool: str, here: Hints, given: Hints) -> Hints:
    """Without what the words around a log cannot mean for its tool: a CPU under an accelerator's tool, a
    batch size for requests of one sample."""
    if tool.startswith(("trtexec", "torchpipe")) and here.device and kind_of(here.device) == "cpu":
        here = replace(here, device=given.device)
    return replace(here, batch=given.batch) if tool.startswith("torchpipe") else here


def _reads(importer: Importer, part: Source) -> bool:
    """Whether a text really is a log: prose that only quotes one is not."""
    try:
        return bool(importer.read(part, Hints()).records)
    except BadInput:
        return False


def _read_log(importer: Importer, part: Source, hints: Hints, extras: _Extras) -> Imported:
    try:
        found = importer.read(part, hints)
    except BadInput as error:
        return Imported(warnings=(f"{error.message} (a log inside the document, left out)",))
    records = tuple(replace(r, conditions={**r.conditions, **extras.conditions(r)}) for r in found.records)
    return Imported(records, found.findings, found.warnings)


def _read_table(part: Source, here: Hints, given: Hints, extras: _Extras) -> Imported:
    found = Imported()
    for table in tables(part):
        try:
            found += _one_table(table, here, given, extras)
        except BadInput as error:
            found += Imported(warnings=(f"{error.message} (a table inside the document, left out)",))
    return found


def _one_table(table: Table, here: Hints, given: Hints, extras: _Extras) -> Imported:
    if torchpipe.is_torchpipe(table):
        return torchpipe.read_table(table, _plausible("torchpipe", here, given))
    if timm_results.is_timm_results(table.header[1]):
        return timm_results.read_table(table, here)
    document, index = extras.document, extras.index
    around = Around(document, here, about_performance(document, index))
    folder = dumps_above(document, index)
    records = [
        replace(r, conditions={**r.conditions, "scored_from": folder}) if r.kind == "evaluate" else r
        for r in cell_records(table, around)
    ]
    return Imported(tuple(records))


def _read_text(part: Source, hints: Hints, document: Document) -> Imported:
    records: list[Record] = []
    for line, text in part.numbered():
        records.extend(statements(Place(part, line, document, hints), text))
    return Imported(tuple(records))


def _without_repeats(records: Sequence[Record]) -> list[Record]:
    """A log that is printed twice counts once; the Record keeps where it is repeated."""
    kept: dict[Any, Record] = {}
    for record in records:
        key = _content(record)
        if key in kept and record.conditions["evidence"] != "table":
            first = kept[key]
            log = first.conditions["source_log"]
            again = [*log.get("repeated", []), record.conditions["source_log"]["lines"]]
            repeated = {**log, "repeated": again}
            kept[key] = replace(first, conditions={**first.conditions, "source_log": repeated})
        else:
            kept[key if key not in kept else (key, len(kept))] = record
    return list(kept.values())


def _content(record: Record) -> Any:
    conditions = record.conditions
    figures = tuple(sorted((name, f.value or 0.0, f.unit) for name, f in record.figures.items()))
    subject = tuple(str(record.subject[key]) for key in ("candidate", "batch"))
    said = tuple(str(conditions.get(key)) for key in ("tool", "basis", "scope", "numerator", "denominator", "evidence"))
    return record.kind, subject, said, figures
