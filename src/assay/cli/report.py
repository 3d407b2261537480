"""``assay report``: the reports of a run, written again from its Records."""

from __future__ import annotations

import json
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
    from assay.core.verdict import Verdict
    from assay.run.folder import load_run
    from assay.run.reporting import write_reports

    folder = values["run"]
    records, about = load_run(folder)
    file = folder / "verdict.json"
    if not file.is_file():
        raise BadInput(f"{folder} has no verdict.json: the run did not finish", remedy=about.get("command"))
    verdict = Verdict.from_json(json.loads(file.read_text(encoding="utf-8")))
    for path in write_reports(folder, records, verdict, about):
        output.say(str(path))
    output.result(records=records, verdict=verdict, best=about.get("best"))
    return 0
