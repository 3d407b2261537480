"""The candidate table as text: its columns, cells and footnotes; markdown and terminal share them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from assay.core.record import Figure
from assay.present.figures import DASH, format_drop, format_figure
from assay.present.rows import Accuracy, Numeric, Row
from assay.present.text import one_line

CHOSEN_MARK = "▶"
EAGER = "vs torch eager fp32"
COMPILED = "vs torch.compile"
SPEEDUP = "vs reference"
SHORT_SPEEDUP = "speed-up"
ACCURACY = "accuracy"


@dataclass(frozen=True)
class Column:
    """``cell`` writes a row's text and ``note`` what is too long for a cell; it becomes a footnote.

    ``optional`` columns are left out when no row has anything in them, ``varying`` ones where all rows
    say the same; ``right`` sets numbers flush right.
    """

    header: str
    cell: Callable[[Row], str]
    note: Callable[[Row], str | None] = lambda row: None
    right: bool = False
    optional: bool = False
    varying: bool = False

    def worth_showing(self, rows: Sequence[Row]) -> bool:
        texts = {self.cell(row) for row in rows}
        if self.varying and len(texts - {DASH}) <= 1:
            return False
        return not self.optional or bool(texts - {"", DASH})


@dataclass(frozen=True)
class TableText:
    """``cells`` holds one tuple a row, as long as ``columns``; ``notes`` are the footnotes, [1] first;
    ``rows`` are the rows shown, ``left_out`` says in lines what a compact table leaves out."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    cells: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    left_out: tuple[str, ...] = ()

    @property
    def headers(self) -> tuple[str, ...]:
        return tuple(column.header for column in self.columns)

    def lines_below(self) -> list[str]:
        """The footnotes with their numbers, then what was left out."""
        return [*(f"[{number}] {note}" for number, note in enumerate(self.notes, 1)), *self.left_out]


def table_text(rows: Sequence[Row]) -> TableText:
    """The whole table: every row, every column worth showing; accuracy and numerics always are."""
    return _written(rows, COLUMNS)


