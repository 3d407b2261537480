"""``assay evaluate``: accuracy on a dataset, every prediction kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import SourceArguments, common, model_options, output_of, precisions
from assay.core.errors import BadInput


@click.command()
@click.argument("model")
@click.option("--data", required=True, metavar="DATA")
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of a flat folder.")
@click.option("--engine", "engine_name", help="Default: the one the file is for.")
@click.option("--precision", default="fp32", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first N samples.")
@click.option("--preprocess", metavar="FILE.py:fn", help="Your own transform.")
@click.option(
    "-o", "--out", "out", type=click.Path(path_type=Path), metavar="FILE", help="Per-sample predictions (.jsonl.gz)."
)
@model_options
@common
def command(**values: Any) -> int:
    """Evaluate MODEL on DATA: top-1…top-5 and error@1/@5 with intervals."""
    output = output_of("evaluate", values)
    from assay.cli.progress import progress_for
    from assay.present.figures import format_figure
    from assay.run.evaluate_one import Evaluation, evaluate_one

    wanted = precisions(values["precision"])
    if not wanted or len(wanted) != 1:
        raise BadInput("evaluate takes one precision at a time", remedy="--precision fp32")
    asked = Evaluation(
        model=values["model"],
        data=values["data"],
        labels=values["labels"],
        engine=values["engine_name"],
        precision=wanted[0],
        device=values["device"],
        batch=values["batch"],
        limit=values["limit"],
        preprocess=values["preprocess"],
        out=values["out"],
    )
    record = evaluate_one(asked, SourceArguments(values).source(Path()), progress_for(output))
    for name, figure in record.figures.items():
        output.say(f"{name:<16} {format_figure(figure)}")
    counts = record.details["counts"]
    output.say(", ".join(f"{name} {count}" for name, count in counts.items()))
    output.result(records=[record])
    return 0
