"""The parts of the page that only some runs have: the pipeline's stages, and where an error arises."""

from __future__ import annotations

from collections.abc import Sequence

from assay.present.evidence import Divergence, Evidence, Operator, StageError
from assay.present.figures import DASH
from assay.present.html_cells import safe

MOST_LISTED = 60
_TONES = {"within its due": "good", "beyond its due": "bad", "failed": "bad"}


def pipeline_section(evidence: Evidence) -> str:
    """Empty where no evaluation recorded its stages."""
    if not evidence.waterfalls:
        return ""
    return (
        '<section id="pipeline" class="card"><h2>Pipeline of the evaluation</h2>'
        "<p class='hint'>What one sample costs, stage after stage. The stages overlap while the data set is worked "
        "through, so the whole is faster than their sum.</p>"
        '<div class="controls" hidden><label>evaluation <select id="pipeline-case" aria-label="Evaluation"></select>'
        '</label></div><figure><div class="plot low" id="plot-waterfall"></div></figure>'
        '<p class="hint" id="pipeline-note"></p></section>'
    )


def divergence_section(evidence: Evidence) -> str:
    """Empty where nothing was diagnosed."""
    if not evidence.divergences:
        return ""
    parts = "".join(_divergence(d) for d in evidence.divergences)
    return (
        '<section id="divergence" class="card"><h2>Where the error arises</h2>'
        "<p class='hint'>Operators in the graph's order: the error each adds by itself, the error up to it, and what "
        "its precision must cost.</p>"
        '<div class="controls" hidden><label>diagnosis <select id="divergence-case" aria-label="Diagnosis"></select>'
        f'</label></div><figure><div class="plot" id="plot-operators"></div></figure>{parts}</section>'
    )


def _divergence(found: Divergence) -> str:
    guilty = [o for o in found.operators if o.guilty]
    said = f"{found.guilty} is to blame" if found.guilty else "every stage is within its due"
    notes = "".join(f"<li>{safe(text)}</li>" for text in found.notes)
    link = f'<a class="evidence" href="#record-{safe(found.record)}" data-record="{safe(found.record)}">record</a>'
    inner = (
        f"{_stages(found.stages)}{_operators(guilty or found.operators)}{f'<ul>{notes}</ul>' if notes else ''}{link}"
    )
    summary = f"<summary><strong>{safe(found.title)}</strong> <span>{safe(said)}</span></summary>"
    return f"<details open>{summary}{inner}</details>"


def _stages(stages: Sequence[StageError]) -> str:
    head = "".join(f"<th>{h}</th>" for h in ("stage", "adds", "its due", "in all", ""))
    lines = "".join(
        f"<tr><td>{safe(s.name)}</td><td>{_error(s.added)}</td><td>{_error(s.due)}</td><td>{_error(s.total)}</td>"
        f"<td>{_chip(s.state)} {safe(s.text)}</td></tr>"
        for s in stages
    )
    return (
        f'<div class="scroll"><table class="flips"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'
    )


def _operators(operators: Sequence[Operator]) -> str:
    if not operators:
        return ""
    head = "".join(f"<th>{h}</th>" for h in ("operators", "tensor", "alone", "its due", "accumulated", "made at"))
    lines = "".join(
        f"<tr><td>{safe(o.nodes)}</td><td>{safe(o.tensor)}</td><td>{_error(o.local)}</td><td>{_error(o.due)}</td>"
        f"<td>{_error(o.accumulated)}</td><td>{safe(o.origin or DASH)}</td></tr>"
        for o in operators[:MOST_LISTED]
    )
    left = len(operators) - MOST_LISTED
    more = f'<p class="hint">{left} more are in the record.</p>' if left > 0 else ""
    table = f'<table class="flips"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'
    return f'<div class="scroll">{table}</div>{more}'


def _error(value: float | None) -> str:
    return DASH if value is None else f"{value:.2g}"


def _chip(state: str) -> str:
    return f'<span class="chip {_TONES.get(state, "")}">{safe(state)}</span>' if state else ""
