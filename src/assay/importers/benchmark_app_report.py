"""OpenVINO benchmark_app's report: CSV (``;``) or, with ``-json_stats``, JSON of strings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.core import derive
from assay.core.record import Figure
from assay.importers.imported import Hints, Imported
from assay.importers.reading import DEVICE_ONLY, WITH_COPIES, Basis, Reading, Tool, record_of, rederived, with_n
from assay.importers.source import Source, load_json, not_negative, positive, whole
from assay.importers.trtexec_command import model_name

_SECTIONS = {
    "command line parameters": "cmd_options",
    "configuration setup": "configuration_setup",
    "execution results": "execution_results",
}
_PERCENTILE = re.compile(r"^latency \((\d{1,3}) percentile\) \(ms\)$")

Sections = Mapping[str, Mapping[str, tuple[int, str]]]


@dataclass(frozen=True)
class BenchmarkAppReport:
    """One Record per report; both forms hold the same keys."""

    def confidence(self, source: Source) -> float:
        text = source.text
        as_json = text.lstrip().startswith("{") and '"execution_results"' in text
        return 1.0 if as_json or re.search(r"^Execution results\s*;?\s*$", text, re.M) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        is_json = source.text.lstrip().startswith("{")
        sections = _from_json(source) if is_json else _from_csv(source)
        results, setup = sections["execution_results"], sections["configuration_setup"]
        n = _whole(source, results, "total number of iterations")
        figures = _figures(source, results, n)
        duration_s = _milliseconds(source, results, "total execution time (ms)")
        batch = _whole(source, setup, "batch size")
        reading = _reading(source, hints, sections, batch)
        conditions = {
            **reading.conditions,
            "queries": n,
            "duration_s": duration_s,
            "stated_batch": batch,
            "time_resolution_s": 1e-5,
        }
        details: dict[str, Any] = {}
        if n and duration_s and batch:
            details["rederived"] = [rederived("throughput", derive.from_count(n * batch, duration_s), 0.01)]
        return Imported((record_of(replace(reading, conditions=conditions), figures, details),))


def _from_csv(source: Source) -> Sections:
    found: dict[str, dict[str, tuple[int, str]]] = {name: {} for name in _SECTIONS.values()}
    section: str | None = None
    for line, text in source.numbered():
        bare = text.strip().rstrip(";")
        if bare.lower() in _SECTIONS:
            section = _SECTIONS[bare.lower()]
        elif bare and section:
            key, _, value = bare.partition(";")
            found[section].setdefault(key.strip(), (line, value.strip()))
    return found


def _from_json(source: Source) -> Sections:
    data = load_json(source)
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for name in _SECTIONS.values():
        section = data.get(name) or {}
        if not isinstance(section, dict):
            raise source.bad(source.first_line, f"{name} is no object")
        found[name] = {str(k): (_line(source, str(k)), str(v)) for k, v in section.items()}
    return found


def _figures(source: Source, results: Mapping[str, tuple[int, str]], n: int | None) -> dict[str, Figure]:
    if "throughput" not in results:
        raise source.bad(source.last_line, "no throughput among the execution results")
    line, text = results["throughput"]
    figures = {"throughput": Figure(positive(source, line, text, "throughput"), "samples/s")}
    names = {"latency (ms)": "p50", "avg latency": "mean", "min latency": "min", "max latency": "max"}
    for key, (at, value) in results.items():
        match = _PERCENTILE.match(key)
        name = f"p{int(match[1])}" if match else names.get(key)
        if name:
            figures[f"latency.{name}"] = with_n(not_negative(source, at, value, key) / 1000, "s", n, name)
    for key, name in {"first inference time (ms)": "latency.first", "compile model time (ms)": "compile_time"}.items():
        if key in results:
            figures[name] = Figure(not_negative(source, *results[key], key) / 1000, "s")
    return figures


def _reading(source: Source, hints: Hints, sections: Sections, batch: int | None) -> Reading:
    setup, options = sections["configuration_setup"], sections["cmd_options"]
    device = _text(setup, "target device")
    path = _text(options, "-m") or _text(options, "--path_to_model")
    precision = _text(setup, "precision")
    merged = replace(
        hints,
        batch=hints.batch or batch,
        device=hints.device or device,
        model=hints.model or (model_name(path) if path else None),
        precision=hints.precision or (None if precision in (None, "", "UNSPECIFIED") else precision.lower()),
    )
    api = (_text(setup, "API") or "").lower()
    requests = _whole(source, setup, "number of parallel infer requests")
    only = (_text(setup, "inference_only") or "").lower() == "true"
    return Reading(
        source,
        (source.first_line, source.last_line),
        Tool("benchmark_app", "openvino", None, "benchmark_app"),
        merged,
        Basis(DEVICE_ONLY if only else WITH_COPIES),
        conditions={"api": api or None, "clients": 1 if api == "sync" else requests},
    )


def _text(section: Mapping[str, tuple[int, str]], key: str) -> str | None:
    return section[key][1] if key in section else None


def _whole(source: Source, section: Mapping[str, tuple[int, str]], key: str) -> int | None:
    if key not in section or section[key][1] in ("", "None"):
        return None
    return whole(source, *section[key], key)


def _milliseconds(source: Source, section: Mapping[str, tuple[int, str]], key: str) -> float | None:
    return positive(source, *section[key], key) / 1000 if key in section else None


def _line(source: Source, key: str) -> int:
    return source.line_of(max(source.text.find(f'"{key}"'), 0))
