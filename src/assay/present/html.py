"""report.html: one self-contained page; no network, no other file, readable without its script.

The words and the table are written here; ``assets/report.js`` adds sorting, filtering, plots and the
drawer with the raw records.  The plotting library stands beside it with its licence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from assay.core.verdict import Reason, Verdict
from assay.present.columns import COMPILED, speedup_header
from assay.present.figures import format_drop, format_figure
from assay.present.html_cells import Cell, columns, full_name, name, safe
from assay.present.html_data import payload, to_script
from assay.present.html_evidence import divergence_section, pipeline_section
from assay.present.html_gallery import changed_predictions, picture_style
from assay.present.html_sections import (
    environment_table,
    findings_list,
    footnotes,
    notes_list,
    records_table,
)
from assay.present.rows import Report, Row, table_rows
from assay.present.text import one_line, state_word

BUDGET_BYTES = 4_800_000
"""The page stays under 5 MB with many hundred rows; the plotting library takes 1.2 MB of it."""

_TONES = {"passed": "good", "failed": "bad", "not_shown": "warn"}


def render(report: Report) -> str:
    """The whole page; ends with a newline."""
    rows = table_rows(report)
    parts = {
        "title": safe(report.title or "report"),
        "style": _asset("report.css") + picture_style(report.evidence),
        "subtitle": _subtitle(report),
        "tone": _TONES.get(report.verdict.state, "warn") if report.verdict else "warn",
        "verdict": _verdict(report.verdict, rows),
        "tiles": _tiles(rows),
        "table": _table(rows),
        "findings": findings_list(report),
        "changed": changed_predictions(report.records, report.evidence),
        "pipeline": pipeline_section(report.evidence),
        "divergence": divergence_section(report.evidence),
        "notes": notes_list(report, rows),
        "environment": environment_table(report.records),
        "command": _command(report.about),
        "records": records_table(report.records),
        "plotting": _asset("plotly-basic.min.js"),
        "script": _asset("report.js"),
        "more": _asset("evidence.js"),
    }
    rest = sum(len(text.encode()) for text in parts.values())
    parts["payload"] = to_script(payload(report, rows, BUDGET_BYTES - rest))
    return Template(_asset("report.html")).substitute(parts).rstrip("\n") + "\n"


def _asset(file: str) -> str:
    return resources.files("assay.present").joinpath("assets", file).read_text(encoding="utf-8")


def _subtitle(report: Report) -> str:
    dates = sorted(r.created for r in report.records)
    about = report.about
    devices = dict.fromkeys(r.subject.get("device_name") or r.subject.get("device") for r in report.records)
    said = [", ".join(str(d) for d in devices if d), dates[-1][:16].replace("T", " ") + " UTC" if dates else ""]
    said += [f"assay {about['assay']}" if about.get("assay") else "", f"{len(report.records)} records"]
    return " · ".join(safe(text) for text in said if text)


def _verdict(verdict: Verdict | None, rows: Sequence[Row]) -> str:
    if verdict is None:
        return (
            '<p class="state">No verdict</p><p>Nothing was judged.</p><h3>Not checked</h3><ul><li>everything</li></ul>'
        )
    chosen = next((row for row in rows if row.chosen), None)
    words = [f'<p class="state">{safe(state_word(verdict.state))}</p>']
    if chosen is not None:
        fresh = " Its figures come from a fresh run made after the choice." if chosen.confirmed else ""
        words.append(f"<p class='lead'>Chosen: <strong>{safe(full_name(chosen))}</strong>.{fresh}</p>")
    else:
        words.append("<p class='lead'>Nothing was chosen.</p>")
    reasons = "".join(map(_reason, verdict.reasons)) or "<li>no limit was judged</li>"
    unchecked = "".join(f"<li>{safe(text)}</li>" for text in verdict.not_checked)
    words.append(f'<div class="columns"><div><h3>Why</h3><ul class="reasons">{reasons}</ul></div>')
    words.append(f"<div><h3>Not checked</h3><ul>{unchecked or '<li>nothing that the policy asks for</li>'}</ul></div>")
    return "".join([*words, "</div>"])


def _reason(reason: Reason) -> str:
    tone = _TONES.get(reason.state, "warn")
    chip = f'<span class="chip {tone}">{safe(state_word(reason.state))}</span>'
    return f"<li>{chip} <strong>{safe(reason.limit)}</strong> {safe(reason.text)}{_evidence(reason.record)}</li>"


def _evidence(record: str | None) -> str:
    return (
        f' <a class="evidence" href="#record-{safe(record)}" data-record="{safe(record)}">record</a>' if record else ""
    )


def _tiles(rows: Sequence[Row]) -> str:
    """What a manager looks for: the chosen configuration's speed, delay, accuracy and gain."""
    row = next((r for r in rows if r.chosen), None)
    if row is None:
        return ""
    drop = row.accuracy.drop
    tiles = [
        ("throughput", row.speeds.get("throughput"), row.origins.get("throughput")),
        ("median latency", row.speeds.get("latency.p50"), row.origins.get("latency.p50")),
        (speedup_header(rows), row.speeds.get("speedup.eager"), row.origins.get("speedup.eager")),
        (COMPILED, row.speeds.get("speedup.torch_compile"), row.origins.get("speedup.torch_compile")),
        ((row.accuracy.name or "accuracy").removeprefix("accuracy."), row.accuracy.figure, row.accuracy.record),
        (f"{row.accuracy.lost} against the reference", drop, row.accuracy.record),
    ]
    made = []
    for label, figure, record in tiles:
        if figure is None:
            continue
        whole = format_drop(figure) if figure is drop else format_figure(figure)
        point, _, spread = whole.partition(" (")
        spread = spread.removesuffix(")")
        number, _, unit = one_line(point).partition(" ")
        below = f'<span class="spread">{safe(spread)}</span>' if spread else ""
        inner = f'<span class="label">{safe(label)}</span><span class="value">{safe(number)}'
        inner += f' <span class="unit">{safe(unit)}</span></span>{below}'
        made.append(f'<button type="button" class="tile" data-record="{safe(record or "")}">{inner}</button>')
    return f'<div class="tiles">{"".join(made)}</div>'


