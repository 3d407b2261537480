"""ais_bench's ``<dir>_summary.json``: the same figures, with every NPU time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from assay.core import derive
from assay.core.record import Figure
from assay.importers.imported import Hints, Imported
from assay.importers.reading import COMPUTED, DEVICE_ONLY, Basis, Reading, Tool, milliseconds, record_of, rederived
from assay.importers.source import Source, load_json, not_negative, positive, whole
from assay.importers.trtexec_command import model_name

_PARTS = {"NPU_compute_time": "latency", "H2D_latency": "latency.h2d", "D2H_latency": "latency.d2h"}


@dataclass(frozen=True)
class AisBenchSummary:
    """One Record; the mean is counted again from the list of times."""

    def confidence(self, source: Source) -> float:
        text = source.text.lstrip()
        return 1.0 if text.startswith("{") and '"NPU_compute_time"' in text and '"throughput"' in text else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        data = load_json(source)
        if not isinstance(data, dict) or not isinstance(data.get("NPU_compute_time"), dict):
            raise source.bad(source.first_line, "no NPU_compute_time in this summary")
        count = data["NPU_compute_time"].get("count")
        n = whole(source, _line(source, "count"), count, "count") if count is not None else None
        figures = {
            "throughput": Figure(
                positive(source, _line(source, "throughput"), data.get("throughput"), "throughput"), "samples/s"
            )
        }
        for part, prefix in _PARTS.items():
            if isinstance(data.get(part), dict):
                figures.update(milliseconds(_statistics(source, part, data[part]), prefix, n))
        raw_args = data.get("args")
        args: Mapping[str, Any] = raw_args if isinstance(raw_args, dict) else {}
        batch, counted = _batch(source, args, figures)
        merged = replace(
            hints,
            batch=hints.batch or batch,
            model=hints.model or (model_name(str(args["model"])) if args.get("model") else None),
        )
        reading = Reading(
            source,
            (source.first_line, source.last_line),
            Tool("ais_bench", "ascend", None, "ais_bench"),
            merged,
            Basis(DEVICE_ONLY, how=COMPUTED),
            conditions={
                "queries": n,
                "stated_batch": counted,
                "data": "files" if args.get("input") else "random bytes",
            },
        )
        details = _details(source, data, figures, counted)
        return Imported((record_of(reading, figures, details),), warnings=_lost(source, data))


def _statistics(source: Source, part: str, values: Mapping[str, Any]) -> dict[str, float]:
    line = _line(source, part)
    found: dict[str, float] = {}
    for key, value in values.items():
        name = {"median": "p50"}.get(key, key)
        if name.startswith("percentile("):
            name = "p" + name.removeprefix("percentile(").rstrip("%)")
        if name != "count" and value is not None:
            found[name] = not_negative(source, line, value, f"{part} {key}")
    if not found.get("mean"):
        raise (
            source.bad(line, f"{part} has no mean above zero")
            if part == "NPU_compute_time"
            else source.bad(line, f"{part} has no mean")
        )
    return found


def _batch(source: Source, args: Mapping[str, Any], figures: Mapping[str, Figure]) -> tuple[int | None, int | None]:
    """(the batch size to use, the one that throughput × mean time says)."""
    rate, mean_s = figures["throughput"].value or 0.0, figures["latency.mean"].value or 0.0
    counted = rate * mean_s
    said = args.get("batchsize")
    given = whole(source, _line(source, "batchsize"), said, "batchsize") if said else None
    close = math.isfinite(counted) and counted >= 0.5 and abs(counted - round(counted)) <= 0.02 * counted
    return given or (round(counted) if close else None), round(counted) if close else None


def _details(
    source: Source, data: Mapping[str, Any], figures: Mapping[str, Figure], batch: int | None
) -> dict[str, Any]:
    checks = []
    mean_s = figures["latency.mean"].value
    if batch and mean_s:
        checks.append(rederived("throughput", derive.from_mean_time(mean_s, batch), 0.005))
    times = data.get("npu_compute_time_list")
    if isinstance(times, list) and times:
        line = _line(source, "npu_compute_time_list")
        values = [_time(source, line, t) for t in times]
        mean = derive.Derived(
            math.fsum(values) / len(values) / 1000, "s", "mean of the list", {"count": float(len(values))}, True
        )
        checks.append(rederived("latency.mean", mean, 0.005))
    return {"rederived": checks, "pid": data.get("pid")}


def _time(source: Source, line: int, value: Any) -> float:
    """A time in ms; some versions list pairs (start, end) in seconds."""
    if isinstance(value, list) and len(value) == 2:
        start, end = (not_negative(source, line, v, "a time") for v in value)
        return (end - start) * 1000
    return not_negative(source, line, value, "a time of the list")


def _lost(source: Source, data: Mapping[str, Any]) -> tuple[str, ...]:
    """Outputs whose names are equal up to the first dot overwrite each other."""
    info = data.get("filesinfo")
    files = (
        [f for e in info.values() if isinstance(e, dict) for f in _names(e.get("outfiles"))]
        if isinstance(info, dict)
        else []
    )
    stems = [PurePosixPath(f).name.split(".")[0] for f in files]
    lost = len(stems) - len(set(stems))
    return (f"{source.path}: {lost} outputs overwrite others (names are cut at the first dot)",) if lost else ()


def _names(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else []


def _line(source: Source, key: str) -> int:
    offset = source.text.find(f'"{key}"')
    return source.line_of(max(offset, 0))
