"""ais_bench (and ``msit benchmark``): the console's Performance Summary.

Its throughput is 1000 · batch / mean NPU time: computed, without copies, and padded samples count.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.core import derive
from assay.core.record import Figure, Record
from assay.importers.imported import Hints, Imported
from assay.importers.reading import COMPUTED, DEVICE_ONLY, Basis, Reading, Tool, milliseconds, record_of, rederived
from assay.importers.source import Source, not_negative, number, positive
from assay.importers.trtexec_command import model_in, model_name

_STATS = re.compile(r"(NPU_compute_time|H2D_latency|D2H_latency)\s*\(ms\)\s*:\s*(.*)$")
_STAT = re.compile(r"(min|max|mean|median|percentile\(([\d.]+)%\))\s*=\s*([^\s,]+)")
_RATE = re.compile(
    r"throughput 1000\s*\*\s*batchsize(?:\.mean)?\(([^)]*)\)\s*/\s*NPU_compute_time\.mean\(([^)]*)\)\s*:\s*(\S+)"
)
_MULTI = re.compile(r"\bi:\s*(\d+)\s+device_(\d+)\s+throughput:\s*(\S+)")
_SUM = re.compile(r"\bsummary throughput\s*:\s*(\S+)")
_PREFIXES = {"NPU_compute_time": "latency", "H2D_latency": "latency.h2d", "D2H_latency": "latency.d2h"}
_LOAD = re.compile(r"load model (\S+) success")


@dataclass(frozen=True)
class AisBench:
    """A Record per summary, and one of the sum over devices where there is one."""

    def confidence(self, source: Source) -> float:
        text = source.text
        return 1.0 if "NPU_compute_time (ms)" in text or re.search(r"throughput 1000\s*\*\s*batchsize", text) else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        records: list[Record] = []
        stats: dict[str, dict[str, float]] = {}
        first: int | None = None
        devices: list[tuple[int, float]] = []
        for line, text in source.numbered():
            if match := _STATS.search(text):
                first = first or line
                stats[match[1]] = _statistics(source, line, match[1], match[2])
            elif match := _RATE.search(text):
                records.append(_record(_reading(source, (first or line, line), hints), match, stats))
                stats, first = {}, None
            elif re.search(r"throughput 1000\s*\*\s*batchsize", text):
                raise source.bad(line, "the throughput line has not the form 1000*batchsize.mean(b)/…mean(t): rate")
            elif match := _MULTI.search(text):
                devices.append((line, positive(source, line, match[3], "throughput of a device")))
            elif match := _SUM.search(text):
                total = positive(source, line, match[1], "summary throughput")
                records.append(_sum(_reading(source, (line, line), hints), total, devices))
        if stats:
            raise source.bad(first or source.first_line, "a Performance Summary without its throughput line")
        if not records:
            raise source.bad(source.first_line, "no Performance Summary of ais_bench")
        return Imported(tuple(records))


def _statistics(source: Source, line: int, name: str, text: str) -> dict[str, float]:
    found = {
        ("p" + m[2].strip(".") if m[2] else "p50" if m[1] == "median" else m[1]): not_negative(source, line, m[3], name)
        for m in _STAT.finditer(text)
    }
    if "mean" not in found:
        raise source.bad(line, f"{name} has no mean")
    return found


def _reading(source: Source, lines: tuple[int, int], hints: Hints) -> Reading:
    before = "\n".join(source.lines[: lines[1] - source.first_line + 1])
    loaded = _LOAD.findall(before)
    command = re.search(r"(?:ais_bench|msit benchmark)\s+(-.*)", source.text)
    model = model_name(loaded[-1]) if loaded else model_in(command[1]) if command else None
    return Reading(
        source,
        lines,
        Tool("ais_bench", "ascend", None, "ais_bench"),
        replace(hints, model=hints.model or model),
        Basis(DEVICE_ONLY, how=COMPUTED),
        conditions={"data": _data(command[1]) if command else None, "command": command[1] if command else None},
    )


def _data(command: str) -> str:
    """Without ``--input`` ais_bench feeds random bytes, or zeros with ``--pure_data_type zero``."""
    if "--input" in command:
        return "files"
    return "zeros" if re.search(r"--pure_data_type[= ]zero", command) else "random bytes"


def _record(reading: Reading, match: re.Match[str], stats: Mapping[str, Mapping[str, float]]) -> Record:
    source, line = reading.source, reading.lines[1]
    batch = positive(source, line, match[1], "the mean batch size")
    mean_ms = positive(source, line, match[2], "the mean NPU time")
    rate = positive(source, line, match[3], "throughput")
    figures = {"throughput": Figure(rate, "samples/s")}
    for name, values in stats.items():
        figures.update(milliseconds(values, _PREFIXES[name]))
    whole = int(batch) if batch == int(batch) else None
    conditions = {**reading.conditions, "mean_batch": batch, "stated_batch": whole}
    count = derive.from_mean_time(mean_ms / 1000, whole) if whole else None
    details: dict[str, Any] = {"rederived": [rederived("throughput", count, 0.005)]} if count else {}
    merged = replace(reading.hints, batch=reading.hints.batch or whole)
    return record_of(replace(reading, hints=merged, conditions=conditions), figures, details)


def _sum(reading: Reading, total: float, devices: list[tuple[int, float]]) -> Record:
    """A plain sum of what each device reached by itself."""
    basis = Basis(DEVICE_ONLY, how=COMPUTED, scope="all devices")
    added = number(reading.source, reading.lines[0], sum(rate for _, rate in devices), "the sum over devices")
    details: dict[str, Any] = {"devices": [rate for _, rate in devices]}
    if added > 0:
        summed = derive.Derived(added, "samples/s", "sum over devices", {"devices": float(len(devices))}, False)
        details["rederived"] = [rederived("throughput", summed, 0.005)]
    conditions = {**reading.conditions, "devices": len(devices)}
    return record_of(
        replace(reading, basis=basis, conditions=conditions), {"throughput": Figure(total, "samples/s")}, details
    )
