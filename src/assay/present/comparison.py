"""A comparison as text: cells with their ratio and accuracy state; what is to be said of them as footnotes.

Works on plain dicts (``lines_of`` gives them), so that it needs to know nothing of who compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assay.core.record import Figure
from assay.present.figures import DASH, format_drop, format_figure
from assay.present.terminal import listing
from assay.present.text import one_line

if TYPE_CHECKING:
    from rich.table import Table

FASTEST_MARK = "▶"


@dataclass(frozen=True)
class CellText:
    """``ratio`` is absent in the base column; ``state`` the accuracy state; ``at`` the batch size where a
    line has several."""

    figure: Figure
    ratio: Figure | None
    state: str
    notes: tuple[str, ...]
    fastest: bool = False
    at: str = ""


@dataclass(frozen=True)
class LineText:
    title: str
    batch: str
    cells: tuple[CellText | None, ...]


def comparison_table(
    title: str, columns: Sequence[str], base: int, lines: Sequence[LineText]
) -> tuple[Table, list[str]]:
    """The table and its footnotes.  Every cell: the figure with its interval, the ratio to the base column's,
    the accuracy state."""
    notes: dict[str, int] = {}
    last = None
    rows: list[tuple[str, ...]] = []
    table = listing(title, (), ())
    from rich.text import Text

    table.add_column(Text("configuration"), overflow="fold")
    table.add_column(Text("batch"), justify="right")
    for place, name in enumerate(columns):
        table.add_column(Text(one_line(name) + (" (base)" if place == base else "")), justify="right", overflow="fold")
    for line in lines:
        cells = [_cell(cell, notes) for cell in line.cells]
        rows.append((one_line(line.title) if line.title != last else "", one_line(line.batch), *cells))
        last = line.title
    for row, line in zip(rows, lines, strict=True):
        style = "bold" if line.batch.startswith("best") else ""
        table.add_row(*(Text(cell) for cell in row), style=style)
    return table, [f"[{number}] {note}" for note, number in notes.items()]


def _cell(cell: CellText | None, notes: dict[str, int]) -> str:
    if cell is None:
        return DASH
    mark = f"{FASTEST_MARK} " if cell.fastest else ""
    unit = " samples/s"
    figure = one_line(format_figure(cell.figure).replace(unit, "", 1)) if cell.figure.value is not None else DASH
    lines = [mark + figure]
    if cell.ratio is not None:
        shown = cell.ratio.value is not None
        lines.append(one_line(format_figure(cell.ratio)) if shown else "not ranked")
    if cell.at:
        lines.append(one_line(cell.at))
    if cell.state:
        lines.append(one_line(cell.state))
    said = [*cell.notes]
    if cell.figure.value is None and cell.figure.reason:
        said.append(cell.figure.reason)
    if cell.ratio is not None and cell.ratio.value is None and cell.ratio.reason:
        said.append(cell.ratio.reason)
    numbers = [notes.setdefault(one_line(text), len(notes) + 1) for text in dict.fromkeys(said)]
    if numbers:
        lines[0] += f" [{','.join(map(str, numbers))}]"
    return "\n".join(lines)


def accuracy_rows(pairs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """(configuration, run, base accuracy, accuracy, paired drop, McNemar p), one a pair."""
    rows = []
    for pair in pairs:
        drop, p = pair["drop"], pair["mcnemar_p"]
        texts = [format_figure(pair[n], interval=False) for n in ("base", "accuracy")]
        rows.append((pair["title"], pair["run"], *texts, format_drop(drop), DASH if p is None else f"{p:.3g}"))
    return rows
