"""torchpipe's closed-loop table as Markdown: figures as rows, models as columns.

The figures stand in ``details["torchpipe"]`` of the Records of scenario ``clients``; nothing is computed
here.  Rows whose first column is empty have no figure in any column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assay.core.record import Record
from assay.present.figures import DASH
from assay.present.markdown import escape

MISSING = "-"
_WHOLE = frozenset({"num_clients", "total_number"})
_TENTHS = frozenset({"cpu_usage", "gpu_usage"})
_ABOUT: tuple[tuple[str, Callable[[Record], Any]], ...] = (
    ("engine", lambda r: _joined(r.subject.get("engine"), r.subject.get("engine_version"))),
    ("device", lambda r: r.subject.get("device_name") or r.subject.get("device")),
    ("precision", lambda r: r.subject.get("precision")),
    ("opset", lambda r: r.details.get("opset")),
    ("input", lambda r: ", ".join(r.details.get("inputs") or ())),
    ("batching", lambda r: _batching(r.conditions)),
    ("data", lambda r: r.conditions.get("data")),
)


def torchpipe_markdown(records: Sequence[Record], version: str) -> str:
    """The table of all Records that have the figures, and below it why others have none; ends with a newline.

    A column is headed by its model; where one model has several columns, also by what tells them apart.
    """
    shown = [r for r in records if r.details.get("torchpipe")]
    lines = [f"assay {escape(version)}", ""]
    if shown:
        lines += [*_about(shown), "", *_table(shown), "", *_legend(shown)]
    else:
        lines += ["No model was measured.", ""]
    lines += [f"- {_name(r)} has no figures: {escape(r.reason or 'it was not measured with clients')}"
              for r in records if not r.details.get("torchpipe")]  # fmt: skip
    return "\n".join(lines).rstrip("\n") + "\n"


def _about(records: Sequence[Record]) -> list[str]:
    """What all columns share once; what differs, by model."""
    lines = []
    for name, read in _ABOUT:
        values = [str(read(r) or DASH) for r in records]
        if len(set(values)) == 1:
            lines.append(f"- {name}: {escape(values[0])}")
        else:
            pairs = dict.fromkeys(f"{_name(r)} {escape(v)}" for r, v in zip(records, values, strict=True))
            lines.append(f"- {name}: {'; '.join(pairs)}")
    return lines


def _table(records: Sequence[Record]) -> list[str]:
    rows = list(dict.fromkeys(name for r in records for name in r.details["torchpipe"]))
    lines = [_line(("", *_headers(records))), _line(("---", *("---:" for _ in records)))]
    return lines + [_line((escape(name), *(_cell(r.details["torchpipe"], name) for r in records))) for name in rows]


def _headers(records: Sequence[Record]) -> list[str]:
    names = [_name(r) for r in records]
    return [
        name if names.count(name) == 1 else f"{name} ({escape(r.conditions.get('clients'))} clients)"
        for name, r in zip(names, records, strict=True)
    ]


def _cell(figures: Mapping[str, Any], name: str) -> str:
    value = figures.get(name)
    if value is None or not math.isfinite(value):
        return MISSING
    if name in _WHOLE:
        return f"{value:.0f}"
    return f"{value:.1f}" if name in _TENTHS else f"{value:.2f}"


def _legend(records: Sequence[Record]) -> list[str]:
    lines = [
        "qps counts samples per second; latencies and throughput::avg (1000 · clients / qps) are in ms; -k is the "
        "k-th slowest; cpu_usage is 100 for one core.",
        "",
    ]
    for record in records:
        said = [f"{_name(record)}: {record.label}"] if record.label not in (None, "stable") else []
        said += [f"{_name(record)}: {text}" for text in record.warnings]
        lines += [f"- {escape(text)}" for text in said]
    unread = {r.figures["gpu.usage"].reason for r in records if "gpu.usage" in r.figures}
    lines += [f"- no gpu_usage: {escape(reason)}" for reason in sorted(unread - {None}, key=str)]
    return lines


def _batching(conditions: Mapping[str, Any]) -> str:
    if "max_batch" not in conditions:
        return "none: every request is run alone"
    delay_ms = 1e3 * float(conditions.get("max_delay_s") or 0.0)
    instances = conditions.get("batcher_instances")
    return f"{conditions.get('policy')}, up to {conditions['max_batch']}, {delay_ms:g} ms, {instances} instances"


def _joined(*parts: Any) -> str:
    return " ".join(str(p) for p in parts if p)


def _name(record: Record) -> str:
    return escape(record.subject.get("model") or DASH)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
