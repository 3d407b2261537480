"""onnxruntime_perf_test's console, both forms: ``Total inference requests`` with ``P99 Latency: x s`` of
today, ``Total iterations`` with ``P99 Latency is x sec`` of early versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.core import derive
from assay.core.record import Figure
from assay.importers.imported import Hints, Imported
from assay.importers.reading import WITH_COPIES, Basis, Reading, Tool, record_of, rederived, with_n
from assay.importers.source import Source, not_negative, positive, whole
from assay.importers.trtexec_command import model_name

_PAIR = re.compile(r"^\s*([A-Za-z][A-Za-z0-9 ]*?)\s*(?::| is )\s*(\S+?)\s*(ms|sec|s|%|bytes)?(?:\s*\(.*\))?\s*$")
_PERCENTILE = re.compile(r"^P(\d{2,4}) Latency$")
_AVERAGES = ("Average inference time cost total", "Average inference time cost", "Average time cost")
_UNITS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, None: 1.0}

Pairs = Mapping[str, tuple[int, str, str | None]]


@dataclass(frozen=True)
class OnnxRuntimePerfTest:
    """One Record: sequential runs at batch 1 unless a batch size is given as a hint."""

    def confidence(self, source: Source) -> float:
        found = re.search(r"^\s*Average (?:inference )?time cost(?: total)?:", source.text, re.M)
        known = re.search(r"Total (?:inference requests|iterations)\s*:", source.text)
        return 1.0 if found and known else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        pairs = _pairs(source)
        average = next((pairs[name] for name in _AVERAGES if name in pairs), None)
        if average is None:
            raise source.bad(source.first_line, "no average time in this log")
        mean_s = positive(source, average[0], average[1], "the average time") * _scale(source, average[0], average[2])
        counted = pairs.get("Total inference requests") or pairs.get("Total iterations")
        n = whole(source, counted[0], counted[1], "the number of requests") if counted else None
        wall = pairs.get("Total inference run time") or pairs.get("Total run time")
        wall_s = positive(source, wall[0], wall[1], "the run time") * _scale(source, wall[0], wall[2]) if wall else None
        figures, checks = _figures(source, pairs, (n, wall_s, mean_s))
        reading = _reading(source, hints, n, wall_s)
        batch = reading.hints.batch
        if batch and "throughput.requests" in figures:
            rate = figures["throughput.requests"].value or 0.0
            figures["throughput"] = Figure(derive.from_queries(rate, batch).value, "samples/s")
        warnings = () if hints.batch else (f"{source.path}: the batch size is not in the log; taken as 1 (--batch)",)
        return Imported((record_of(reading, figures, {"rederived": checks}),), warnings=warnings)


def _pairs(source: Source) -> Pairs:
    found: dict[str, tuple[int, str, str | None]] = {}
    for line, text in source.numbered():
        if match := _PAIR.match(text):
            found.setdefault(match[1], (line, match[2], match[3]))
    return found


def _figures(
    source: Source, pairs: Pairs, totals: tuple[int | None, float | None, float]
) -> tuple[dict[str, Figure], list[dict[str, Any]]]:
    n, wall_s, mean_s = totals
    figures = {"latency.mean": Figure(mean_s, "s", n=n)}
    for key, (line, text, unit) in pairs.items():
        if match := _PERCENTILE.match(key):
            digits = match[1]
            name = f"p{digits}" if len(digits) == 2 else f"p{digits[:2]}.{digits[2:]}"  # P999 is 99.9 %
            figures[f"latency.{name}"] = with_n(_seconds(source, line, text, unit), "s", n, name)
        elif key in ("Min Latency", "Max Latency"):
            figures[f"latency.{key[:3].lower()}"] = Figure(_seconds(source, line, text, unit), "s")
    if "Session creation time cost" in pairs:
        figures["open_time"] = Figure(_seconds(source, *pairs["Session creation time cost"]), "s")
    if "First inference time cost" in pairs:
        figures["latency.first"] = Figure(_seconds(source, *pairs["First inference time cost"]), "s")
    if "Peak working set size" in pairs:
        line, text, _ = pairs["Peak working set size"]
        figures["memory.peak"] = Figure(positive(source, line, text, "Peak working set size"), "B")
    checks: list[dict[str, Any]] = []
    if "Number of inferences per second" in pairs:
        line, text, _ = pairs["Number of inferences per second"]
        figures["throughput.requests"] = Figure(positive(source, line, text, "inferences per second"), "requests/s")
    if n and wall_s:
        counted = derive.from_count(n, wall_s)
        figures.setdefault("throughput.requests", Figure(counted.value, "requests/s"))
        checks.append(rederived("throughput.requests", counted, 0.02))
    figures.setdefault("throughput.requests", Figure(derive.from_count(1, mean_s).value, "requests/s"))
    return figures, checks


def _seconds(source: Source, line: int, text: str, unit: str | None) -> float:
    return not_negative(source, line, text, "a time") * _scale(source, line, unit)


def _scale(source: Source, line: int, unit: str | None) -> float:
    """Seconds in the unit of a time; a time without one is in seconds."""
    if unit not in _UNITS:
        raise source.bad(line, f"a time is given in {unit}")
    return _UNITS[unit]


def _reading(source: Source, hints: Hints, n: int | None, wall_s: float | None) -> Reading:
    text = source.text
    threads = re.search(r"Setting intra_op_num_threads to (\d{1,6})", text)
    provider = re.search(r"onnxruntime_perf_test\S*\s.*?-e[ =](\w+)", text)
    model = re.search(r"onnxruntime_perf_test\S*\s.*?(\S+\.onnx)\b", text)
    concurrent = re.search(r"onnxruntime_perf_test\S*\s.*?-c[ =](\d{1,6})", text)
    merged = replace(hints, batch=hints.batch or 1, model=hints.model or (model_name(model[1]) if model else None))
    conditions = {
        "queries": n,
        "duration_s": wall_s,
        "threads": int(threads[1]) if threads else None,
        "provider": provider[1] if provider else None,
        "clients": int(concurrent[1]) if concurrent else None,
        "batch_assumed": hints.batch is None,
    }
    tool = Tool("onnxruntime_perf_test", "onnxruntime", None, "onnxruntime_perf_test")
    lines = (source.first_line, source.last_line)
    return Reading(source, lines, tool, merged, Basis(WITH_COPIES), conditions=conditions)
