"""report.md: the verdict with its reasons first, what was not checked, the table, and how to do it again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assay.core.record import Record
from assay.core.verdict import Reason, Verdict
from assay.present.columns import EAGER, TableText, table_text
from assay.present.rows import ALL_BUSY, ONE_CALLER, Report, Row, table_rows
from assay.present.text import one_line, printable, state_word

_WHOSE = {ALL_BUSY: "with every stream of the session busy (scenario offline)", ONE_CALLER: "one caller's"}
_SPECIAL = re.compile(r"([\\`*\[\]|~])")


def render(report: Report) -> str:
    """The whole report; ends with a newline."""
    rows = table_rows(report)
    lines = [f"# {escape(report.title)}", ""]
    lines += _verdict(report.verdict, rows)
    lines += _table(rows)
    lines += _warnings(report, rows)
    lines += _environment(report.records)
    lines += _reproduce(report.about.get("command"))
    lines += _evidence(rows)
    return "\n".join(lines).rstrip("\n") + "\n"


def escape(text: object) -> str:
    """``text`` on one line with everything that markdown or HTML would act upon made literal."""
    line = one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", line)


def _verdict(verdict: Verdict | None, rows: Sequence[Row]) -> list[str]:
    lines = ["## Verdict", ""]
    if verdict is None:
        lines += ["No verdict: nothing was judged.", ""]
    else:
        lines += [f"**{escape(state_word(verdict.state))}**", ""]
        lines += [_reason(reason) for reason in verdict.reasons] or ["- no limit was judged"]
        lines.append("")
    chosen = [row for row in rows if row.chosen]
    lines += [f"Chosen: {_name(row)}{_freshly(row)}." for row in chosen] or ["Nothing was chosen."]
    lines += ["", "## Not checked", ""]
    if verdict is None:
        lines.append("- everything: there is no verdict")
    else:
        lines += [f"- {escape(text)}" for text in verdict.not_checked] or ["- nothing that the policy asks for"]
    return [*lines, ""]


def _name(row: Row) -> str:
    subject = row.subject
    parts = [str(subject.get(name)) for name in ("engine", "precision") if subject.get(name)]
    batch = f", batch {row.batch}" if row.batch is not None else ""
    return escape(" ".join(parts) + batch)


def _freshly(row: Row) -> str:
    return "; its figures come from a fresh run made after the choice" if row.confirmed else ""


def _reason(reason: Reason) -> str:
    evidence = f" (record {escape(reason.record)})" if reason.record else ""
    return f"- **{escape(state_word(reason.state))}** · {escape(reason.limit)}: {escape(reason.text)}{evidence}"


def _table(rows: Sequence[Row]) -> list[str]:
    lines = ["## Candidates", ""]
    if not rows:
        return [*lines, "No candidate was built or measured.", ""]
    table = table_text(rows)
    lines += [_line(map(escape, table.headers)), _line("---:" if c.right else "---" for c in table.columns)]
    lines += [_line(map(escape, cells)) for cells in table.cells]
    lines += ["", *(f"\\[{number}\\] {escape(note)}  " for number, note in enumerate(table.notes, 1))]
    return [*lines, "", *_legend(rows, table), ""]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _legend(rows: Sequence[Row], table: TableText) -> list[str]:
    figures = [f for row in rows for f in (*row.speeds.values(), row.accuracy.figure, row.accuracy.drop) if f]
    levels = sorted({f.confidence for f in figures if f.confidence is not None and f.low is not None})
    lines = [f"`samples/s` is {_WHOSE[ALL_BUSY]}, latencies are {_WHOSE[ONE_CALLER]}."] if _two(rows) else []
    if levels:
        words = " and ".join(f"{100 * level:g} %" for level in levels)
        lines.append(f"Ranges in parentheses are intervals at {words} confidence.")
    if EAGER in table.headers:
        lines.append(f"`{EAGER}` is the ratio to PyTorch in eager mode, fp32, at the same batch size.")
    return lines


def _two(rows: Sequence[Row]) -> bool:
    """Whether both scenarios of a plain run are in the table."""
    return {ONE_CALLER, ALL_BUSY} <= {scenario for row in rows for scenario in row.sources.values()}


def _warnings(report: Report, rows: Sequence[Row]) -> list[str]:
    said = [escape(text) for text in remarks(report.about)]
    said += [f"{_name(row)}: {escape(text)}" for row in rows for text in row.warnings]
    found = [f for f in report.about.get("findings") or () if isinstance(f, Mapping)]
    said += [f"**{escape(f.get('severity'))}** {_where(f)}{escape(f.get('text'))}" for f in found]
    said = list(dict.fromkeys(said))
    return ["## Notes", "", *(f"- {text}" for text in said), ""] if said else []


def _where(finding: Mapping[str, Any]) -> str:
    return f"{escape(finding['where'])}: " if finding.get("where") else ""


def remarks(about: Mapping[str, Any]) -> list[str]:
    """What a run's own description has to say besides its figures, in sentences."""
    said = [f"Weights: {about['weights']}"] if about.get("weights") else []
    said += [f"Ran code when it was opened: {path}" for path in about.get("runs_code") or ()]
    said += [f"Not available here: {text}" for text in about.get("missing") or ()]
    return said + [str(text) for text in about.get("warnings") or ()]


def environment_values(records: Sequence[Record]) -> dict[str, tuple[str, ...]]:
    """Every entry of the records' environments by name, in order, with its different values."""
    values: dict[str, dict[str, None]] = {}
    for record in records:
        for name, value in flatten(record.environment):
            values.setdefault(name, {})[value] = None
    return {name: tuple(values[name]) for name in sorted(values)}


def _environment(records: Sequence[Record]) -> list[str]:
    """Every entry all records agree on once; those they do not agree on with all their values."""
    values = environment_values(records)
    lines = ["## Environment", ""]
    if not values:
        return [*lines, "The records name no environment.", ""]
    lines += ["| | |", "| --- | --- |"]
    lines += [_line((escape(name), escape(" / ".join(found)))) for name, found in values.items()]
    return [*lines, ""]


def flatten(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as ``outer.inner`` with their values as text."""
    pairs: list[tuple[str, str]] = []
    for name, value in data.items():
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            pairs.append((f"{prefix}{name}", ", ".join(map(str, value))))
        elif value is not None:
            pairs.append((f"{prefix}{name}", str(value)))
    return pairs


def _reproduce(command: str | None) -> list[str]:
    lines = ["## How to reproduce", ""]
    if not command:
        return [*lines, "The command was not recorded.", ""]
    longest = max((len(run) for run in re.findall(r"`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return [*lines, f"{fence}sh", printable(command), fence, ""]


def _evidence(rows: Sequence[Row]) -> list[str]:
    lines = ["## Evidence", "", "Each row rests on these records of `records.jsonl`:", ""]
    if not rows:
        return ["## Evidence", "", "There are no records."]
    return lines + [f"- {_name(row)}: {', '.join(map(escape, row.record_ids)) or 'none'}" for row in rows]
