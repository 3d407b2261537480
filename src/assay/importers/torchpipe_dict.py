"""torchpipe's results as a printed Python dict: ``{40: {'QPS': …, 'TP50': …}}`` by clients (with the short or
the long names), or the flat ``{'num_clients': 10, 'throughput::qps': …}``.  Read as a literal; nothing is
evaluated."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.core.record import Record
from assay.importers.imported import Hints, Imported
from assay.importers.source import Source, whole
from assay.importers.torchpipe import column_record

_SHORT = {"QPS": "throughput::qps", "GPU Usage": "gpu_usage", "CPU Usage": "cpu_usage"}
_SHORT |= {f"TP{p}": f"latency::TP{p}" for p in ("50", "90", "99", "99.9", "99.99")}
_START = re.compile(r"\{\s*(?:\d+\s*:\s*\{|['\"])")
LONGEST = 1_000_000


@dataclass(frozen=True)
class TorchpipeDict:
    """A Record per dict, or per number of clients."""

    def confidence(self, source: Source) -> float:
        text = source.text[:LONGEST]
        flat = re.search(r"\{[^{}]*['\"]throughput::qps['\"]\s*:", text)
        by_clients = re.search(r"\{\s*['\"\w.-]+\s*:\s*\{[^{}]*['\"](?:QPS|throughput::qps)['\"]\s*:", text)
        return 1.0 if flat or by_clients else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        records: list[Record] = []
        for first, last, value in _literals(source):
            if not isinstance(value, dict):
                continue
            if "throughput::qps" in value:
                records.append(_record(source, (first, last), value, hints))
                continue
            for key, inner in value.items():
                if isinstance(inner, dict) and ("QPS" in inner or "throughput::qps" in inner):
                    renamed = {_SHORT.get(str(k), str(k)): v for k, v in inner.items()}
                    records.append(_keyed(source, (first, last), key, renamed, hints))
        if not records:
            raise source.bad(source.first_line, "no torchpipe result in this file")
        return Imported(tuple(records))


def _keyed(source: Source, lines: tuple[int, int], key: Any, values: Mapping[str, Any], hints: Hints) -> Record:
    """A dict under its number of clients, or under the name of its model."""
    if isinstance(key, str) and not key.isdecimal():
        return _record(source, lines, {"model": key, **values}, hints)
    return _record(
        source, lines, {"num_clients": whole(source, lines[0], key, "the number of clients"), **values}, hints
    )


def _literals(source: Source) -> list[tuple[int, int, Any]]:
    """(first line, last line, value) of every dict that starts in the text."""
    found: list[tuple[int, int, Any]] = []
    position = 0
    while match := _START.search(source.text, position):
        end = _closing(source.text, match.start())
        line = source.line_of(match.start())
        if end is None:
            raise source.bad(line, "a dict that does not end")
        text = source.text[match.start() : end]
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError) as error:
            raise source.bad(line, f"not a printed dict of plain values ({type(error).__name__})") from error
        found.append((line, source.line_of(end - 1), value))
        position = end
    return found


def _closing(text: str, start: int) -> int | None:
    depth, quote = 0, ""
    for i in range(start, min(len(text), start + LONGEST)):
        char = text[i]
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "{}":
            depth += 1 if char == "{" else -1
            if depth == 0:
                return i + 1
    return None


def _record(source: Source, lines: tuple[int, int], values: Mapping[Any, Any], hints: Hints) -> Record:
    if isinstance(values.get("model"), str) and values["model"]:
        hints = replace(hints, model=hints.model or values["model"])
    column = {str(k): (lines[0], "" if v is None else str(v)) for k, v in values.items()}
    return column_record(source, lines, column, hints)
