"""``assay compare``: runs, machines or imported logs side by side."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, fraction, output_of, words
from assay.core.errors import BadInput

FIGURES = ("throughput", "latency.p50", "latency.p90", "latency.p99", "latency.mean")


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--figure", type=click.Choice(FIGURES), default=FIGURES[0], show_default=True)
@click.option("--columns", metavar="run|device|engine,…", help="Default: what varies.")
@click.option("--base", metavar="COLUMN", help="What the ratios are against; default: the first column.")
@click.option(
    "--allow", metavar="CONDITION,…", help="precision, batch, data, scenario, basis, protocol, environment, …"
)
@click.option("--fail-on", type=click.Choice(["regression"]), help="BASE NEW: exit code 1 if NEW is worse.")
@click.option(
    "--margin",
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="How much slower is no regression yet: runs differ by more than their intervals say.",
)
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="One report of all RUNs, with its plots.")
@common
def command(**values: Any) -> int:
    """Lay RUNs side by side with intervals; nothing that was measured under unlike conditions is ranked."""
    output = output_of("compare", values)
    from assay.job.comparing import cases_of, contradictions, load_runs, paired_accuracies
    from assay.judge.compare_runs import Asked, compare

    margin = fraction(values["margin"], "--margin", "5%") or 0.0
    runs = load_runs(values["runs"])
    if values["fail_on"] and len(runs) != 2:
        raise BadInput(f"--fail-on regression takes BASE and NEW, not {len(runs)} runs")
    for run in runs:
        for note in run.notes:
            output.warn(f"{run.name}: {note}")
    columns = words(values["columns"]) or (("run",) if values["fail_on"] else None)
    asked = Asked(values["figure"], columns, frozenset(words(values["allow"])), values["base"])
    comparison = compare(cases_of(runs, asked.figure), asked)
    pairs = paired_accuracies(runs)
    _show(output, comparison, pairs)
    for text in contradictions(runs):
        output.say(text)
    verdict = _regression(output, comparison, pairs, margin) if values["fail_on"] else None
    if values["html_file"]:
        _write_html(output, runs, verdict, values["html_file"])
    output.result(
        records=[r for run in runs for r in run.records],
        verdict=verdict,
        extra={"comparison": _json(comparison), "accuracy": [_pair_json(p) for p in pairs]},
    )
    return _code(comparison, verdict)


def _write_html(output: Any, runs: Any, verdict: Any, file: Path) -> None:
    from assay.job.comparing import joint_report
    from assay.job.folder import write_text
    from assay.present.html import render

    output.say(str(write_text(file, render(joint_report(runs, verdict)))))


def _code(comparison: Any, verdict: Any) -> int:
    """Nothing ranked although there are columns to rank: what was asked for could not be done."""
    if verdict is not None:
        return int(verdict.exit_code)
    if comparison.refused and not comparison.ranked:
        raise BadInput(
            f"nothing was ranked: {comparison.refused[0]}",
            remedy="--allow CONDITION names what may differ, for example --allow basis,precision",
        )
    return 0


def _show(output: Any, comparison: Any, pairs: Any) -> None:
    from assay.present.comparison import LineText, accuracy_rows, comparison_table
    from assay.present.terminal import listing

    lines = []
    for line in comparison.lines:
        cells = tuple(cell and _cell(cell, line, place) for place, cell in enumerate(line.cells))
        batch = (
            ("best of tables" if line.claimed else "best")
            if line.best
            else "—"
            if line.batch is None
            else str(line.batch)
        )
        lines.append(LineText(line.title, batch, cells))
    unit = "samples/s" if comparison.figure == "throughput" else comparison.figure
    title = f"{unit} · {comparison.common}" if comparison.common else unit
    table, notes = comparison_table(title, comparison.columns, comparison.base, lines)
    output.show(table)
    for note in notes:
        output.say(note)
    if comparison.refused:
        output.say_lines(["", "not ranked:"])
        for text in comparison.refused:
            output.say(f"  {text}")
    if pairs:
        headers = ("configuration", "run", "base", "accuracy", "drop, paired", "McNemar p")
        output.show(listing("accuracy on the same samples", headers, accuracy_rows([vars(p) for p in pairs])))
    for note in dict.fromkeys(p.note for p in pairs if p.note):
        output.say(note)


def _cell(cell: Any, line: Any, place: int) -> Any:
    from assay.present.comparison import CellText

    case = cell.case
    at = f"at batch {case.batch}" if line.best and case.batch is not None else ""
    return CellText(case.figure, cell.ratio, case.state, cell.notes, place == line.fastest, at)


def _regression(output: Any, comparison: Any, pairs: Any, margin: float) -> Any:
    from assay.judge.regression import Drop, judge_regression
    from assay.present.terminal import verdict_panel

    if len(comparison.columns) != 2:
        raise BadInput(f"--fail-on regression compares two columns, not {', '.join(comparison.columns)}")
    verdict = judge_regression(comparison, [Drop(p.title, p.drop, p.record) for p in pairs], margin)
    output.show(verdict_panel(verdict))
    return verdict


def _json(comparison: Any) -> dict[str, Any]:
    lines = []
    for line in comparison.lines:
        cells = [
            cell
            and {
                "record": cell.case.record.id,
                "batch": cell.case.batch,
                "figure": cell.case.figure.to_json(),
                "ratio": cell.ratio.to_json() if cell.ratio else None,
                "accuracy": cell.case.state,
                "notes": list(cell.notes),
            }
            for cell in line.cells
        ]
        lines.append(
            {
                "title": line.title,
                "batch": line.batch,
                "best": line.best,
                "tables": line.claimed,
                "fastest": line.fastest,
                "cells": cells,
            }
        )
    return {
        "figure": comparison.figure,
        "common": comparison.common,
        "columns": list(comparison.columns),
        "base": comparison.base,
        "lines": lines,
        "refused": list(comparison.refused),
    }


def _pair_json(pair: Any) -> dict[str, Any]:
    figures = {n: (f.to_json() if f is not None else None) for n, f in vars(pair).items() if n in _FIGURES}
    return {**{n: v for n, v in asdict(pair).items() if n not in _FIGURES}, **figures}


_FIGURES = ("accuracy", "base", "drop")
