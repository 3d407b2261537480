"""The cells of the candidate table in HTML: text to read, a value to sort by, and the record behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape as html_escape

from assay.core.record import Figure
from assay.present.columns import COMPILED, accuracy_text, speedup_header
from assay.present.figures import DASH, format_drop, format_figure
from assay.present.rows import CLASSES, Row
from assay.present.text import one_line

GOOD_LABELS = ("stable",)
_BAD_CLASSES = ("suspicious", "outside tolerance", "wrong")


def safe(text: object) -> str:
    """``text`` on one line, harmless as HTML text and inside quoted attributes."""
    return html_escape(one_line(text), quote=True)


@dataclass(frozen=True)
class Cell:
    """``html`` is ready to be put into the page; ``sort`` None goes last; ``note`` becomes a footnote;
    ``record`` is the id of the record that the cell rests on."""

    html: str
    sort: float | str | None = None
    note: str | None = None
    record: str | None = None


@dataclass(frozen=True)
class Column:
    """``cell`` writes a row's cell; ``wide`` columns hold text and are set flush left."""

    header: str
    cell: Callable[[Row], Cell]
    wide: bool = False
    optional: bool = False


def columns(rows: Sequence[Row]) -> list[Column]:
    """Every column some row has something in; accuracy, numerics and the trust label always are there."""
    largest = max((v for r in rows if (v := _value(r.speeds.get("throughput"))) is not None), default=None)
    every = [
        Column("candidate", _candidate(rows), wide=True),
        Column("batch", batch),
        Column("scenario", scenario, wide=True, optional=True),
        Column("samples/s", _throughput(largest)),
        Column("p50", _speed("latency.p50")),
        Column("p90", _speed("latency.p90", interval=False), optional=True),
        Column("p99", _speed("latency.p99", interval=False)),
        Column(speedup_header(rows), _speed("speedup.eager"), optional=True),
        Column(COMPILED, _speed("speedup.torch_compile"), optional=True),
        Column("accuracy", accuracy, wide=True),
        Column("numerics", numeric, wide=True),
        Column("memory", memory, optional=True),
        Column("trust", trust, wide=True),
    ]
    return [c for c in every if not c.optional or any(c.cell(r).sort not in (None, "") for r in rows)]


def name(row: Row) -> str:
    """``openvino bf16``; where several runs are in one report, the run's name comes first."""
    subject = row.subject
    return one_line(" ".join(str(subject[n]) for n in ("run", "engine", "precision") if subject.get(n)) or "unnamed")


def full_name(row: Row) -> str:
    """``openvino bf16, batch 8``."""
    return name(row) + (f", batch {row.batch}" if row.batch is not None else "")


def _candidate(rows: Sequence[Row]) -> Callable[[Row], Cell]:
    """Engine and precision; below them what sets this row apart: device, threads, streams, the choice."""
    varying = [n for n in ("model", "device_name") if len({row.subject.get(n) for row in rows} - {None}) > 1]

    def cell(row: Row) -> Cell:
        small = [f"{row.subject[n]} {n}" for n in ("threads", "streams") if row.subject.get(n)]
        small = [str(row.subject[n]) for n in varying if row.subject.get(n)] + small
        mark = '<span class="mark" title="the chosen configuration">chosen</span>' if row.chosen else ""
        below = f'<span class="sub">{safe(" · ".join(small))}</span>' if small else ""
        record = row.record_ids[0] if row.record_ids and row.status != "ok" else None
        html = f'<span class="name">{safe(name(row))}</span>{below}{mark}{_status(row)}'
        return Cell(html, name(row), _why(row), record)

    return cell


def _status(row: Row) -> str:
    if row.status == "ok":
        return ""
    return f'<br><span class="chip {"bad" if row.status == "failed" else "warn"}">{safe(row.status)}</span>'


def _why(row: Row) -> str | None:
    return f"{row.status} because {row.reason}" if row.status != "ok" and row.reason else None


