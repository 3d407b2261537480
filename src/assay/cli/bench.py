"""``assay bench``: latency and throughput by batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import SourceArguments, common, model_options, output_of, precisions, sizes
from assay.core.errors import BadInput


@click.command()
@click.argument("model")
@click.option("--data", metavar="DATA", help="Real samples; without: drawn from the signature, and said so.")
@click.option("--scenario", type=click.Choice(["latency", "offline"]), default="latency", show_default=True)
@click.option("--engine", "engine_name", help="Default: the one the file is for.")
@click.option("--precision", default="fp32", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1))
@click.option("--batch", "--batches", "batch", default="1,8", show_default=True, metavar="N,…")
@click.option(
    "--duration", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True, metavar="SECONDS"
)
@click.option(
    "--within",
    type=click.FloatRange(min=0),
    default=0.02,
    show_default=True,
    help="Stop once the interval is this narrow.",
)
@model_options
@common
def command(**values: Any) -> int:
    """Measure MODEL in a process of its own.  No accuracy is implied: the table says what was not checked."""
    output = output_of("bench", values)
    from assay.cli.progress import progress_for
    from assay.present.figures import format_figure
    from assay.run.bench_one import Bench, bench_one

    wanted = precisions(values["precision"])
    if not wanted or len(wanted) != 1:
        raise BadInput("bench takes one precision at a time", remedy="--precision fp32")
    asked = Bench(
        model=values["model"],
        data=values["data"],
        scenario=values["scenario"],
        engine=values["engine_name"],
        precision=wanted[0],
        device=values["device"],
        threads=values["threads"],
        batches=sizes(values["batch"]),
        duration_s=values["duration"],
        within=values["within"],
    )
    records = bench_one(asked, SourceArguments(values).source(Path()), progress_for(output))
    for record in records:
        output.say(f"batch {record.conditions['batch']}  [{record.label or record.status}]  {record.reason or ''}")
        for name, figure in record.figures.items():
            output.say(f"  {name:<16} {format_figure(figure)}")
        for text in record.warnings:
            output.warn(text)
    output.say("not checked: accuracy and numerics (assay run or assay verify do)")
    output.result(records=records)
    return 0 if all(r.status == "ok" for r in records) else 4
