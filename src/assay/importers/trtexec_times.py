"""trtexec ``--exportTimes``: one object per query, all times in ms.

Quirks: 7.x names the copies In/Out; 7.1 and 7.2 swap the values of Enq and In (startEnq holds the input
copy); 8.0 and 8.2 add endToEndMs; before 8.5 the list begins with the warm-up queries.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from assay.core import derive
from assay.core.record import Figure, Record, withheld
from assay.core.stats import percentile
from assay.importers.imported import Hints, Imported
from assay.importers.reading import (
    COMPUTED,
    DEVICE_ONLY,
    WITH_COPIES,
    Basis,
    Reading,
    Tool,
    milliseconds,
    record_of,
)
from assay.importers.source import Source, load_json, number
from assay.importers.trtexec_command import batch_in_name

WARMUP_MS = 200.0  # trtexec's own default
_KEY = re.compile(r'"(?:startEnqMs|startComputeMs)"\s*:')
_COMMON = ("startEnqMs", "endEnqMs", "startComputeMs", "endComputeMs", "computeMs", "latencyMs")
_NEW = (*_COMMON, "startH2dMs", "endH2dMs", "startD2hMs", "endD2hMs", "h2dMs", "d2hMs")
_OLD = (*_COMMON, "startInMs", "endInMs", "startOutMs", "endOutMs", "inMs", "outMs")
_RENAMED = {"startInMs": "startH2dMs", "endInMs": "endH2dMs", "startOutMs": "startD2hMs", "endOutMs": "endD2hMs"}
_RENAMED |= {"inMs": "h2dMs", "outMs": "d2hMs"}

Row = dict[str, float]


@dataclass(frozen=True)
class TrtexecTimes:
    """The trace of every query: percentiles are counted here, not copied."""

    def confidence(self, source: Source) -> float:
        head = source.text.lstrip()[:4000]
        return 1.0 if head.startswith("[") and _KEY.search(head) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        rows = _rows(source)
        warnings: list[str] = []
        old = "startInMs" in rows[0]
        rows = [{_RENAMED.get(k, k): v for k, v in row.items()} for row in rows]
        swapped = old and _is_swapped(rows)
        if swapped:
            rows = [_unswap(row) for row in rows]
            warnings.append(f"{source.path}: written by TensorRT 7.1 or 7.2, which swap enqueue and input copy; undone")
        kept, dropped = _without_warmup(rows, WARMUP_MS if hints.warmup_ms is None else hints.warmup_ms)
        if dropped:
            warnings.append(f"{source.path}: the first {dropped} of {len(rows)} queries are warm-up; left out")
        if not kept:
            raise source.bad(source.first_line, f"all {len(rows)} queries are warm-up; nothing was timed")
        format = "7.1-7.2" if swapped else "7" if old else "8.0-8.2" if "endToEndMs" in kept[0] else "8.4+"
        reading = _reading(source, hints, format, {"warmup_dropped": dropped, "swap_undone": swapped})
        return Imported((_whole(kept, reading), _compute(kept, reading)), warnings=tuple(warnings))


def _rows(source: Source) -> list[Row]:
    data = load_json(source)
    if not isinstance(data, list) or not data:
        raise source.bad(source.first_line, "exportTimes is a list of queries, and not empty")
    names: Sequence[str] = ()
    rows: list[Row] = []
    starts = [line for line, text in source.numbered() for _ in range(text.count('"startEnqMs"'))]
    for i, entry in enumerate(data):
        line = starts[i] if i < len(starts) else source.last_line
        if not isinstance(entry, dict):
            raise source.bad(line, f"query {i} is no object")
        names = names or (_OLD if "startInMs" in entry else _NEW)
        missing = [name for name in names if name not in entry]
        if missing:
            raise source.bad(line, f"query {i} has no {', '.join(missing)}")
        optional = [name for name in ("endToEndMs",) if name in entry]
        rows.append({name: number(source, line, entry[name], name) for name in (*names, *optional)})
    if any(len(row) != len(rows[0]) for row in rows):
        raise source.bad(source.first_line, "the queries do not all have the same fields")
    return rows


def _is_swapped(rows: Sequence[Row]) -> bool:
    """7.1/7.2: h2dMs is the length of the span that is called Enq."""
    as_named = sum(abs(r["endH2dMs"] - r["startH2dMs"] - r["h2dMs"]) for r in rows)
    exchanged = sum(abs(r["endEnqMs"] - r["startEnqMs"] - r["h2dMs"]) for r in rows)
    return exchanged < as_named


def _unswap(row: Row) -> Row:
    other = {"startEnqMs": "startH2dMs", "endEnqMs": "endH2dMs", "startH2dMs": "startEnqMs", "endH2dMs": "endEnqMs"}
    return {name: row[other.get(name, name)] for name in row}


def _without_warmup(rows: Sequence[Row], warmup_ms: float) -> tuple[list[Row], int]:
    """trtexec counts a query whose compute starts at or after the warm-up time.

    A list that begins after it was exported without warm-ups (8.5 and later).
    """
    kept = [row for row in rows if row["startComputeMs"] >= warmup_ms]
    return kept, len(rows) - len(kept)


def _reading(source: Source, hints: Hints, format: str, extra: dict[str, Any]) -> Reading:
    merged = replace(hints, batch=hints.batch or batch_in_name(source.name))
    conditions = {"log_format": format, **extra}
    tool = Tool("trtexec", "tensorrt", None, "trtexec" if format != "8.4+" else "trtexec-unversioned")
    return Reading(source, (source.first_line, source.last_line), tool, merged, conditions=conditions)


def _whole(rows: Sequence[Row], reading: Reading) -> Record:
    spans = {
        "latency": [r["latencyMs"] for r in rows],
        "latency.enqueue": [r["endEnqMs"] - r["startEnqMs"] for r in rows],
        "latency.h2d": [r["h2dMs"] for r in rows],
        "latency.compute": [r["computeMs"] for r in rows],
        "latency.d2h": [r["d2hMs"] for r in rows],
    }
    if "endToEndMs" in rows[0]:
        spans["latency.end_to_end"] = [r["endToEndMs"] for r in rows]
    figures: dict[str, Figure] = {}
    for prefix, values in spans.items():
        figures.update(milliseconds(_statistics(values), prefix, len(rows)))
    wall_s = (max(r["endD2hMs"] for r in rows) - min(r["startH2dMs"] for r in rows)) / 1000
    details: dict[str, Any] = {"queries": len(rows)}
    if wall_s > 0 and math.isfinite(wall_s):
        queries = derive.from_count(len(rows), wall_s)
        figures["throughput.queries"] = Figure(queries.value, "batches/s", n=len(rows))
        figures["throughput"] = _samples(queries.value, reading.hints.batch)
        details["derived"] = [{"figure": "throughput.queries", **queries.to_json()}]
    else:
        figures["throughput"] = withheld("samples/s", f"the trace lasts {wall_s:g} s")
    copies = any(r["h2dMs"] > 0 for r in rows)
    conditions = {**reading.conditions, "queries": len(rows), "duration_s": max(wall_s, 0.0) or None}
    basis = Basis(WITH_COPIES if copies else DEVICE_ONLY)
    return record_of(replace(reading, basis=basis, conditions=conditions), figures, details)


def _compute(rows: Sequence[Row], reading: Reading) -> Record:
    stats = _statistics([r["computeMs"] for r in rows])
    figures = milliseconds(stats, "latency", len(rows))
    batch = reading.hints.batch
    if batch and stats["mean"] > 0:
        figures["throughput"] = Figure(derive.from_mean_time(stats["mean"] / 1000, batch).value, "samples/s")
    else:
        figures["throughput"] = _samples(0.0, None)
    return record_of(replace(reading, basis=Basis(DEVICE_ONLY, how=COMPUTED)), figures)


def _samples(queries_per_s: float, batch: int | None) -> Figure:
    if batch is None or queries_per_s <= 0:
        return withheld("samples/s", "the batch size is not in the export (give --batch)")
    return Figure(derive.from_queries(queries_per_s, batch).value, "samples/s")


def _statistics(values: Sequence[float]) -> dict[str, float]:
    array = np.asarray(values, dtype=np.float64)
    shares = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    return {
        "min": float(array.min()),
        "max": float(array.max()),
        "mean": float(np.mean(array)),
        **{name: percentile(array, share) for name, share in shares.items()},
    }
