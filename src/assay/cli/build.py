"""``assay build``: one engine file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of, precisions
from assay.core.errors import BadInput, NotAvailable


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="FILE.onnx")
@click.option("--engine", "engine_name", required=True)
@click.option("--precision", default="fp32", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("-o", "--out", "out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@common
def command(**values: Any) -> int:
    """Build an engine file in DIR, with its digest; the build runs in a process of its own."""
    output = output_of("build", values)
    from assay.core import child
    from assay.core.engine import BuildOptions
    from assay.core.units import format_bytes
    from assay.run.opening import engine
    from assay.run.single import file_model

    wanted = precisions(values["precision"])
    if not wanted or len(wanted) != 1:
        raise BadInput("build makes one engine file at a time", remedy="--precision fp32")
    found = engine(values["engine_name"])
    why = found.unavailable(values["device"], wanted[0])
    if why:
        raise NotAvailable(f"{found.name} {wanted[0]} on {values['device']}: {why}")
    artifact = file_model(values["model"])
    if artifact.format not in found.reads:
        raise BadInput(f"{found.name} builds from {', '.join(found.reads)}; {values['model']} is {artifact.format}")
    values["out"].mkdir(parents=True, exist_ok=True)
    options = BuildOptions(precision=wanted[0], device=values["device"])
    arguments = {"engine_name": found.name, "artifact": artifact, "options": options, "out_dir": values["out"]}
    log = values["out"] / "build.log"
    made = child.run("assay.run.trial:build_file", arguments, child.Limits(log=log)).value
    output.say(f"{made.path}: {made.format}, {format_bytes(made.size_bytes)}, sha256:{made.sha256}")
    output.say(f"  log: {log}")
    output.result(extra={"artifact": made.to_json()})
    return 0
