"""``assay report``: the reports of a run, written again from its Records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of
from assay.core.errors import BadInput


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@common
def command(**values: Any) -> int:
    """Write report.html, report.md and report.csv of RUN again; needs neither torch nor any engine."""
    output = output_of("report", values)
    from assay.job.loaded import load_folder
    from assay.job.reporting import write_reports

    run = load_folder(values["run"])
    about = run.about
    if run.only_measured:
        about = {"model": ", ".join(dict.fromkeys(str(r.subject.get("model", "")) for r in run.records))}
    elif run.verdict is None and not about.get("imported"):
        raise BadInput(f"{run.path} has no verdict.json: the run did not finish", remedy=about.get("command"))
    for note in run.notes:
        output.warn(note)
    for path in write_reports(run.path, run.records, run.verdict, about):
        output.say(str(path))
    output.result(records=run.records, verdict=run.verdict, best=run.about.get("best"))
    return 0
