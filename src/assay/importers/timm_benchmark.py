"""timm's benchmark CSV and the ``--result`` JSON of its stdout.

``infer_samples_per_sec`` is samples over wall time, with a random input that lies on the device;
``infer_step_time`` is the mean synchronised step in ms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from assay.core import derive
from assay.core.record import Figure, Record
from assay.importers.imported import Hints, Imported
from assay.importers.reading import DEVICE_ONLY, Basis, Reading, Tool, record_of, rederived
from assay.importers.source import Source, csv_dicts, load_json, number, positive, read_csv, whole

_RATES = ("infer_samples_per_sec", "train_samples_per_sec")
_FILE = re.compile(
    r"benchmark-(?P<sort>infer|train)-(?P<precision>[a-z0-9_]+)(?:-(?P<layout>nhwc|nchw))?(?:-(?P<torch>pt\d+))?"
    r"(?:-(?P<cuda>cu\d+))?(?:-(?P<device>(?!dynamo)[A-Za-z0-9_]+))?(?:-(?P<cpu>[A-Za-z0-9_]*\d[A-Za-z0-9_]*))?"
    r"(?P<dynamo>-dynamo)?"
)
_CARD = re.compile(r"[2-5]0\d0")
_RESULT = re.compile(r"^--result\s*$", re.M)


@dataclass(frozen=True)
class TimmBenchmark:
    """A Record per model (and one more for training where the file has it)."""

    def confidence(self, source: Source) -> float:
        first = source.text.lstrip().split("\n", 1)[0]
        if "model" in first and any(rate in first for rate in _RATES) and "," in first:
            return 1.0
        return 1.0 if _RESULT.search(source.text) and "samples_per_sec" in source.text else 0.0

    def read(self, source: Source, hints: Hints) -> Imported:
        mark = _RESULT.search(source.text)
        if mark:
            return Imported(tuple(_from_json(source, source.line_of(mark.end()) + 1, hints)))
        rows = csv_dicts(source, read_csv(source), "model")
        records = [r for line, row in rows for r in _records(source, line, row, hints)]
        if not records:
            raise source.bad(rows[0][0], "no row has a rate")
        return Imported(tuple(records))


def _from_json(source: Source, line: int, hints: Hints) -> list[Record]:
    part = source.part(line, source.first_line + len(source.lines) - 1)
    data = load_json(part)
    rows = data if isinstance(data, list) else [data]
    if not all(isinstance(row, dict) and row.get("model") for row in rows) or not rows:
        raise source.bad(line, "the result is no object with a model")
    plain = [{str(k): "" if v is None else str(v) for k, v in row.items()} for row in rows]
    found = [r for row in plain for r in _records(source, line, row, hints)]
    if not found:
        raise source.bad(line, "the result has no rate; timm could not run the model")
    return found


def _records(source: Source, line: int, row: Mapping[str, str], hints: Hints) -> list[Record]:
    if not row.get("model"):
        raise source.bad(line, "a row without a model")
    sorts = [sort for sort in ("infer", "train") if row.get(f"{sort}_samples_per_sec")]
    return [_record(source, line, row, sort, hints) for sort in sorts]


def _record(source: Source, line: int, row: Mapping[str, str], sort: str, hints: Hints) -> Record:
    rate = positive(source, line, row[f"{sort}_samples_per_sec"], f"{sort}_samples_per_sec")
    stated = row.get(f"{sort}_batch_size")
    batch = whole(source, line, stated, f"{sort}_batch_size") if stated else None
    figures = {"throughput": Figure(rate, "samples/s")}
    checks = []
    if step := row.get(f"{sort}_step_time"):
        step_s = positive(source, line, step, f"{sort}_step_time") / 1000
        figures["latency.mean"] = Figure(step_s, "s")
        if batch:
            text = row[f"{sort}_samples_per_sec"]
            checks.append(rederived("throughput", derive.from_mean_time(step_s, batch), _tolerance(text, rate)))
    for key, (figure, scale, unit) in {
        "param_count": ("parameters", 1e6, "parameters"),
        f"{sort}_gmacs": ("macs", 1e9, "MAC"),
        f"{sort}_macts": ("activations", 1e6, "values"),
    }.items():
        if row.get(key):
            figures[figure] = Figure(number(source, line, row[key], key) * scale, unit)
    name = _FILE.search(source.name)
    merged = replace(
        hints,
        model=row["model"],
        batch=batch or hints.batch,
        precision=hints.precision or (name["precision"] if name else None),
        device=hints.device or (_device(name) if name else None),
    )
    reading = Reading(
        source,
        (line, line),
        Tool("timm-benchmark", "torch-dynamo" if name and name["dynamo"] else "torch", None, "timm-benchmark"),
        merged,
        Basis(DEVICE_ONLY),
        conditions=_conditions(source, line, row, sort, name),
    )
    return record_of(reading, figures, {"rederived": checks}, "measure" if sort == "infer" else "train")


def _device(name: re.Match[str]) -> str | None:
    """``rtx4090`` and ``4090`` are one card; a processor's model follows ``cpu``."""
    device = name["device"]
    if device and _CARD.fullmatch(device):
        return f"RTX{device}"
    return f"{device} {name['cpu']}" if device and name["cpu"] else device


def _tolerance(text: str, rate: float) -> float:
    """5 % (a mean step leaves out what lies between steps), or what the printed digits allow."""
    decimals = len(text.partition(".")[2])
    return max(0.05, 10.0**-decimals / rate)


def _conditions(
    source: Source, line: int, row: Mapping[str, str], sort: str, name: re.Match[str] | None
) -> dict[str, Any]:
    size = row.get(f"{sort}_img_size")
    return {
        "data": "random, on the device",
        "image_size": number(source, line, size, "img_size") if size else None,
        "layout": name["layout"] if name else None,
        "torch": name["torch"] if name else None,
        "cuda": name["cuda"] if name else None,
        "tf32": "allowed",
    }