def compact_text(rows: Sequence[Row]) -> TableText:
    """The table for a terminal: no intervals, and what never became a candidate as lines below it."""
    shown = [row for row in rows if row.candidate or row.batch is not None]
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row not in shown:
            reasons.setdefault(_because(row), []).append(_name(row))
    left_out = tuple(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
    metric = _metric(shown)
    written = _written(shown, [_without(c, metric) if c.header == ACCURACY and metric else c for c in COMPACT])
    over = _over(rows) if SHORT_SPEEDUP in written.headers else None
    said = [f"speed-up is over {over}"] if over else []
    said += [f"accuracy is {metric}"] if metric else []
    return replace(written, left_out=(*([", ".join(said)] if said else []), *left_out))


def _metric(rows: Sequence[Row]) -> str | None:
    """The metric that all rows' accuracies are in: named below the table, not in every cell."""
    names = {row.accuracy.name or "" for row in rows if row.accuracy.state == "checked"}
    return one_line(names.pop().removeprefix("accuracy.")) if len(names) == 1 else None


def _without(column: Column, metric: str) -> Column:
    return replace(column, cell=lambda row: _accuracy_state(row).removeprefix(f"{metric} "))


def _written(rows: Sequence[Row], columns: Sequence[Column]) -> TableText:
    kept = tuple(_named(c, rows) for c in columns if c.worth_showing(rows))
    notes: dict[str, int] = {}
    cells = tuple(tuple(_noted(column, row, notes) for column in kept) for row in rows)
    return TableText(kept, tuple(rows), cells, tuple(notes))


def _named(column: Column, rows: Sequence[Row]) -> Column:
    """The speed-up column says over what."""
    return column if column.header != SPEEDUP else replace(column, header=speedup_header(rows))


def speedup_header(rows: Sequence[Row]) -> str:
    """Over PyTorch in eager mode only where that was the reference; ``SPEEDUP`` where there were several."""
    found = _over(rows)
    return SPEEDUP if found is None else one_line(f"vs {found}")


def _over(rows: Sequence[Row]) -> str | None:
    """What the speed-ups are over; None where rows were compared with different references."""
    references = {row.numeric.reference for row in rows if row.numeric.reference} or {"torch fp32"}
    if len(references) > 1:
        return None
    found = references.pop()
    return EAGER.removeprefix("vs ") if found == "torch fp32" else found


def _noted(column: Column, row: Row, notes: dict[str, int]) -> str:
    text, note = column.cell(row), column.note(row)
    return f"{text} [{notes.setdefault(one_line(note), len(notes) + 1)}]" if note else text


def accuracy_text(accuracy: Accuracy, *, interval: bool = True) -> str:
    """``top1 98.67 % (97.10–99.40)`` or ``not checked: weights are randomised``."""
    if accuracy.state != "checked":
        return one_line(f"{accuracy.state}: {accuracy.reason}" if accuracy.reason else accuracy.state)
    figure = format_figure(accuracy.figure, interval=interval)
    return one_line(f"{(accuracy.name or '').removeprefix('accuracy.')} {figure}")


def lost_text(accuracy: Accuracy) -> str:
    """``0.30 points (0.10–0.50)``; ``change 0.0012`` where nobody said which way the figure is good."""
    text = format_drop(accuracy.drop)
    known = accuracy.drop is not None and accuracy.drop.value is not None
    return text if accuracy.lost == "drop" or not known else f"{accuracy.lost} {text}"


def numeric_text(numeric: Numeric) -> str:
    """``equal (2.1e-07)`` or ``not checked: no verification was run``."""
    if not numeric.checked:
        return one_line(f"not checked: {numeric.reason}" if numeric.reason else "not checked")
    return one_line(f"{numeric.name} ({_exponent(numeric.relative_rms)})")


def _exponent(figure: Figure | None) -> str:
    if figure is None:
        return "no relative rms given"
    if figure.value is None:
        return format_figure(figure)
    return f"{figure.value:.2g}" if figure.value else "0"


def _accuracy_state(row: Row) -> str:
    checked = row.accuracy.state == "checked"
    return accuracy_text(row.accuracy, interval=False) if checked else row.accuracy.state


def _accuracy_note(row: Row) -> str | None:
    found = row.accuracy
    return None if found.state == "checked" or not found.reason else f"accuracy {found.state}: {found.reason}"


def _numeric_note(row: Row) -> str | None:
    found = row.numeric
    return None if found.checked or not found.reason else f"numerics not checked: {found.reason}"


def _subject(name: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        value = row.subject.get(name)
        return DASH if value is None else one_line(value)

    return cell


def _device(row: Row) -> str:
    """The device's own name, which tells two of one sort apart; what never ran has none."""
    if not row.candidate:
        return DASH
    return one_line(row.subject.get("device_name") or row.subject.get("device") or DASH)


def _throughput(*, interval: bool) -> Callable[[Row], str]:
    """A withheld throughput says why in its cell, unless the row's status says the same."""

    def cell(row: Row) -> str:
        figure = row.speeds["throughput"]
        if figure.value is None:
            return DASH if row.status != "ok" else one_line(format_figure(figure))
        return one_line(format_figure(figure, interval=interval).replace(" samples/s", "", 1))

    return cell


def _speed(name: str, *, interval: bool) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        figure = row.speeds.get(name)
        return DASH if figure is None or figure.value is None else one_line(format_figure(figure, interval=interval))

    return cell


def _speed_note(name: str) -> Callable[[Row], str | None]:
    """Why this one figure is withheld where the whole row is not, or what is to be said of it."""

    def note(row: Row) -> str | None:
        figure = row.speeds.get(name)
        if figure is None or (figure.value is None and row.speeds["throughput"].reason == figure.reason):
            return None
        return figure.reason

    return note


def _status(row: Row) -> str:
    return "" if row.status == "ok" else row.status


def _status_note(row: Row) -> str | None:
    return _because(row) if row.reason else None


def _because(row: Row) -> str:
    return one_line(f"{row.status} because {row.reason}" if row.reason else row.status)


def _name(row: Row) -> str:
    """``openvino bf16``, with threads and streams where they were set."""
    subject = row.subject
    parts = [str(subject[name]) for name in ("engine", "precision") if subject.get(name)]
    parts += [f"{subject[name]}{name[0]}" for name in ("threads", "streams") if subject.get(name)]
    return one_line(" ".join(parts))


def _scenario(row: Row) -> str:
    """Where the row's throughput and latencies come from."""
    used = dict.fromkeys(row.sources[n] for n in ("throughput", "latency.p50") if n in row.sources)
    return one_line(" / ".join(used) or DASH)


_MARK = Column("", lambda row: CHOSEN_MARK if row.chosen else "", optional=True)
_BATCH = Column("batch", lambda row: DASH if row.batch is None else str(row.batch), right=True)
_SCENARIO = Column("scenario", _scenario, varying=True)
_MODEL = Column("model", _subject("model"), varying=True)
_DEVICE = Column("device", _device, varying=True)
_LABEL = Column("label", lambda row: one_line(row.label or ""), optional=True)
_STATUS = Column("status", _status, _status_note, optional=True)
_NUMERICS = "numerics (relative rms)"


def _latency(name: str, *, interval: bool) -> Column:
    figure = f"latency.{name}"
    return Column(name, _speed(figure, interval=interval), _speed_note(figure), right=True)


def _over_reference(*, interval: bool) -> Column:
    cell = _speed("speedup.eager", interval=interval)
    return Column(SPEEDUP, cell, _speed_note("speedup.eager"), right=True, optional=True)


COLUMNS: tuple[Column, ...] = (
    _MARK,
    _MODEL,
    Column("engine", _subject("engine")),
    Column("precision", _subject("precision")),
    _DEVICE,
    _BATCH,
    _SCENARIO,
    Column("threads", _subject("threads"), right=True, optional=True),
    Column("streams", _subject("streams"), right=True, optional=True),
    Column("samples/s", _throughput(interval=True), right=True),
    _latency("p50", interval=True),
    _latency("p90", interval=False),
    _latency("p99", interval=False),
    _over_reference(interval=True),
    Column(
        COMPILED,
        _speed("speedup.torch_compile", interval=True),
        _speed_note("speedup.torch_compile"),
        right=True,
        optional=True,
    ),
    Column("accuracy", lambda row: accuracy_text(row.accuracy)),
    Column("drop", lambda row: lost_text(row.accuracy), right=True, optional=True),
    Column(_NUMERICS, lambda row: numeric_text(row.numeric)),
    Column("memory", lambda row: format_figure(row.memory, interval=False), right=True, optional=True),
    _LABEL,
    _STATUS,
)
COMPACT: tuple[Column, ...] = (
    Column("candidate", lambda row: f"{CHOSEN_MARK} {_name(row)}" if row.chosen else _name(row)),
    _MODEL,
    _DEVICE,
    _BATCH,
    _SCENARIO,
    Column("samples/s", _throughput(interval=False), right=True),
    _latency("p50", interval=False),
    _latency("p99", interval=False),
    replace(_over_reference(interval=False), header=SHORT_SPEEDUP),
    Column(ACCURACY, _accuracy_state, _accuracy_note),
    Column("numerics", lambda row: one_line(row.numeric.name or "not checked"), _numeric_note),
    _LABEL,
    _STATUS,
)
