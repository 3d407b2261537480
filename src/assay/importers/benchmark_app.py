"""OpenVINO benchmark_app's console: latencies in ms, or in us where they are short."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from assay.core import derive
from assay.core.record import Figure
from assay.importers.imported import Hints, Imported
from assay.importers.reading import (
    DEVICE_ONLY,
    WITH_COPIES,
    Basis,
    Reading,
    Tool,
    record_of,
    rederived,
    with_n,
)
from assay.importers.source import Source, not_negative, positive, whole

_UNITS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "s": 1.0}
_COUNT = re.compile(r"\bCount:\s*(\S+) iterations")
_DURATION = re.compile(r"\bDuration:\s*(\S+) ms\b")
_LATENCY = re.compile(
    r"^(?:\[ INFO \])?\s*(Median|Average|AVG|Min|MIN|Max|MAX|(\d{1,3}) percentile):\s*(\S+)\s+(ms|us|µs|s)\s*$"
)
_FPS = re.compile(r"\bThroughput:\s*(\S+)\s*FPS\b")
_BATCH = re.compile(r"Model batch size: (\d+)")
_BUILD = re.compile(r"Build \.+ (\S+)")
_HINT = re.compile(r"INFERENCE_PRECISION_HINT: (?:<Type: ')?(\w+)")
_PRECISIONS = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32", "f32": "fp32", "f16": "fp16"}


@dataclass(frozen=True)
class BenchmarkApp:
    """One Record per console log."""

    def confidence(self, source: Source) -> float:
        text = source.text
        return 1.0 if _FPS.search(text) and ("iterations" in text or "[Step 1" in text) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        text = source.text
        fps = list(_FPS.finditer(text))
        if len(fps) != 1:
            raise source.bad(source.first_line, f"{len(fps)} Throughput lines; one console log holds one run")
        line = source.line_of(fps[0].start())
        rate = positive(source, line, fps[0][1], "Throughput")
        count = _found(source, _COUNT, "Count")
        n = whole(source, count[0], count[1], "Count") if count else None
        duration = _found(source, _DURATION, "Duration")
        duration_s = positive(source, duration[0], duration[1], "Duration") / 1000 if duration else None
        figures = {"throughput": Figure(rate, "samples/s"), **_latencies(source, n)}
        batch = _number(_BATCH.search(text))
        reading = _reading(source, hints, batch, {"queries": n, "duration_s": duration_s})
        details: dict[str, Any] = {}
        if n and duration_s and batch:
            details["rederived"] = [rederived("throughput", derive.from_count(n * batch, duration_s), 0.01)]
        return Imported((record_of(reading, figures, details),), warnings=_warnings(source))


def _latencies(source: Source, n: int | None) -> dict[str, Figure]:
    names = {"Median": "p50", "Average": "mean", "AVG": "mean", "Min": "min", "MIN": "min", "Max": "max", "MAX": "max"}
    figures: dict[str, Figure] = {}
    for line, text in source.numbered():
        if match := _LATENCY.match(text):
            name = f"p{int(match[2])}" if match[2] else names[match[1]]
            value = not_negative(source, line, match[3], match[1]) * _UNITS[match[4]]
            figures.setdefault(f"latency.{name}", with_n(value, "s", n, name))
    return figures


def _reading(source: Source, hints: Hints, batch: int | None, measured: dict[str, Any]) -> Reading:
    text = source.text
    hint = _HINT.search(text)
    precision = _PRECISIONS.get(hint[1].lower(), hint[1].lower()) if hint else None
    device = re.search(r"EXECUTION_DEVICES: \['?(\w+)", text) or re.search(r"Execution Devices:\s*\['?(\w+)", text)
    build = _BUILD.search(text)
    requests = _number(re.search(r"(\d+) inference requests", text))
    synchronous = "Start inference synchronously" in text
    merged = replace(
        hints,
        batch=hints.batch or batch,
        precision=hints.precision or precision,
        device=hints.device or (device[1] if device else None),
    )
    conditions = {
        **measured,
        "stated_batch": batch,
        "clients": 1 if synchronous else requests,
        "api": "sync" if synchronous else "async" if requests else None,
        "data": "random" if "random values" in text else "files",
        "streams": _number(re.search(r"NUM_STREAMS: (\d+)", text)),
        "threads": _number(re.search(r"INFERENCE_NUM_THREADS: (\d+)", text)),
    }
    only = "inference only mode" in text
    last = source.line_of(list(_FPS.finditer(text))[-1].start())
    return Reading(
        source,
        (source.first_line, last),
        Tool("benchmark_app", "openvino", build[1] if build else None, "benchmark_app"),
        merged,
        Basis(DEVICE_ONLY if only else WITH_COPIES),
        conditions=conditions,
    )


def _found(source: Source, pattern: re.Pattern[str], what: str) -> tuple[int, str] | None:
    match = pattern.search(source.text)
    return (source.line_of(match.start()), match[1]) if match else None


def _number(match: re.Match[str] | None) -> int | None:
    return (int(match[1][:9]) or None) if match else None


def _warnings(source: Source) -> tuple[str, ...]:
    return tuple(
        f"{source.at(line)}: benchmark_app's own warning: {text.split(']', 1)[1].strip()[:200]}"
        for line, text in source.numbered()
        if text.startswith("[ WARNING ]")
    )
