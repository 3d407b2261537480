"""torchpipe's throughput table: models as columns, figures as rows.

Row ``-k`` is the k-th slowest request.  The tool writes key ``-50`` twice, the second time with the
40th-slowest value, so the row called -50 is -40.  ``throughput::avg`` is derived (1000 · clients / qps).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.core.record import Figure, Record
from assay.importers.imported import Hints, Imported
from assay.importers.reading import DEVICE_ONLY, Basis, Reading, Tool, record_of, with_n
from assay.importers.source import Source, not_negative, positive, whole
from assay.importers.tables import Table, tables

_LATENCIES = {"latency::TP50": "p50", "latency::TP90": "p90", "latency::TP99": "p99", "latency::avg": "mean"}
_LATENCIES |= {"latency::TP99.9": "p99.9", "latency::TP99.99": "p99.99"}
_SLOWEST = {"-50": 40, "-40": 40, "-20": 20, "-10": 10, "-1": 1}

Column = Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class TorchpipeTable:
    """A Record per column."""

    def confidence(self, source: Source) -> float:
        if "throughput::qps" not in source.text or not any(is_torchpipe(t) for t in tables(source)):
            return 0.0
        return 1.0

    def read(self, source: Source, hints: Hints) -> Imported:
        found = Imported()
        for table in tables(source):
            if is_torchpipe(table):
                found += read_table(table, hints)
        if not found.records:
            raise source.bad(source.first_line, "no torchpipe table in this file")
        return found


def is_torchpipe(table: Table) -> bool:
    return any(row and row[0] == "throughput::qps" for _, row in table.rows)


def read_table(table: Table, hints: Hints) -> Imported:
    """A Record for every model column; an empty column is a malformed table."""
    source = table.source
    records = []
    for i, model in enumerate(table.header[1][1:], 1):
        column = {row[0]: (line, row[i]) for line, row in table.rows}
        if not column["throughput::qps"][1]:
            raise source.bad(table.header[0], f"column {model or i!r} has no throughput::qps")
        records.append(column_record(source, table.lines, column, replace(hints, model=model or hints.model)))
    return Imported(tuple(records))


def column_record(source: Source, lines: tuple[int, int], column: Column, hints: Hints) -> Record:
    """One model's figures, with the -50 row under its true name."""
    clients = _whole(source, column, "num_clients")
    total = _whole(source, column, "total_number")
    line, text = column["throughput::qps"]
    qps = positive(source, line, text, "throughput::qps")
    figures = {"throughput": Figure(qps, "samples/s", n=total)}
    for key, name in _LATENCIES.items():
        if key in column and column[key][1]:
            value = not_negative(source, *column[key], key) / 1000
            figures[f"latency.{name}"] = with_n(value, "s", total, name)
    for key, rank in _SLOWEST.items():
        if key in column and column[key][1]:
            name = "latency.max" if rank == 1 else f"latency.slowest_{rank}"
            figures[name] = Figure(not_negative(source, *column[key], key) / 1000, "s")
    if "throughput::avg" in column:
        figures["latency.derived"] = Figure(
            not_negative(source, *column["throughput::avg"], "throughput::avg") / 1000, "s"
        )
    reading = Reading(
        source,
        lines,
        Tool("torchpipe", "torchpipe", _version(column), "torchpipe"),
        hints,
        Basis(DEVICE_ONLY),
        conditions={
            "scenario": "clients",
            "clients": clients,
            "samples": total,
            "duration_s": total / qps if total else None,
            "counted_duration": False,
            "data": "one shared tensor on the device",
            "column": hints.model,
        },
    )
    return record_of(reading, figures, _details(source, column))


def _details(source: Source, column: Column) -> dict[str, Any]:
    details: dict[str, Any] = {"rows": {key: line for key, (line, _) in column.items()}}
    for key in ("cpu_usage", "gpu_usage"):
        if key in column:
            line, text = column[key]
            details[key] = None if text in ("", "-") else not_negative(source, line, text, key)
    return details


def _version(column: Column) -> str | None:
    return column["tool's version"][1].removesuffix(".0") or None if "tool's version" in column else None


def _whole(source: Source, column: Column, key: str) -> int | None:
    return whole(source, *column[key], key) if key in column and column[key][1] else None
