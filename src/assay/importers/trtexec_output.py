"""trtexec ``--exportOutput``: the outputs of the last iteration, six significant digits; nan and inf unquoted."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from assay.core.record import Figure
from assay.importers.imported import Hints, Imported
from assay.importers.reading import Reading, Tool, record_of
from assay.importers.source import Source, load_json

_BARE = re.compile(r"(?<=[\[,\s])(-?)(nan|inf(?:inity)?)(?=[\s,\]])", re.I)
KEPT = 4096


@dataclass(frozen=True)
class TrtexecOutput:
    """One Record: per output its dimensions, counts and range; values of small outputs."""

    def confidence(self, source: Source) -> float:
        head = source.text.lstrip()[:4000]
        return 1.0 if head.startswith("[") and '"dimensions"' in head and '"values"' in head else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        data = load_json(replace(source, text=_BARE.sub(_json_name, source.text)))
        if not isinstance(data, list) or not data:
            raise source.bad(source.first_line, "exportOutput is a list of outputs, and not empty")
        outputs = [_output(source, i, entry) for i, entry in enumerate(data)]
        reading = Reading(
            source,
            (source.first_line, source.last_line),
            Tool("trtexec", "tensorrt", None, "trtexec-output"),
            hints,
            conditions={"iterations": "last one only", "digits": 6},
        )
        not_finite = sum(o["not_finite"] for o in outputs)
        figures = {
            "outputs.values": Figure(float(sum(o["count"] for o in outputs)), "values"),
            "outputs.not_finite": Figure(float(not_finite), "values"),
        }
        record = record_of(reading, figures, {"outputs": outputs}, "outputs")
        return Imported((record,), warnings=_warnings(source, outputs))


def _json_name(match: re.Match[str]) -> str:
    return match[1] + ("NaN" if match[2].lower() == "nan" else "Infinity")


def _output(source: Source, index: int, entry: Any) -> dict[str, Any]:
    line = source.first_line
    if not isinstance(entry, dict) or not isinstance(entry.get("values"), list):
        raise source.bad(line, f"output {index} has no list of values")
    name, shape = str(entry.get("name")), str(entry.get("dimensions"))
    if not re.fullmatch(r"\d{1,9}(?:x\d{1,9})*", shape):
        raise source.bad(line, f"output {name!r}: dimensions {shape!r} are not like 1x1000")
    dims = [int(d) for d in shape.split("x")]
    values = entry["values"]
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
        raise source.bad(line, f"output {name!r}: a value is no number")
    if len(values) != math.prod(dims):
        raise source.bad(
            line, f"output {name!r} has {len(values)} values, its dimensions {shape} say {math.prod(dims)}"
        )
    finite = [v for v in values if isinstance(v, int) or math.isfinite(v)]
    return {
        "name": name,
        "shape": dims,
        "count": len(values),
        "not_finite": len(values) - len(finite),
        "min": min(finite, default=None),
        "max": max(finite, default=None),
        "values": list(values) if len(values) <= KEPT else None,
    }


def _warnings(source: Source, outputs: list[dict[str, Any]]) -> tuple[str, ...]:
    bad = [o for o in outputs if o["not_finite"]]
    notes = [f"{source.path}: output {o['name']!r} has {o['not_finite']} values that are nan or inf" for o in bad]
    lossy = f"{source.path}: six significant digits of the last iteration; for numerics use --dumpRawBindingsToFile"
    return (*notes, lossy)