def batch(row: Row) -> Cell:
    return Cell(DASH) if row.batch is None else Cell(str(row.batch), row.batch)


def scenario(row: Row) -> Cell:
    return Cell(safe(row.scenario or DASH), row.scenario)


def _throughput(largest: float | None) -> Callable[[Row], Cell]:
    """The rate, with a bar as long as its share of the fastest row's."""

    def cell(row: Row) -> Cell:
        made = _speed("throughput")(row)
        value = _value(row.speeds.get("throughput"))
        if value is None or not largest:
            return made
        bar = f'<span class="bar" style="width:{max(0.0, min(1.0, value / largest)):.1%}"></span>'
        return Cell(bar + made.html.replace(" samples/s", "", 1), made.sort, made.note, made.record)

    return cell


def _speed(figure_name: str, *, interval: bool = True) -> Callable[[Row], Cell]:
    def cell(row: Row) -> Cell:
        figure, record = row.speeds.get(figure_name), row.origins.get(figure_name)
        if figure is None:
            return Cell(DASH)
        if figure.value is None:
            same = figure_name != "throughput" and row.speeds["throughput"].reason == figure.reason
            unmeasured = row.status not in ("ok", "failed")
            return Cell(DASH, None, None if same or unmeasured else figure.reason, record)
        return Cell(_number(figure, interval=interval), figure.value, figure.reason, record)

    return cell


def _number(figure: Figure, *, interval: bool = True) -> str:
    point = safe(format_figure(figure, interval=False))
    whole = safe(format_figure(figure))
    spread = whole.removeprefix(point).strip(" ()") if interval and whole != point else ""
    return f'<span class="num">{point}</span>' + (f'<span class="sub">{spread}</span>' if spread else "")


def accuracy(row: Row) -> Cell:
    found = row.accuracy
    if found.state != "checked":
        note = f"accuracy {found.state}: {found.reason}" if found.reason else None
        return Cell(f'<span class="chip warn">{safe(found.state)}</span>', None, note, found.record)
    drop = f'<span class="sub">{found.lost} {_drop(found.drop)}</span>' if found.drop is not None else ""
    text = safe(accuracy_text(found, interval=False))
    return Cell(f'<span class="num">{text}</span>{drop}', _value(found.figure), None, found.record)


def _drop(figure: Figure) -> str:
    """The drop, and its interval on a line below."""
    point, _, interval = format_drop(figure).partition(" (")
    return safe(point) + (f"<br>{safe(interval.removesuffix(')'))}" if interval else "")


def numeric(row: Row) -> Cell:
    found = row.numeric
    record = found.records[0] if found.records else None
    if not found.checked:
        note = f"numerics not checked: {found.reason}" if found.reason else None
        return Cell('<span class="chip warn">not checked</span>', None, note, record)
    tone = "bad" if found.name in _BAD_CLASSES else "good" if found.name in CLASSES else "warn"
    rms = _value(found.relative_rms)
    below = f'<span class="sub">rms {rms:.2g}</span>' if rms is not None else ""
    return Cell(f'<span class="chip {tone}">{safe(found.name)}</span>{below}', rms, None, record)


def memory(row: Row) -> Cell:
    figure = row.memory
    if figure is None or figure.value is None:
        return Cell(DASH)
    record = row.record_ids[0] if row.record_ids else None
    return Cell(safe(format_figure(figure, interval=False)), figure.value, None, record)


def trust(row: Row) -> Cell:
    """Whether the series of timings can be relied on, one chip a label."""
    labels = [text.strip() for text in (row.label or "").split(",") if text.strip()]
    chips = [f'<span class="chip {"good" if t in GOOD_LABELS else "warn"}">{safe(t)}</span>' for t in labels]
    return Cell(f'<span class="stack">{" ".join(chips)}</span>' if chips else DASH, row.label)


def _value(figure: Figure | None) -> float | None:
    return None if figure is None else figure.value
