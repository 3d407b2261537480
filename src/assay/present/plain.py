"""The same tables as plain aligned lines, for pipes and log files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.core.verdict import Verdict
from assay.present.columns import compact_text
from assay.present.rows import Report, table_rows
from assay.present.text import one_line, state_word


def candidate_lines(report: Report) -> list[str]:
    """The candidate table; one line that says so when there is nothing to show."""
    rows = table_rows(report)
    if not rows:
        return ["no candidate was built or measured"]
    table = compact_text(rows)
    return [*listing_lines(table.headers, table.cells), *table.lines_below()]


def verdict_lines(verdict: Verdict | None) -> list[str]:
    """The verdict, its reasons and what was not checked."""
    if verdict is None:
        return ["no verdict: nothing was judged"]
    lines = [f"verdict: {state_word(verdict.state)}"]
    lines += [f"  {state_word(r.state)}: {one_line(r.limit)}: {one_line(r.text)}" for r in verdict.reasons]
    lines += [f"  not checked: {one_line(text)}" for text in verdict.not_checked]
    return lines


def key_value_lines(pairs: Mapping[str, Any]) -> list[str]:
    """``name   value``, aligned."""
    width = max((len(one_line(name)) for name in pairs), default=0)
    return [f"{one_line(name):<{width}}  {one_line(value)}".rstrip() for name, value in pairs.items()]


def listing_lines(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A header line and one line per row, columns aligned and two blanks apart."""
    table = [[one_line(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(headers))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
