"""result.json of the Ascend metric scripts: all values are strings, top-k is cumulative, two decimals."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from assay.core.record import Figure
from assay.importers.imported import Hints, Imported
from assay.importers.reading import Reading, Tool, record_of
from assay.importers.source import Source, load_json, number, whole
from assay.importers.trtexec_command import batch_in_name

_TOP = re.compile(r"^Top(\d{1,3}) accuracy$")
_SCORED = re.compile(r"(\S*dumpOutput_device\d+\S*)")


@dataclass(frozen=True)
class AscendAccuracy:
    """One Record of kind ``evaluate`` per document; a file may hold several, one a line."""

    def confidence(self, source: Source) -> float:
        text = source.text.lstrip()
        return 1.0 if text.startswith("{") and '"key"' in text and re.search(r'"Top\d+ accuracy"', text) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        found: list[Any] = []
        for first, last, part in _documents(source):
            found.append(_record(source, (first, last), load_json(part), hints))
        return Imported(tuple(found))


def _documents(source: Source) -> list[tuple[int, int, Source]]:
    """The whole file as one document, or every line as one."""
    lines = [(n, text) for n, text in source.numbered() if text.strip()]
    if len(lines) > 1 and all(text.lstrip().startswith("{") and _is_json(text) for _, text in lines):
        return [(n, n, source.part(n, n)) for n, _ in lines]
    return [(lines[0][0], source.last_line, source)]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _record(source: Source, lines: tuple[int, int], data: Any, hints: Hints) -> Any:
    entries = data.get("value") if isinstance(data, dict) else None
    if not isinstance(entries, list) or not all(isinstance(e, dict) and {"key", "value"} <= set(e) for e in entries):
        raise source.bad(lines[0], "not a list of key and value, as vision_metric scripts write it")
    values = {str(e["key"]): e["value"] for e in entries}
    images = _count(source, lines[0], values, "Number of images")
    figures: dict[str, Figure] = {}
    for key, value in values.items():
        if match := _TOP.match(key):
            figures[f"accuracy.top{int(match[1])}"] = Figure(_share(source, lines[0], value, key), "fraction", n=images)
    if not figures:
        raise source.bad(lines[0], "no TopN accuracy in this result")
    stated = batch_in_name(source.name)
    reading = Reading(
        source,
        lines,
        Tool("vision_metric", "ascend", None, "ascend-accuracy"),
        replace(hints, batch=hints.batch or stated),
        conditions={"samples": images, "classes": _count(source, lines[0], values, "Number of classes")},
    )
    return record_of(reading, figures, {"primary": "accuracy.top1", "denominator": "files present"}, "evaluate")


def _share(source: Source, line: int, value: Any, key: str) -> float:
    text = str(value).strip()
    percent = number(source, line, text.removesuffix("%"), key)
    if not 0 <= percent <= 100:
        raise source.bad(line, f"{key} is {text}; an accuracy lies between 0 and 100 %")
    return percent / 100


def _count(source: Source, line: int, values: dict[str, Any], key: str) -> int | None:
    return whole(source, line, values[key], key) if key in values else None


def scored_from(text: str) -> str | None:
    """The folder of dumps that a metric command reads, where a text shows the command."""
    match = _SCORED.search(text)
    return match[1].rstrip("/") if match else None
