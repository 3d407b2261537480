"""MLPerf LoadGen's mlperf_log_detail.txt: one ``:::MLLOG {json}`` a line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.core.record import Figure
from assay.importers.imported import Hints, Imported
from assay.importers.loadgen_summary import Facts, finish, loadgen_reading, percentile_name
from assay.importers.reading import with_n
from assay.importers.source import Source, not_negative, positive, whole

_MARK = ":::MLLOG"
_RATES = ("result_completed_samples_per_sec", "result_samples_per_second", "result_qps_with_loadgen_overhead")
_PERCENTILE = re.compile(r"^result_([\d.]+)_percentile_latency_ns$")
_TIMES = {f"result_{name}_latency_ns": name for name in ("min", "max", "mean")}

Entries = Mapping[str, tuple[int, Any]]


@dataclass(frozen=True)
class LoadGenDetail:
    """One Record, with LoadGen's own errors and warnings."""

    def confidence(self, source: Source) -> float:
        return 1.0 if source.text.lstrip().startswith(_MARK) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        entries, notes = _entries(source)
        if "result_validity" not in entries:
            raise source.bad(source.last_line, "no result_validity: the run did not end, or the log is cut")
        queries = _whole(source, entries, "result_query_count")
        facts = Facts(
            scenario=_text(entries, "effective_scenario", "requested_scenario"),
            mode=_text(entries, "effective_test_mode", "requested_test_mode"),
            valid=_text(entries, "result_validity"),
            queries=queries,
            samples_per_query=_whole(source, entries, "effective_samples_per_query"),
        )
        reading = loadgen_reading(source, hints, _version(entries), facts)
        failed = tuple(k for k, (_, v) in entries.items() if k.endswith("_met") and v is False)
        return Imported((finish(reading, _figures(source, entries, queries), facts, failed),), warnings=notes)


def _entries(source: Source) -> tuple[dict[str, tuple[int, Any]], tuple[str, ...]]:
    """key -> (line, value), the last one counts; and what LoadGen marked as error or warning."""
    found: dict[str, tuple[int, Any]] = {}
    notes: list[str] = []
    for line, text in source.numbered():
        if not text.strip():
            continue
        if not text.startswith(_MARK):
            raise source.bad(line, f"the line does not begin with {_MARK}")
        try:
            entry = json.loads(text[len(_MARK) :])
            key, value = str(entry["key"]), entry["value"]
            metadata = entry.get("metadata") or {}
            marked = [sort for sort in ("error", "warning") if metadata.get(f"is_{sort}") is True]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise source.bad(line, f"not an entry with key and value ({type(error).__name__})") from error
        found[key] = (line, value)
        if marked:
            notes.append(f"{source.at(line)}: LoadGen's own {marked[0]}: {str(value)[:200]}")
    return found, tuple(notes)


def _figures(source: Source, entries: Entries, queries: int | None) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for key, (line, value) in entries.items():
        if key in _RATES and "throughput" not in figures:
            figures["throughput"] = Figure(positive(source, line, value, key), "samples/s")
        elif key == "result_scheduled_samples_per_sec":
            figures["throughput.scheduled"] = Figure(positive(source, line, value, key), "samples/s")
        elif key in _TIMES:
            figures[f"latency.{_TIMES[key]}"] = Figure(not_negative(source, line, value, key) / 1e9, "s", n=queries)
        elif match := _PERCENTILE.match(key):
            name = percentile_name(source, line, match[1])
            figures[f"latency.{name}"] = with_n(not_negative(source, line, value, key) / 1e9, "s", queries, name)
    return figures


def _text(entries: Entries, *keys: str) -> str:
    return next((str(entries[key][1]) for key in keys if key in entries), "not stated")


def _whole(source: Source, entries: Entries, key: str) -> int | None:
    if key not in entries:
        return None
    line, value = entries[key]
    return whole(source, line, value, key)


def _version(entries: Entries) -> str | None:
    text = _text(entries, "loadgen_version")
    return None if text == "not stated" else text.split(" ")[0]
