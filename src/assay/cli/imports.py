"""``assay import``: other tools' logs become Records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import command_line, common, output_of


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder for the Records.")
@click.option("--model", help="The model, where the logs do not say it.")
@click.option("--device", help="The device, where the logs do not say it.")
@click.option("--batch", type=click.IntRange(min=1), help="The batch size, where the logs do not say it.")
@click.option("--precision", help="The precision, where the logs do not say it.")
@common
def command(**values: Any) -> int:
    """Read logs of trtexec, Ascend benchmark, ais_bench, perf_analyzer, LoadGen, benchmark_app, torchpipe, timm, …

    Re-derives what can be re-derived; contradictions are listed with file and line.
    """
    output = output_of("import", values)
    from assay.importers import Hints
    from assay.job.folder import default_folder
    from assay.job.importing import import_run

    hints = Hints(model=values["model"], device=values["device"], batch=values["batch"], precision=values["precision"])
    found = import_run(values["files"], values["out"] or default_folder("imported"), hints, command_line("import"))
    for text in found.warnings:
        output.warn(text)
    output.say(f"{len(found.records)} records from {len(values['files'])} files in {found.folder}")
    for finding in found.findings:
        output.say(f"{finding.severity:<13} {finding.where}: {finding.text}")
    output.result(records=found.records, extra={"findings": [f.to_json() for f in found.findings]})
    return 0