def _table(rows: Sequence[Row]) -> str:
    if not rows:
        return '<p class="empty">No candidate was built or measured.</p>'
    shown = columns(rows)
    head = "".join(
        f'<th scope="col" aria-sort="none"{" class=wide" if c.wide else ""}>'
        f'<button type="button" data-column="{i}">{safe(c.header)}</button></th>'
        for i, c in enumerate(shown)
    )
    notes: dict[str, int] = {}
    body = []
    for place, row in enumerate(rows):
        cells = [c.cell(row) for c in shown]
        tds = "".join(_cell(cell, c.header, c.wide, notes) for cell, c in zip(cells, shown, strict=True))
        classes = " ".join(filter(None, ("chosen" if row.chosen else "", "" if row.status == "ok" else "dim")))
        words = _searchable(row)
        last = (
            f'<td class="more"><button type="button" data-row="{place}" aria-label="details of {safe(full_name(row))}">'
        )
        body.append(
            f'<tr class="{classes}" data-row="{place}" data-words="{words}">{tds}{last}details</button></td></tr>'
        )
    head = f'<thead><tr>{head}<th class="more"></th></tr></thead>'
    table = f'<table id="candidates">{head}<tbody>{"".join(body)}</tbody></table>'
    return f'<div class="scroll">{table}</div>{footnotes(list(notes))}'


def _searchable(row: Row) -> str:
    """What the filter looks through."""
    subject = row.subject
    words = [subject.get("model"), subject.get("device_name"), name(row), row.batch, row.scenario, row.label]
    return safe(" ".join(str(w) for w in (*words, row.status, row.accuracy.state) if w is not None).lower())


def _cell(cell: Cell, header: str, wide: bool, notes: dict[str, int]) -> str:
    note = ""
    if cell.note:
        text = one_line(cell.note)
        number = notes.setdefault(text, len(notes) + 1)
        note = f'<sup><a href="#note-{number}" title="{safe(text)}">{number}</a></sup>'
    sort = "" if cell.sort is None else f' data-sort="{safe(cell.sort)}"'
    record = f' data-record="{safe(cell.record)}"' if cell.record else ""
    kind = ' class="wide"' if wide else ""
    return f'<td data-label="{safe(header)}"{kind}{sort}{record}>{cell.html}{note}</td>'


def _command(about: Mapping[str, Any]) -> str:
    command = about.get("command")
    if not command:
        return "<p>The command was not recorded.</p>"
    return (
        f'<div class="command"><code id="command">{safe(command)}</code><button type="button" data-copy="command">copy'
        "</button></div><p class='hint'>The details of a row give the command for that row alone.</p>"
    )
