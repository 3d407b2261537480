"""The lower parts of the page: footnotes, notes, environment, the list of records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from assay.core.record import Record
from assay.present.html_cells import full_name, safe
from assay.present.markdown import environment_values, remarks
from assay.present.rows import Report, Row


def footnotes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    items = "".join(f'<li id="note-{number}">{safe(text)}</li>' for number, text in enumerate(notes, 1))
    return f'<ol class="footnotes">{items}</ol>'


def notes_list(report: Report, rows: Sequence[Row]) -> str:
    said = remarks(report.about)
    whose: dict[str, list[str]] = {}
    for row in rows:
        for text in row.warnings:
            whose.setdefault(text, []).append(full_name(row))
    said += [f"{'; '.join(dict.fromkeys(names))}: {text}" for text, names in whose.items()]
    return _list(dict.fromkeys(said)) or '<p class="empty">Nothing to note.</p>'


def findings_list(report: Report) -> str:
    """What an import noticed about the figures, the contradictions first; empty where there is nothing."""
    found = [f for f in report.about.get("findings") or () if isinstance(f, Mapping)]
    if not found:
        return ""
    order = {"contradiction": 0, "suspect": 1}
    items = []
    for finding in sorted(found, key=lambda f: order.get(str(f.get("severity")), 2)):
        severity = str(finding.get("severity"))
        tone = {"contradiction": "bad", "suspect": "warn"}.get(severity, "")
        where = f'<span class="sub">{safe(finding.get("where"))}</span>' if finding.get("where") else ""
        items.append(f'<li><span class="chip {tone}">{safe(severity)}</span> {safe(finding.get("text"))}{where}</li>')
    title = f"<h2>Findings</h2><p class='hint'>{len(found)} things that the imported figures say about each other.</p>"
    return f'<section id="findings" class="card">{title}<ul class="reasons">{"".join(items)}</ul></section>'


def _list(texts: Iterable[str]) -> str:
    items = "".join(f"<li>{safe(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def environment_table(records: Sequence[Record]) -> str:
    """Every entry all records agree on once; those they do not agree on with all their values."""
    values = environment_values(records)
    if not values:
        return '<p class="empty">The records name no environment.</p>'
    lines = "".join(f"<tr><th>{safe(n)}</th><td>{safe(_values(v))}</td></tr>" for n, v in values.items())
    return f'<table class="pairs">{lines}</table>'


def _values(found: Sequence[str]) -> str:
    if len(found) <= 4:
        return " / ".join(found)
    return f"{' / '.join(found[:3])} / … ({len(found)} values; each record has its own)"


def records_table(records: Sequence[Record]) -> str:
    """One line a record; the page's script opens its raw JSON."""
    if not records:
        return '<p class="empty">There are no records.</p>'
    lines = []
    for record in records:
        subject = record.subject
        what = " ".join(str(subject[n]) for n in ("engine", "precision") if subject.get(n))
        batch = record.conditions.get("batch", "")
        case = f"{record.conditions.get('scenario') or record.conditions.get('basis') or ''}"
        link = f'<a href="#record-{safe(record.id)}" data-record="{safe(record.id)}">{safe(record.id)}</a>'
        cells = (safe(record.kind), safe(what), safe("" if batch is None else batch), safe(case), safe(record.status))
        lines.append(f"<tr><td>{link}</td>{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
    head = "".join(f"<th>{h}</th>" for h in ("record", "kind", "subject", "batch", "scenario", "status"))
    table = f'<table class="flips"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    summary = f"<summary><strong>{len(records)} records</strong> <span>of records.jsonl</span></summary>"
    return f'<details>{summary}<div class="scroll">{table}</div></details>'
