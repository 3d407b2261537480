"""Reports of a run, from its Records and the raw values beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from assay.core.record import Figure, Record
from assay.core.table import resolve
from assay.core.verdict import Verdict
from assay.job.folder import write_text
from assay.job.raw_series import series_of
from assay.job.report_evidence import diagnoses_beside, evidence_of
from assay.judge.accuracy import LIMIT, drop_of
from assay.judge.pareto import front
from assay.present import FORMATS, SUFFIXES
from assay.present.rows import Report, Row, table_rows


def report_content(records: Sequence[Record], verdict: Verdict | None, about: Mapping[str, Any]) -> Report:
    """What every format is written from; ``about`` is the run's ``run.json``."""
    best = about.get("best") or {}
    return Report(
        title=str(about.get("model", "")),
        records=tuple(records),
        verdict=verdict,
        chosen=best.get("candidate"),
        chosen_batch=best.get("batch"),
        about=about,
        drops=_drops(records),
    )


def _drops(records: Sequence[Record]) -> dict[str, Figure]:
    """By record id, what the verdict judges where samples are not right or wrong and so no paired drop was recorded."""
    withheld = [r for r in records if r.kind == "evaluate" and LIMIT in r.figures and r.figures[LIMIT].value is None]
    return {record.id: drop_of(record, records) for record in withheld}


def write_reports(
    folder: Path, records: Sequence[Record], verdict: Verdict | None, about: Mapping[str, Any]
) -> list[Path]:
    """Write ``report.*`` in every format of the table; diagnoses in ``diagnose*.json`` of the folder belong to it."""
    records = [*records, *diagnoses_beside(folder)]
    content = report_content(records, verdict, about)
    content = replace(
        content,
        series=series_of(folder, records),
        fronts=fronts_of(table_rows(content)),
        evidence=evidence_of(folder, records),
    )
    return [
        write_text(folder / f"report{SUFFIXES[name]}", resolve(FORMATS, name, "report format")(content))
        for name in FORMATS
    ]


def fronts_of(rows: Sequence[Row]) -> dict[str, tuple[int, ...]]:
    """The rows that none beats in throughput together with latency, and together with accuracy."""
    rates = [_value(row, "throughput") for row in rows]
    delays = [_value(row, "latency.p50") for row in rows]
    haste = [None if delay is None else -delay for delay in delays]
    scores = [row.accuracy.figure.value if row.accuracy.figure else None for row in rows]
    return {
        "latency": front(list(zip(rates, haste, strict=True))),
        "accuracy": front(list(zip(rates, scores, strict=True))),
    }


def _value(row: Row, name: str) -> float | None:
    figure = row.speeds.get(name)
    return None if figure is None else figure.value
