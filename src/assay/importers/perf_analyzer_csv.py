"""perf_analyzer ``-f``: one row per load level, times in µs, rows sorted by throughput, not by load.

``Inferences/Second`` counts samples: requests/s times the batch size, which the file does not hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.core.record import Figure, Record
from assay.importers.imported import Hints, Imported
from assay.importers.reading import END_TO_END, Basis, Reading, Tool, record_of, with_n
from assay.importers.source import Source, csv_dicts, not_negative, number, positive, read_csv, whole

_PERCENTILE = re.compile(r"^p([\d.]+) latency$")
_HEADER = re.compile(
    r"^(?=[^\n]*Inferences/Second,)(?:[^,\n]+,){4,}[^,\n]+$", re.M
)  # a shell prompt may stand above it
_PARTS = {
    "Client Send": "client_send",
    "Network+Server Send/Recv": "network",
    "Server Queue": "queue",
    "Server Compute": "compute",
    "Server Compute Input": "compute_input",
    "Server Compute Infer": "compute",
    "Server Compute Output": "compute_output",
    "Server Cache Hit": "cache_hit",
    "Server Cache Miss": "cache_miss",
    "Client Recv": "client_recv",
}


@dataclass(frozen=True)
class PerfAnalyzerCsv:
    """A Record per row."""

    def confidence(self, source: Source) -> float:
        return 1.0 if _HEADER.search(source.text) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        header = _HEADER.search(source.text)
        start = source.line_of(header.start()) if header else source.first_line
        table = source.part(start, source.first_line + len(source.lines) - 1)
        rows = csv_dicts(source, read_csv(table), "Inferences/Second")
        return Imported(tuple(_record(source, line, row, hints) for line, row in rows))


def _record(source: Source, line: int, row: Mapping[str, str], hints: Hints) -> Record:
    rate = positive(source, line, row["Inferences/Second"], "Inferences/Second")
    stated = whole(source, line, row["Batch Size"], "Batch Size") if row.get("Batch Size") else None
    merged = replace(hints, batch=hints.batch or stated)
    count = row.get("request_count") or row.get("Request Count")
    n = whole(source, line, count, "the number of requests") if count else None
    figures = {"throughput": Figure(rate, "samples/s")}
    if merged.batch:
        figures["throughput.requests"] = Figure(rate / merged.batch, "requests/s")
    parts_s = 0.0
    for name, text in row.items():
        if name in _PARTS:
            value_s = not_negative(source, line, text, name) / 1e6
            figures[f"latency.{_PARTS[name]}"] = Figure(value_s, "s")
            parts_s += value_s
        elif match := _PERCENTILE.match(name):
            value = not_negative(source, line, text, name) / 1e6
            figures[f"latency.p{match[1]}"] = with_n(value, "s", n, f"p{match[1]}")
    if row.get("Avg latency"):
        figures["latency.mean"] = Figure(not_negative(source, line, row["Avg latency"], "Avg latency") / 1e6, "s")
    conditions: dict[str, Any] = {"queries": n, "stated_batch": stated, "load": _load(source, line, row)}
    conditions["clients"] = conditions["load"].get("concurrency")
    reading = Reading(
        source,
        (line, line),
        Tool("perf_analyzer", "server", None, "perf_analyzer"),
        merged,
        Basis(END_TO_END),
        conditions=conditions,
    )
    return record_of(reading, figures, {"parts_s": parts_s or None, "gpus": _gpus(source, line, row)})


def _load(source: Source, line: int, row: Mapping[str, str]) -> dict[str, float]:
    if row.get("Concurrency"):
        return {"concurrency": whole(source, line, row["Concurrency"], "Concurrency")}
    if row.get("Request Rate"):
        return {"request_rate": positive(source, line, row["Request Rate"], "Request Rate")}
    return {}


def _gpus(source: Source, line: int, row: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """``uuid:value;uuid:value;`` columns."""
    found: dict[str, dict[str, float]] = {}
    for name, text in row.items():
        if re.fullmatch(r"(?:[^:;]+:[^:;]+;)+", text):
            pairs = [part.rsplit(":", 1) for part in text.rstrip(";").split(";")]
            found[name] = {uuid: number(source, line, value, name) for uuid, value in pairs}
    return found
