"""Any pipe table whose labels name devices, batch sizes and figures: one Record per cell.

Rows and columns may be either; a column may also give the batch or the device of its row.  Columns such
as ``310P/T4`` are ratios of two devices, a row called best (最优) repeats another row's cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from assay.core.record import Figure, Record
from assay.importers.context import Document, Facts, batches_in, facts_of
from assay.importers.devices import canonical
from assay.importers.imported import Hints
from assay.importers.reading import NOT_STATED, Basis, Reading, Tool, record_of
from assay.importers.source import number
from assay.importers.tables import Table

_BATCH_COLUMN = re.compile(r"^(?:batch(?:[ _-]?size)?|bs|批(?:大小|次)?)$", re.I)
_DEVICE_COLUMN = re.compile(
    r"^(?:device|gpu|npu|hardware|card|accelerator|platform|chip|设备|显卡|硬件|芯片|卡)$", re.I
)
_MODEL_COLUMN = re.compile(r"^(?:model|network|backbone|模型|网络)(?: ?name|名称?)?$", re.I)
_PRECISION_COLUMN = re.compile(r"^(?:precision|dtype|data type|数据类型|精度类型)$", re.I)
_BEST = re.compile(r"最优|最佳|\bbest\b", re.I)
_RATIO = re.compile(r"^\s*([^/]+?)\s*/\s*([^/]+?)\s*$")
_RATE = re.compile(r"吞吐|throughput|\bqps\b|\bfps\b|(?:samples?|images?|imgs?)\s*/\s*s|samples_per_sec|帧率", re.I)
_LATENCY = re.compile(r"latency|延迟|时延|耗时|\(ms\)|step_time", re.I)
_ACCURACY = re.compile(r"精度|准确率|accuracy|\bacc\b|top-?\d|error@\d|acc@\d", re.I)
_ACCURACY_CELL = re.compile(r"(error|top|acc(?:uracy)?)\s*[@-]?\s*(\d)\s*[:=]?\s*(\d{1,3}(?:\.\d+)?)\s*%?", re.I)
_NUMBER = re.compile(
    r"^\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d{1,12}(?:\.\d+)?)\s*(fps|qps|samples?/s|images?/s|imgs?/s|ms|us|s|%)?\s*$",
    re.I,
)
_TIMES = {"ms": 1e-3, "us": 1e-6, "s": 1.0}


@dataclass(frozen=True)
class Label:
    """What a row's or column's label says."""

    text: str = ""
    facts: Facts = field(default_factory=Facts)
    metric: str | None = None
    best: bool = False
    pair: tuple[str, str] | None = None
    model: str | None = None


@dataclass(frozen=True)
class Around:
    """What is known of a table from outside it."""

    document: Document
    hints: Hints
    about_performance: bool


def cell_records(table: Table, around: Around) -> Iterator[Record]:
    """The Records of every cell that holds a measurement; nothing for a table of other things."""
    columns = [_label(text, around) for text in table.header[1]]
    special = {i for i, c in enumerate(table.header[1]) if _is_key_column(c)}
    for line, row in table.rows:
        label = _row_label(table.header[1], row, special, around)
        for i, text in enumerate(row):
            if i == 0 or i in special or not text:
                continue
            yield from _cell(Cell(table, line, text, label, columns[i]), around)


@dataclass(frozen=True)
class Cell:
    table: Table
    line: int
    text: str
    row: Label
    column: Label

    @property
    def conditions(self) -> dict[str, object]:
        return {
            "table": {"row": self.row.text, "column": self.column.text, "line": self.table.lines[0]},
            "best_row": self.row.best or self.column.best,
        }


def _is_key_column(text: str) -> bool:
    patterns = (_BATCH_COLUMN, _DEVICE_COLUMN, _MODEL_COLUMN, _PRECISION_COLUMN)
    return any(p.match(text.strip()) for p in patterns)


def _row_label(header: Sequence[str], row: Sequence[str], special: set[int], around: Around) -> Label:
    """What the first cell says, and what the batch, device, model and precision columns say."""
    label = _label(row[0], around)
    facts, model = label.facts, None
    for i in special:
        text, name = row[i].strip(), header[i].strip()
        if _BATCH_COLUMN.match(name) and re.fullmatch(r"\d{1,6}", text) and int(text) > 0:
            facts = replace(facts, batch=int(text))
        elif _DEVICE_COLUMN.match(name) and text:
            facts = replace(facts, device=canonical(text))
        elif _PRECISION_COLUMN.match(name) and text:
            facts = replace(facts, precision=text.lower())
        elif _MODEL_COLUMN.match(name) and text:
            model = text
    return replace(label, facts=facts, model=model)


def _label(text: str, around: Around) -> Label:
    pair = _pair(text, around)
    facts = Facts() if pair else facts_of(text, around.document)
    if _BEST.search(text):
        facts = replace(facts, batch=None)
    return Label(text, facts, _metric(text), bool(_BEST.search(text)), pair)


def _pair(text: str, around: Around) -> tuple[str, str] | None:
    match = _RATIO.match(text)
    if match is None:
        return None
    ends = [facts_of(end, around.document).device for end in match.groups()]
    return (ends[0], ends[1]) if ends[0] and ends[1] and ends[0] != ends[1] else None


def _metric(text: str) -> str | None:
    if _RATE.search(text):
        return "throughput"
    if _ACCURACY.search(text):
        return "accuracy"
    return "latency" if _LATENCY.search(text) else None


def _cell(cell: Cell, around: Around) -> Iterator[Record]:
    pair = cell.column.pair or cell.row.pair
    facts = _merged(cell.row.facts, cell.column.facts)
    match = _NUMBER.match(cell.text)
    metric = cell.column.metric or cell.row.metric
    if pair:
        if match and not match[2]:
            yield _ratio(cell, around, pair, facts)
        return
    scores = dict(_scores(cell))
    if scores:
        yield _record(cell, around, facts, scores, "evaluate")
    elif match:
        figures = _figures(cell, match, metric or _implied(facts, cell, around, match[2]))
        if figures and (facts.batch or facts.device or cell.row.model or cell.row.best):
            kind = "evaluate" if any(name.startswith("accuracy") for name in figures) else "measure"
            yield _record(cell, around, facts, figures, kind)


def _merged(row: Facts, column: Facts) -> Facts:
    return Facts(column.device or row.device, row.batch or column.batch, row.precision or column.precision)


def _implied(facts: Facts, cell: Cell, around: Around, unit: str | None) -> str | None:
    """Device against batch under a heading about performance: a throughput, though nobody says so."""
    if unit and unit.lower() in _TIMES:
        return "latency"
    batch_or_best = facts.batch or cell.row.best or cell.column.best
    if unit == "%":
        return None
    return "throughput" if facts.device and batch_or_best and (around.about_performance or unit) else None


def _scores(cell: Cell) -> Iterator[tuple[str, Figure]]:
    """``Error@1 5.78 Error@5 0.15`` in one cell."""
    for match in _ACCURACY_CELL.finditer(cell.text):
        percent = number(cell.table.source, cell.line, match[3], match[1])
        if percent <= 100:
            is_error = match[1].lower() == "error"
            name = f"error@{match[2]}" if is_error else f"accuracy.top{match[2]}"
            yield name, Figure(percent / 100, "fraction")


def _figures(cell: Cell, match: re.Match[str], metric: str | None) -> Mapping[str, Figure]:
    value = number(cell.table.source, cell.line, match[1], "a cell")
    unit = (match[2] or "").lower()
    if metric == "throughput" and value > 0 and unit not in _TIMES:
        return {"throughput": Figure(value, "samples/s")}
    if metric == "latency" and unit != "%":
        label = cell.column.text + cell.row.text
        scale = _TIMES.get(unit) or (1e-3 if "(s)" not in label else 1.0)
        return {"latency.stated": Figure(value * scale, "s")}
    if metric == "accuracy" and value <= 100:
        names = re.search(r"top-?(\d)", cell.column.text + cell.row.text, re.I)
        fraction = value if value <= 1 and unit != "%" else value / 100
        return {f"accuracy.top{names[1]}" if names else "accuracy.stated": Figure(fraction, "fraction")}
    return {}


def _hints(cell: Cell, around: Around, facts: Facts) -> Hints:
    given = around.hints
    return replace(
        given,
        device=facts.device or given.device,
        batch=facts.batch,
        precision=facts.precision or given.precision,
        model=cell.row.model or given.model,
    )


def _record(cell: Cell, around: Around, facts: Facts, figures: Mapping[str, Figure], kind: str) -> Record:
    basis = Basis(NOT_STATED) if "throughput" in figures else None
    hints = _hints(cell, around, facts)
    if kind == "evaluate" and not facts.batch and not batches_in(cell.row.text):
        hints = replace(hints, batch=None)
    reading = Reading(
        cell.table.source, (cell.line, cell.line), Tool("table", "not stated"), hints, basis, "table", cell.conditions
    )
    return record_of(reading, figures, {"cell": cell.text}, kind)


def _ratio(cell: Cell, around: Around, pair: tuple[str, str], facts: Facts) -> Record:
    value = number(cell.table.source, cell.line, cell.text, "a ratio")
    conditions = {
        **cell.conditions,
        "numerator": pair[0],
        "denominator": pair[1],
        "best": cell.row.best or cell.column.best,
        "words": f"{cell.row.text} {cell.column.text}",
    }
    hints = replace(_hints(cell, around, facts), device=pair[0])
    reading = Reading(
        cell.table.source, (cell.line, cell.line), Tool("table", "not stated"), hints, None, "table", conditions
    )
    return record_of(reading, {"ratio": Figure(value, "ratio")}, {"cell": cell.text}, "ratio")
