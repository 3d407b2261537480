"""``assay runs``: past runs, listed, filtered and compared by what they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of

SHOWN = 50
MOST_STYLED = 500
"""A longer list is written as plain lines: laying out a styled table of thousands takes seconds."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--model", metavar="NAME", help="Part of a name, or a pattern such as 'resnet*'.")
@click.option("--engine", metavar="E", help="Runs in which this engine worked.")
@click.option("--verdict", metavar="passed|failed|not_shown|none", help="What the run came to.")
@click.option("--since", metavar="YYYY-MM-DD", help="From this day on.")
@click.option("--until", metavar="YYYY-MM-DD", help="Up to and with this day.")
@click.option("--records", "list_records", is_flag=True, help="List every Record instead of the runs.")
@click.option("--all", "everything", is_flag=True, help=f"More than the newest {SHOWN}.")
@click.option("--diff", nargs=2, metavar="A B", help="What changed from run A to run B.")
@click.option("--rebuild", is_flag=True, help="Read every folder again.")
@common
def command(**values: Any) -> int:
    """List the runs below FOLDER, newest first.  The index is a cache: the folders are what counts."""
    output = output_of("runs", values)
    from assay.job.history import History, Wanted

    wanted = Wanted(**{n: values[n] for n in ("model", "engine", "verdict", "since", "until")})
    with History(values["folder"], rebuild=values["rebuild"]) as history:
        for note in history.notes:
            output.warn(note)
        if values["diff"]:
            return _diff(output, *(history.find(name) for name in values["diff"]))
        found: Sequence[Any] = history.records(wanted) if values["list_records"] else history.runs(wanted)
        shown = found if values["everything"] else found[:SHOWN]
        table = _record_table(shown, history.runs()) if values["list_records"] else _run_table(shown)
    _print(output, *table)
    if len(shown) < len(found):
        output.say(f"the newest {len(shown)} of {len(found)}; --all shows the rest")
    if output.json_to is not None:
        name = "records_found" if values["list_records"] else "runs"
        output.result(extra={name: [{f.name: getattr(e, f.name) for f in fields(e)} for e in found]})
    return 0


def _print(output: Any, title: str, headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from assay.present.plain import listing_lines
    from assay.present.terminal import listing

    if len(rows) <= MOST_STYLED:
        output.show(listing(title, headers, rows))
    else:
        output.say_lines([title, *listing_lines(headers, rows)])


def _run_table(runs: Sequence[Any]) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    headers = ("run", "date", "model", "verdict", "chosen", "samples/s", "p50", "records")
    return f"{len(runs)} run{'s' if len(runs) != 1 else ''}", headers, [_run_cells(run) for run in runs]


def _run_cells(run: Any) -> tuple[str, ...]:
    from assay.core.record import Figure
    from assay.present.figures import DASH, format_figure

    batch = f", batch {run.batch}" if run.batch else ""
    verdict = (run.verdict or "none").replace("_", " ") if run.problem is None else f"unreadable: {run.problem}"
    rate = format_figure(Figure(run.throughput, "")) if run.throughput is not None else DASH
    delay = format_figure(Figure(run.p50, "s")) if run.p50 is not None else DASH
    chosen = f"{run.best}{batch}" if run.best else ", ".join(run.engines) or DASH
    return run.name, _when(run.created), run.model or DASH, verdict, chosen, rate, delay, str(run.records)


def _when(created: str | None) -> str:
    return (created or "")[:16].replace("T", " ")


def _record_table(records: Sequence[Any], runs: Sequence[Any]) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    from assay.core.record import Figure
    from assay.present.figures import DASH, format_figure

    names = {run.path: run.name for run in runs}
    headers = ("run", "record", "kind", "subject", "batch", "samples/s", "p50", "status")

    def cells(r: Any) -> tuple[str, ...]:
        subject = " ".join(filter(None, (r.engine, r.precision, r.device)))
        rate = format_figure(Figure(r.throughput, "")) if r.throughput is not None else DASH
        delay = format_figure(Figure(r.p50, "s")) if r.p50 is not None else DASH
        kind = " ".join(filter(None, (r.kind, r.scenario)))
        return names[r.run], r.id, kind, subject, str(r.batch or DASH), rate, delay, r.label or r.status

    return f"{len(records)} records", headers, [cells(r) for r in records]


def _diff(output: Any, first: Path, second: Path) -> int:
    from assay.job.history_diff import differences
    from assay.job.loaded import load_folder
    from assay.present.figures import DASH
    from assay.present.terminal import listing

    one, two = load_folder(first), load_folder(second)
    found = differences(one, two)
    if not found:
        output.say(f"{one.name} and {two.name} do not differ in anything that is recorded")
    else:
        rows, last = [], None
        for d in found:
            rows.append((d.group if d.group != last else "", d.name, d.first or DASH, d.second or DASH))
            last = d.group
        output.show(listing(f"from {one.name} to {two.name}", ("", "", one.name, two.name), rows))
    output.result(extra={"differences": [asdict(d) for d in found]})
    return 0
