"""What the page's script works on: rows, records and raw series as JSON that is safe inside HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from assay.core.record import Figure, Record
from assay.present.columns import speedup_header
from assay.present.evidence import Divergence, Errors, Waterfall
from assay.present.figures import format_figure
from assay.present.html_cells import full_name, name
from assay.present.reproduce import row_command
from assay.present.rows import ALL_BUSY, ONE_CALLER, Report, Row
from assay.present.series import Series
from assay.present.text import one_line

_FIGURES = ("throughput", "latency.p50", "latency.p90", "latency.p99", "speedup.eager", "speedup.torch_compile")


def payload(report: Report, rows: Sequence[Row], budget_bytes: int) -> dict[str, Any]:
    """Everything the script draws and shows; figures carry their texts, so that it computes none.

    Where it would take more than ``budget_bytes``, the records' details are left out, largest first, then
    the raw series; both are said where they would have stood.
    """
    made = _everything(report, rows)
    excess = len(to_script(made)) - budget_bytes
    for record in sorted(made["records"], key=lambda r: -len(to_script(r["details"]))):
        if excess <= 0:
            break
        size = len(to_script(record["details"]))
        record["details"] = {"left out": f"{size} bytes; they are in records.jsonl"}
        excess -= size - len(to_script(record["details"]))
    if excess > 0:
        gone = {"reason": "left out to keep the report small; the file is in samples/"}
        made["series"] = dict.fromkeys(made["series"], gone)
    return made


def _everything(report: Report, rows: Sequence[Row]) -> dict[str, Any]:
    records, environments = _records(report.records)
    return {
        "title": one_line(report.title),
        "speedup": speedup_header(rows),
        "rows": [_row(row, place, report) for place, row in enumerate(rows)],
        "records": records,
        "environments": environments,
        "series": {id: _series(s) for id, s in report.series.items()},
        "latency_scenarios": [ONE_CALLER, ALL_BUSY],
        "pipelines": [_waterfall(w) for w in report.evidence.waterfalls],
        "errors": [_errors(e) for e in report.evidence.errors],
        "divergences": [_divergence(d) for d in report.evidence.divergences],
        "fronts": {front: list(places) for front, places in report.fronts.items()},
    }


def to_script(value: Any) -> str:
    """JSON that cannot end the script element it stands in, nor open a comment there."""
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"), default=str)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _row(row: Row, place: int, report: Report) -> dict[str, Any]:
    figures = {n: _figure(row.speeds.get(n)) for n in _FIGURES}
    figures["accuracy"] = _figure(row.accuracy.figure)
    figures["memory"] = _figure(row.memory)
    return {
        "place": place,
        "name": name(row),
        "title": full_name(row),
        "engine": one_line(row.subject.get("engine") or ""),
        "precision": one_line(row.subject.get("precision") or ""),
        "batch": row.batch,
        "scenario": row.scenario,
        "status": row.status,
        "chosen": row.chosen,
        "accuracy_name": (row.accuracy.name or "").removeprefix("accuracy."),
        "accuracy_state": row.accuracy.state,
        "label": row.label,
        "figures": {n: f for n, f in figures.items() if f is not None},
        "records": list(row.record_ids),
        "command": row_command(row, report.about),
        "warnings": list(row.warnings),
        "reason": row.reason,
    }


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    if figure is None or figure.value is None or not math.isfinite(figure.value):
        return None
    return {"v": figure.value, "lo": figure.low, "hi": figure.high, "unit": figure.unit, "text": format_figure(figure)}


def _series(series: Series) -> dict[str, Any]:
    return {
        "edges": [_short(e) for e in series.edges],
        "counts": list(series.counts),
        "timeline": [[place, _short(a), _short(b), _short(c)] for place, a, b, c in series.timeline],
        "n": series.n,
        "warmup": series.warmup,
        "reason": series.reason,
    }


def _waterfall(found: Waterfall) -> dict[str, Any]:
    stages = []
    for stage in found.stages:
        said = [f"{format_figure(Figure(stage.busy_s, 's'))} of work a sample"]
        said += [f"{stage.rate:,.4g} samples/s while it ran"] if stage.rate is not None else []
        said += [f"{stage.utilisation:.0%} of its threads busy"] if stage.utilisation is not None else []
        said += [f"its calls alone allow {stage.alone_rate:,.4g} samples/s"] if stage.alone_rate is not None else []
        stages.append({"name": stage.name, "start": stage.start_s, "busy": stage.busy_s, "text": said})
    whole = [] if found.rate is None else [f"{found.rate:,.4g} samples/s end to end"]
    note = " · ".join([*whole, *([one_line(found.bottleneck)] if found.bottleneck else [])])
    return {"record": found.record, "title": one_line(found.title), "stages": stages, "note": note}


def _errors(found: Errors) -> dict[str, Any]:
    return {
        "record": found.record,
        "title": one_line(found.title),
        "engine": one_line(found.engine),
        "precision": one_line(found.precision),
        "case": f"output {one_line(found.output)}, batch {one_line(found.batch)}",
        "counts": [list(pair) for pair in found.counts],
        "equal": found.equal,
        "n": found.n,
    }


def _divergence(found: Divergence) -> dict[str, Any]:
    operators = [
        {
            "tensor": one_line(o.tensor),
            "nodes": one_line(o.nodes),
            "local": o.local,
            "accumulated": o.accumulated,
            "due": o.due,
            "guilty": o.guilty,
            "origin": one_line(o.origin),
        }
        for o in found.operators
    ]
    return {"record": found.record, "title": one_line(found.title), "operators": operators}


def _short(seconds: float) -> float:
    """Four digits are enough to draw."""
    return float(f"{seconds:.4g}")


def _records(records: Sequence[Record]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Records as JSON with their environments told once."""
    environments: dict[str, int] = {}
    shown: list[dict[str, Any]] = []
    for record in records:
        data = _finite(record.to_json())
        key = json.dumps(data.pop("environment"), sort_keys=True, default=str)
        data["environment"] = environments.setdefault(key, len(environments))
        data["texts"] = {n: format_figure(f) for n, f in record.figures.items()}
        shown.append(data)
    return shown, [json.loads(key) for key in environments]


def _finite(value: Any) -> Any:
    """numpy scalars unwrapped, NaN and infinities as their names: JSON has no words for them."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return repr(float(value))
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    return value
