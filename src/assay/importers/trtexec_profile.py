"""trtexec ``--exportProfile``: time by layer.  Layer names are not escaped, so the file may be no valid JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from assay.core.record import Figure
from assay.importers.imported import Hints, Imported
from assay.importers.reading import DEVICE_ONLY, Basis, Reading, Tool, record_of
from assay.importers.source import Source, not_negative, whole

_COUNT = re.compile(r'\{\s*"count"\s*:\s*([^\s,}]+)\s*\}')
_LAYER = re.compile(r'\{\s*"name"\s*:\s*"(.*)"\s*,\s*"timeMs"\s*:\s*([^,}]+?)\s*(,.*)?\}\s*,?\s*\]?\s*$')
_FIELD = re.compile(r'"(averageMs|medianMs|percentage)"\s*:\s*([^\s,}]+)')


@dataclass(frozen=True)
class TrtexecProfile:
    """One Record: the sum over layers as a figure, the layers in ``details``."""

    def confidence(self, source: Source) -> float:
        head = source.text.lstrip()[:4000]
        return 1.0 if head.startswith("[") and _COUNT.search(head) and '"timeMs"' in source.text[:20000] else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        count = _COUNT.search(source.text)
        if count is None:
            raise source.bad(source.first_line, "exportProfile begins with the number of iterations")
        n = whole(source, source.line_of(count.start()), count[1], "count")
        layers = [_layer(source, line, text) for line, text in _objects(source, count.end())]
        if not layers:
            raise source.bad(source.last_line, "no layer in this profile")
        total_s = sum(layer["average_s"] for layer in layers)
        reading = Reading(
            source,
            (source.first_line, source.last_line),
            Tool("trtexec", "tensorrt", None, "trtexec-profile"),
            hints,
            Basis(DEVICE_ONLY, per="batch"),
            conditions={"queries": n, "profiled": True},
        )
        figures = {"latency.layers.mean": Figure(total_s, "s", n=n, reason="profiling slows every layer")}
        return Imported((record_of(reading, figures, {"layers": layers}, "profile"),))


def _objects(source: Source, offset: int) -> list[tuple[int, str]]:
    """One text per layer: trtexec writes each on a line of its own; a single line is cut between objects."""
    found: list[tuple[int, str]] = []
    rest, base = source.text[offset:], source.line_of(offset)
    for i, line in enumerate(rest.split("\n")):
        pieces = re.split(r"(?<=\})\s*,\s*(?=\{\s*\"name\")", line)
        for piece in pieces:
            text = piece.strip().lstrip(",").strip()
            if text and text not in ("]", "[", "{", "}"):
                found.append((base + i, text))
    return found


def _layer(source: Source, line: int, text: str) -> dict[str, Any]:
    match = _LAYER.search(text)
    if match is None:
        raise source.bad(line, "not a layer with its name and timeMs (one layer a line)")
    fields = {name: not_negative(source, line, value, name) for name, value in _FIELD.findall(match[3] or "")}
    time_ms = not_negative(source, line, match[2], "timeMs")
    if "averageMs" not in fields:
        raise source.bad(line, "the layer has no averageMs")
    layer: dict[str, Any] = {"name": match[1], "total_s": time_ms / 1000, "average_s": fields["averageMs"] / 1000}
    if "medianMs" in fields:
        layer["median_s"] = fields["medianMs"] / 1000
    if "percentage" in fields:
        layer["share"] = fields["percentage"] / 100
    return layer
