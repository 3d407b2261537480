"""The samples that only one of reference and candidate got right: as pictures where there are some, and as a list."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from assay.core.record import Record
from assay.present.evidence import Evidence
from assay.present.html_cells import safe

MOST_FLIPS, MOST_IN_ALL, LEAST_FLIPS = 50, 900, 5
"""Lines a candidate, lines of all candidates together, and what each has however many they are."""
_PICTURE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/=]+")
_SIDES = ("reference", "candidate")


def changed_predictions(records: Sequence[Record], evidence: Evidence) -> str:
    """One foldable part a candidate, from the evaluations' own lists."""
    shown = [r for r in records if r.kind == "evaluate" and r.status == "ok" and "flipped" in r.details]
    most = max(LEAST_FLIPS, min(MOST_FLIPS, MOST_IN_ALL // max(1, len(shown))))
    parts = []
    for record in shown:
        details = record.details
        title = safe(f"{record.subject.get('engine')} {record.subject.get('precision')}")
        p = details.get("mcnemar_p")
        chance = f" · McNemar p = {p:.3g}" if isinstance(p, float | int) else ""
        count = f"{details.get('lost', '?')} lost, {details.get('won', '?')} won of {details.get('n', '?')}{chance}"
        flips = details["flipped"][:most]
        link = f'<a class="evidence" href="#record-{safe(record.id)}" data-record="{safe(record.id)}">record</a>'
        inner = f"{_gallery(flips, evidence)}{_listed(flips, details, evidence.labels)}{link}"
        open_ = " open" if flips and any(str(f.get("id")) in evidence.pictures for f in flips) else ""
        summary = f"<summary><strong>{title}</strong> <span>{safe(count)}</span></summary>"
        parts.append(f"<details{open_}>{summary}{inner}</details>")
    return "".join(parts) or '<p class="empty">No candidate was compared with the reference sample by sample.</p>'


def picture_style(evidence: Evidence) -> str:
    """Every picture once, however many candidates changed on it; what is no base64 picture is left out."""
    known = enumerate(evidence.pictures.values())
    return "\n".join(f".p{i} {{ background-image: url({uri}); }}" for i, uri in known if _PICTURE.fullmatch(uri))


def _gallery(flips: Sequence[Mapping[str, Any]], evidence: Evidence) -> str:
    """The pictures there are, lost ones first."""
    shown = [f for f in flips if str(f.get("id")) in evidence.pictures]
    cards = "".join(_card(f, evidence) for f in sorted(shown, key=lambda f: not f.get("lost")))
    return f'<div class="gallery">{cards}</div>' if cards else ""


def _card(flip: Mapping[str, Any], evidence: Evidence) -> str:
    """Picture, what it shows, and what either side took it for."""
    id = str(flip.get("id"))
    truth = next((row["target"] for side in _SIDES if "target" in (row := flip.get(side) or {})), None)
    told = [(side, _prediction(flip.get(side) or {}, evidence.labels)) for side in _SIDES]
    lines = [f"<dt>{side}</dt><dd>{safe(text)}</dd>" for side, text in told if text is not None]
    if truth is not None:
        lines.insert(0, f"<dt>truth</dt><dd>{safe(_named(truth, evidence.labels))}</dd>")
    place = list(evidence.pictures).index(id)
    picture = f'<span class="picture p{place}" role="img" aria-label="{safe(id)}" title="{safe(id)}"></span>'
    return f'<figure class="flip">{picture}<figcaption>{_chip(flip)}<dl>{"".join(lines)}</dl></figcaption></figure>'


def _prediction(row: Mapping[str, Any], labels: Sequence[str]) -> str | None:
    best = row.get("top5")
    return _named(best[0], labels) if isinstance(best, list | tuple) and best else None


def _named(label: Any, labels: Sequence[str]) -> str:
    """``3 cat``; the number alone where it has no name, or one that says the same."""
    name = labels[label] if isinstance(label, int) and 0 <= label < len(labels) else None
    return str(label) if name in (None, str(label)) else f"{label} {name}"


def _chip(flip: Mapping[str, Any]) -> str:
    return '<span class="chip bad">lost</span>' if flip.get("lost") else '<span class="chip good">won</span>'


def _listed(flips: Sequence[Mapping[str, Any]], details: Mapping[str, Any], labels: Sequence[str]) -> str:
    if not flips:
        return '<p class="empty">No prediction changed.</p>'
    lines = "".join(_line(flip, labels) for flip in flips)
    head = "<tr><th>sample</th><th>effect</th><th>reference</th><th>candidate</th></tr>"
    table = f'<table class="flips"><thead>{head}</thead><tbody>{lines}</tbody></table>'
    count = details.get("flips")
    left = isinstance(count, int) and count > len(flips)
    return f'<div class="scroll">{table}</div>' + (
        f'<p class="hint">{len(flips)} of {count} shown.</p>' if left else ""
    )


def _line(flip: Mapping[str, Any], labels: Sequence[str]) -> str:
    sides = "".join(f"<td>{safe(_row_text(flip.get(side) or {}, labels))}</td>" for side in _SIDES)
    return f"<tr><td>{safe(flip.get('id'))}</td><td>{_chip(flip)}</td>{sides}</tr>"


def _row_text(row: Mapping[str, Any], labels: Sequence[str]) -> str:
    parts = [f"takes it for {text}"] if (text := _prediction(row, labels)) is not None else []
    for name, value in row.items():
        if name in ("id", "correct"):
            continue
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        parts.append(f"{name} {text}")
    return ", ".join(parts)[:200]
