"""Tables as plain aligned lines, for pipes and log files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from assay.present.text import one_line


def listing_lines(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A header line and one line per row, columns aligned and two blanks apart."""
    table = [[one_line(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(headers))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in table]
