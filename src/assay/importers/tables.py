"""Pipe tables: cells with their line numbers, whoever wrote the table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from assay.importers.source import Source

_RULE = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
Row = tuple[int, list[str]]


@dataclass(frozen=True)
class Table:
    """``header`` and ``rows`` have the same number of cells; every row knows its line."""

    source: Source
    header: Row
    rows: tuple[Row, ...]

    @property
    def lines(self) -> tuple[int, int]:
        return self.header[0], self.rows[-1][0] if self.rows else self.header[0]


def cells(line: str) -> list[str]:
    """The cells of one line; an escaped bar belongs to its cell, emphasis marks do not."""
    inner = re.sub(r"^\s*\|", "", re.sub(r"(?<!\\)\|\s*$", "", line))
    parts = re.split(r"(?<!\\)\|", inner)
    return [_plain(part) for part in parts]


def _plain(cell: str) -> str:
    """A cell's text: without emphasis around it, and a link's words in place of the link."""
    text = re.sub(r"(?<!!)\[([^\]]*)\]\([^)]*\)", r"\1", cell.strip().replace("\\|", "|"))
    return re.sub(r"^(\*\*|__|`)(.*)\1$", r"\2", text).strip()


def is_row(line: str) -> bool:
    return line.count("|") >= 1 and (line.lstrip().startswith("|") or line.count("|") >= 2)


def is_rule(line: str) -> bool:
    return "-" in line and "|" in line and bool(_RULE.match(line))


def tables(source: Source) -> list[Table]:
    """Every table with a header rule; short rows are filled up, long ones cut, as Markdown does."""
    found: list[Table] = []
    lines = source.numbered()
    i = 0
    while i + 1 < len(lines):
        if not (is_row(lines[i][1]) and is_rule(lines[i + 1][1])):
            i += 1
            continue
        header = cells(lines[i][1])
        j = i + 2
        while j < len(lines) and is_row(lines[j][1]):
            j += 1
        rows = tuple((n, _fit(cells(text), len(header))) for n, text in lines[i + 2 : j])
        if rows:
            found.append(Table(source, (lines[i][0], header), rows))
        i = j
    return found


def _fit(row: list[str], width: int) -> list[str]:
    return (row + [""] * width)[:width]
