"""``assay predict``: one or many inputs through a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import SourceArguments, asked_precision, common, model_options, opening_options, output_of
from assay.cli.ray_options import asked_cluster, engine_for, ray_options


@click.command()
@click.argument("model")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE…")
@click.option("--engine", "engine_name", help="Default: the one the file is for.")
@opening_options
@click.option("--preprocess", metavar="FILE.py:fn", help="Your own transform.")
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="How many classes to show.")
@click.option("--as", "kind", type=click.Choice(["classes", "picture", "mask"]), help="Default: told from the output.")
@click.option("--white", type=float, default=1.0, show_default=True, help="A picture's largest value: 1 or 255.")
@click.option("--order", type=click.Choice(["RGB", "BGR"]), default="RGB", show_default=True)
@click.option(
    "--labels", "language", type=click.Choice(["en", "zh"]), default="en", show_default=True, help="Language."
)
@click.option("--against", metavar="MODEL", help="A reference for masks: also draw where the two differ.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="PICTURE|DIR", help="Write the picture or overlay."
)
@ray_options
@model_options
@common
def command(**values: Any) -> int:
    """The top classes with their labels, the enlarged picture, or the mask over it."""
    output = output_of("predict", values)
    from assay.cli.progress import progress_for
    from assay.job.predict_one import Prediction, predict_one

    precision = asked_precision(values["precision"], "predict")
    cluster = asked_cluster(values)
    runner = None
    if cluster is not None:
        from assay.scale.ray_data import predict_on

        runner = predict_on(cluster)
    asked = Prediction(
        model=values["model"],
        inputs=values["inputs"],
        engine=engine_for(values, cluster),
        precision=precision,
        device=values["device"],
        preprocess=values["preprocess"],
        out=values["out"],
        top=values["top"],
        white=values["white"],
        order=values["order"],
        kind=values["kind"],
        against=values["against"],
        language=values["language"],
    )
    found = predict_one(asked, SourceArguments(values).source(Path()), progress_for(output), runner)
    for one in found:
        output.say(str(one.input))
        for number, label, probability in one.ranked:
            named = label if label is not None and label.strip() != str(number) else ""  # digits are their own labels
            output.say(f"  {probability:7.2%}  {number:>5}  {named}".rstrip())
        for number, share in (one.shares or {}).items():
            output.say(f"  class {number}: {share:.2%} of the pixels")
        if one.differing is not None:
            output.say(f"  {one.differing:.2%} differ from {asked.against}")
        if one.size:
            output.say(f"  {one.size[0]}×{one.size[1]} pixels{f' -> {one.file}' if one.file else ' (-o writes them)'}")
    output.result(extra={"predictions": [one.to_json() for one in found]})
    return 0
