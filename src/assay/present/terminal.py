"""Tables and panels for a terminal, as rich renderables; whoever calls prints them.

All text goes through ``rich.text.Text``: a name with square brackets is not markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from assay.core.verdict import Verdict
from assay.present.columns import compact_text
from assay.present.rows import Report, table_rows
from assay.present.text import one_line, state_word

if TYPE_CHECKING:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

WIDEST = 24
"""A column that a terminal cannot spare more than this for is folded after all."""

STATE_STYLES = {"passed": "bold green", "failed": "bold red", "not_shown": "bold yellow"}


def candidate_table(report: Report) -> Table:
    """The candidate table; the chosen row is bold, skipped and failed ones are dim."""
    rows = table_rows(report)
    text = compact_text(rows)
    table = _table(one_line(report.title))
    table.show_edge = False
    for place, column in enumerate(text.columns):
        justify: Literal["left", "right"] = "right" if column.right else "left"
        cells = [one_line(row[place]) for row in text.cells]
        # Nothing is cut off and no column may vanish: a speed must not lose the accuracy beside it.  Names and
        # numbers stay on one line where that fits, and words are not broken.
        widest = max(map(len, [column.header, *cells]))
        whole = (place == 0 or column.right) and widest <= WIDEST
        longest = max((len(word) for t in (column.header, *cells) for word in t.split()), default=1)
        table.add_column(
            _text(column.header), justify=justify, overflow="fold", no_wrap=whole, min_width=min(longest, WIDEST)
        )
    for row, line in zip(text.rows, text.cells, strict=True):
        style = "bold" if row.chosen else ("dim" if row.status != "ok" else "")
        table.add_row(*map(_text, line), style=style)
    notes = text.lines_below() if rows else ["no candidate was built or measured"]
    table.caption = _lines(notes) if notes else None
    table.caption_justify = "left"
    return table


def verdict_panel(verdict: Verdict | None) -> Panel:
    """The verdict with every reason and everything not checked."""
    from rich.panel import Panel
    from rich.text import Text

    if verdict is None:
        return Panel(_text("nothing was judged"), title=_text("no verdict"))
    body = Text()
    for reason in verdict.reasons:
        body.append(state_word(reason.state), STATE_STYLES.get(reason.state, ""))
        body.append(f"  {one_line(reason.limit)}: {one_line(reason.text)}\n")
    for text in verdict.not_checked:
        body.append(f"not checked  {one_line(text)}\n", "dim")
    body.rstrip()
    style = STATE_STYLES.get(verdict.state, "")
    return Panel(body, title=Text(f"verdict: {state_word(verdict.state)}", style), border_style=style)


def listing(title: str, headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """A simple table."""
    table = _table(one_line(title))
    for header in headers:
        table.add_column(_text(header))
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    return table


def _table(title: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(
        title=_text(title),
        box=SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def _text(value: object) -> Text:
    from rich.text import Text

    return Text(one_line(value))


def _lines(lines: Sequence[str]) -> Text:
    from rich.text import Text

    return Text("\n".join(map(one_line, lines)))
