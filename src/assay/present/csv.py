"""report.csv: one row per candidate × batch, numbers in SI base units (RFC 4180, CRLF).

A text cell that a spreadsheet would take for a formula is prefixed with ``'``; numbers are
written by this file and stay numbers.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable

from assay.core.record import Figure
from assay.present.columns import accuracy_text, numeric_text
from assay.present.rows import Report, Row, table_rows

FORMULA_STARTS = tuple(
    "=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}"
)
"""Some spreadsheets take the wide ones of East Asian keyboards for the others, and pass over blanks before them."""
BLANK_STARTS = ("\t", "\r", "\n")
Cell = str | float | int | None

_SPEEDS = (
    ("throughput_samples_per_s", "throughput"),
    ("latency_p50_s", "latency.p50"),
    ("latency_p90_s", "latency.p90"),
    ("latency_p99_s", "latency.p99"),
    ("latency_mean_s", "latency.mean"),
    ("speedup_vs_reference", "speedup.eager"),
    ("speedup_vs_torch_compile", "speedup.torch_compile"),
)


def render(report: Report) -> str:
    """The whole table with a header line; a report without candidates has the header alone."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    rows = table_rows(report)
    columns = _columns()
    writer.writerow([name for name, _ in columns])
    for row in rows:
        writer.writerow([safe(cell(row)) for _, cell in columns])
    return out.getvalue()


def safe(cell: Cell) -> str:
    """A cell's text: formulas defused, a number in full precision, nothing for None or a non-finite number."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return repr(float(cell)) if math.isfinite(cell) else ""  # numpy's own would name its type
    if isinstance(cell, int):
        return str(cell)
    formula = cell.lstrip().startswith(FORMULA_STARTS) or cell.startswith(BLANK_STARTS)
    return f"'{cell}" if formula else cell


def _columns() -> list[tuple[str, Callable[[Row], Cell]]]:
    columns: list[tuple[str, Callable[[Row], Cell]]] = [("chosen", lambda row: row.chosen)]
    for name in ("model", "engine", "engine_version", "precision", "device", "device_name"):
        columns.append((name, _subject(name)))
    columns += [("batch", lambda row: row.batch), ("scenario", lambda row: row.scenario)]
    columns += [("threads", _subject("threads")), ("streams", _subject("streams"))]
    for header, figure in _SPEEDS:
        columns += _figure(header, _speed(figure))
    columns.append(("speed_state", _speed_state))
    columns.append(("accuracy_name", lambda row: row.accuracy.name))
    columns += _figure("accuracy", lambda row: row.accuracy.figure)
    columns += _figure("accuracy_drop", lambda row: row.accuracy.drop)
    columns.append(("accuracy_state", lambda row: accuracy_text(row.accuracy)))
    columns.append(("numeric_class", lambda row: row.numeric.name))
    columns += _figure("numeric_relative_rms", lambda row: row.numeric.relative_rms)[:1]
    columns.append(("reference", lambda row: row.numeric.reference))
    columns.append(("numeric_state", lambda row: numeric_text(row.numeric)))
    columns += _figure("memory_peak_bytes", lambda row: row.memory)[:1]
    columns += [("label", lambda row: row.label), ("status", lambda row: row.status)]
    columns += [("reason", lambda row: row.reason), ("warnings", lambda row: "; ".join(row.warnings))]
    columns += [("confirmed", lambda row: row.confirmed), ("candidate", lambda row: row.candidate)]
    columns.append(("records", lambda row: " ".join(row.record_ids)))
    return columns


def _subject(name: str) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        value = row.subject.get(name)
        return value if value is None or isinstance(value, int | float) else str(value)

    return cell


def _speed(name: str) -> Callable[[Row], Figure | None]:
    return lambda row: row.speeds.get(name)


def _figure(header: str, figure: Callable[[Row], Figure | None]) -> list[tuple[str, Callable[[Row], Cell]]]:
    def part(name: str) -> Callable[[Row], Cell]:
        def cell(row: Row) -> Cell:
            found = figure(row)
            return None if found is None else getattr(found, name)

        return cell

    return [(header, part("value")), (f"{header}_low", part("low")), (f"{header}_high", part("high"))]


def _speed_state(row: Row) -> str:
    """``shown``, or why the throughput is withheld."""
    figure = row.speeds.get("throughput")
    if figure is None:
        return "not measured"
    return "shown" if figure.value is not None else (figure.reason or "withheld")
