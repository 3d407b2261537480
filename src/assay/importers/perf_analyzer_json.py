"""perf_analyzer ``--profile-export-file``: the send and receive times of every request, in ns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assay.core import derive
from assay.core.record import Figure, Record, withheld
from assay.core.stats import percentile
from assay.importers.imported import Hints, Imported
from assay.importers.reading import END_TO_END, Basis, Reading, Tool, record_of, with_n
from assay.importers.source import Source, load_json, not_negative, positive

_SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class PerfAnalyzerJson:
    """A Record per experiment (load level); a streamed request ends with its last response."""

    def confidence(self, source: Source) -> float:
        head = source.text.lstrip()[:2000]
        return 1.0 if head.startswith("{") and '"experiments"' in head and '"experiment"' in head else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        data = load_json(source)
        experiments = data.get("experiments") if isinstance(data, dict) else None
        if not isinstance(experiments, list) or not experiments:
            raise source.bad(source.first_line, "no experiments in this profile export")
        version = str(data["version"]) if data.get("version") else None
        tool = Tool("perf_analyzer", str(data.get("service_kind") or "server"), version, "perf_analyzer")
        return Imported(tuple(_record(source, i, entry, tool, hints) for i, entry in enumerate(experiments)))


def _record(source: Source, index: int, entry: Any, tool: Tool, hints: Hints) -> Record:
    line = source.first_line
    if not isinstance(entry, dict) or not isinstance(entry.get("requests"), list):
        raise source.bad(line, f"experiment {index} has no list of requests")
    spans = [span for i, r in enumerate(entry["requests"]) if (span := _span(source, f"request {i}", r))]
    missing = len(entry["requests"]) - len(spans)
    if not spans:
        raise source.bad(line, f"experiment {index}: no request has a response")
    load = _load(source, entry.get("experiment"))
    seconds = np.array([end - start for start, end in spans], dtype=np.float64) / 1e9
    if float(seconds.min()) < 0:
        raise source.bad(line, f"experiment {index}: a response before its request (the clock is not monotonic)")
    duration_s = (max(e for _, e in spans) - min(s for s, _ in spans)) / 1e9
    n = len(spans)
    figures = _figures(seconds, duration_s, hints.batch)
    conditions = {
        "queries": n,
        "unanswered": missing,
        "duration_s": duration_s or None,
        "load": load,
        "clients": load.get("concurrency"),
    }
    reading = Reading(source, (line, source.last_line), tool, hints, Basis(END_TO_END), conditions=conditions)
    return record_of(reading, figures)


def _figures(seconds: Any, duration_s: float, batch: int | None) -> dict[str, Figure]:
    n = len(seconds)
    figures = {
        "latency.mean": Figure(float(np.mean(seconds)), "s", n=n),
        "latency.min": Figure(float(seconds.min()), "s", n=n),
        "latency.max": Figure(float(seconds.max()), "s", n=n),
    }
    for name, share in _SHARES.items():
        figures[f"latency.{name}"] = with_n(percentile(seconds, share), "s", n, name)
    if duration_s <= 0:
        return {**figures, "throughput": withheld("samples/s", "all requests end when they start")}
    requests = derive.from_count(n, duration_s).value
    figures["throughput.requests"] = Figure(requests, "requests/s", n=n)
    if batch is None:
        figures["throughput"] = withheld("samples/s", "the batch size is not in the export (give --batch)")
    else:
        figures["throughput"] = Figure(derive.from_queries(requests, batch).value, "samples/s", n=n)
    return figures


def _span(source: Source, name: str, request: Any) -> tuple[int, int] | None:
    """(start, end) in ns; None for a request that never got a response."""
    if not isinstance(request, dict):
        raise source.bad(source.first_line, f"{name} is no object")
    responses: Sequence[Any] = request.get("response_timestamps") or ()
    if not isinstance(responses, list | tuple):
        raise source.bad(source.first_line, f"{name}: response_timestamps is no list")
    start = not_negative(source, source.first_line, request.get("timestamp"), f"{name}: timestamp")
    ends = [not_negative(source, source.first_line, r, f"{name}: a response's timestamp") for r in responses]
    if not ends:
        return None
    # Python ints where the file has them: a float64 holds today's nanoseconds only to 256 ns.
    exact = [r if isinstance(r, int) else int(e) for r, e in zip(responses, ends, strict=True)]
    stamp = request["timestamp"]
    return (stamp if isinstance(stamp, int) else int(start), max(exact))


def _load(source: Source, experiment: Any) -> dict[str, float]:
    if not isinstance(experiment, Mapping) or "mode" not in experiment:
        return {}
    value = positive(source, source.first_line, experiment.get("value"), "the load level")
    mode = str(experiment["mode"])
    return {mode: int(value) if mode == "concurrency" else value}
