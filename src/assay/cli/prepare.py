"""``assay prepare``: the .bin + info + label set that vendor tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import SourceArguments, common, model_options, output_of


@click.command()
@click.option("--data", required=True, metavar="DATA")
@click.option("-o", "--out", "out", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--mode",
    type=click.Choice(["bin", "jpg"]),
    default="bin",
    show_default=True,
    help="Preprocessed floats, or the pictures as they are.",
)
@click.option("--model", metavar="MODEL", help="Whose preprocessing to use; default: the data's own.")
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of a flat folder.")
@click.option("--preprocess", metavar="FILE.py:fn", help="Your own transform.")
@click.option("--limit", type=click.IntRange(min=1), help="Only N samples, drawn from all of them by --seed.")
@click.option("--max-failures", type=click.IntRange(min=0), default=0, show_default=True)
@model_options
@common
def command(**values: Any) -> int:
    """Write DATA as a set of files with its info and label file."""
    output = output_of("prepare", values)
    from assay.cli.progress import progress_for
    from assay.job.prepare_set import Preparation, prepare_set

    asked = Preparation(
        data=values["data"],
        out=values["out"],
        mode=values["mode"],
        model=values["model"],
        labels=values["labels"],
        preprocess=values["preprocess"],
        limit=values["limit"],
        max_failures=values["max_failures"],
        seed=values["seed"],
    )
    found = prepare_set(asked, SourceArguments(values).source(Path()), progress_for(output))
    for text in found.warnings:
        output.warn(text)
    for id, reason in found.failures:
        output.warn(f"{id}: {reason}")
    drawn = f", drawn from {found.drawn_from} samples with seed {asked.seed}" if found.drawn_from else ""
    output.say(f"{found.written} files, {len(found.failures)} failed{drawn}")
    output.say(f"info:    {found.info}   (assay evaluate MODEL --data prepared:{found.info})")
    output.say(f"labels:  {found.labels or 'none: the data have no labels'}")
    output.result(
        extra={
            "info": str(found.info),
            "labels": None if found.labels is None else str(found.labels),
            "written": found.written,
            "drawn": None if found.drawn_from is None else {"from": found.drawn_from, "seed": asked.seed},
            "failures": [{"id": id, "reason": reason} for id, reason in found.failures],
        }
    )
    return 0
