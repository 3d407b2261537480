"""Metrics in Prometheus' text format, under the names Triton gives them; what Triton lacks starts with ``assay_``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from assay.serve.models import ServedModel
from assay.serve.repository import Repository

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_DURATIONS = {
    "nv_inference_request_duration_us": ("success", "Cumulative inference request duration in microseconds"),
    "nv_inference_queue_duration_us": ("queue", "Cumulative inference queuing duration in microseconds"),
    "nv_inference_compute_input_duration_us": ("compute_input", "Cumulative compute input duration in microseconds"),
    "nv_inference_compute_infer_duration_us": ("compute_infer", "Cumulative inference compute duration in us"),
    "nv_inference_compute_output_duration_us": ("compute_output", "Cumulative compute output duration in us"),
}
Lines = list[str]
Extra = Callable[[], Iterable[str]]
"""More lines in the same format, each a ``# HELP``, ``# TYPE`` or a sample: a canary's, for instance."""


def exposition(repository: Repository, extra: Iterable[Extra] = ()) -> str:
    """Everything there is to say about every served version."""
    models = [(_labels(m), m, m.statistics.totals(), m.parts.queue.statistics) for m in repository.served()]
    lines: Lines = []
    _counts(lines, models)
    for name, (phase, text) in _DURATIONS.items():
        head(lines, name, "counter", text)
        for labels, _, totals, _ in models:
            # Microseconds of all requests, failed ones included in the request's duration alone.
            total_s = totals["phases"][phase].total_s
            if phase == "success":
                total_s += totals["phases"]["fail"].total_s
            lines.append(f"{name}{{{labels}}} {round(1e6 * total_s)}")
    head(lines, "nv_inference_pending_request_count", "gauge", "Instantaneous number of pending requests per-model")
    for labels, model, _, _ in models:
        lines.append(f"nv_inference_pending_request_count{{{labels}}} {model.pending}")
    _own(lines, models)
    for more in extra:
        lines.extend(more())
    return "\n".join(lines) + "\n"


_Row = tuple[str, ServedModel, dict[str, Any], Any]


def _counts(lines: Lines, models: list[_Row]) -> None:
    head(lines, "nv_inference_request_success", "counter", "Number of successful inference requests, all batch sizes")
    for labels, _, totals, _ in models:
        lines.append(f"nv_inference_request_success{{{labels}}} {totals['phases']['success'].count}")
    head(lines, "nv_inference_request_failure", "counter", "Number of failed inference requests, all batch sizes")
    for labels, _, totals, _ in models:
        for reason, count in totals["failures"].items():
            lines.append(f'nv_inference_request_failure{{{labels},reason="{reason}"}} {count}')
    head(lines, "nv_inference_count", "counter", "Number of inferences performed (does not include cached requests)")
    for labels, _, totals, _ in models:
        lines.append(f"nv_inference_count{{{labels}}} {totals['inferences']}")
    head(lines, "nv_inference_exec_count", "counter", "Number of model executions performed")
    for labels, _, totals, _ in models:
        lines.append(f"nv_inference_exec_count{{{labels}}} {totals['executions']}")


def _own(lines: Lines, models: list[_Row]) -> None:
    head(lines, "assay_dropped_requests_total", "counter", "Requests refused or dropped by the batcher, by reason")
    for labels, _, totals, _ in models:
        for reason, count in sorted(totals["drops"].items()):
            lines.append(f'assay_dropped_requests_total{{{labels},reason="{reason}"}} {count}')
    head(lines, "assay_batches_total", "counter", "Batches run, by their rows without padding")
    for labels, _, totals, _ in models:
        for size, count in totals["batches"].items():
            lines.append(f'assay_batches_total{{{labels},size="{size}"}} {count}')
    head(lines, "assay_padded_rows_total", "counter", "Rows added to reach a compiled batch size")
    for labels, _, _, queue in models:
        lines.append(f"assay_padded_rows_total{{{labels}}} {queue.padded_rows}")
    predicted, actual = "assay_batch_seconds_predicted", "assay_batch_seconds_actual"
    head(lines, predicted, "gauge", "Mean predicted duration of a batch in the engine, by its size with padding")
    for labels, _, _, queue in models:
        for t in queue.times:
            if t.predicted_s is not None:
                lines.append(f'{predicted}{{{labels},size="{t.size}"}} {t.predicted_s:.9f}')
    head(lines, actual, "gauge", "Mean actual duration of a batch in the engine, by its size with padding")
    for labels, _, _, queue in models:
        for t in queue.times:
            lines.append(f'{actual}{{{labels},size="{t.size}"}} {t.actual_s:.9f}')


def head(lines: Lines, name: str, kind: str, text: str) -> None:
    """The two lines a metric begins with."""
    lines.append(f"# HELP {name} {text}")
    lines.append(f"# TYPE {name} {kind}")


def _labels(model: ServedModel) -> str:
    return f'model="{escaped(model.name)}",version="{escaped(model.version)}"'


def escaped(text: str) -> str:
    """``text`` as a label's value has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
