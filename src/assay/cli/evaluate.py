"""``assay evaluate``: accuracy on a dataset, every prediction kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.cli.options import (
    SourceArguments,
    asked_precision,
    common,
    fraction,
    model_options,
    opening_options,
    output_of,
)
from assay.cli.ray_options import asked_cluster, engine_for, ray_options
from assay.core.errors import BadInput
from assay.core.units import format_rate

if TYPE_CHECKING:
    from assay.cli.output import Output
    from assay.job.evaluate.against import Against
    from assay.job.evaluate.one import Evaluated
    from assay.job.evaluate.through import Runner
    from assay.scale.ray_data_pool import Cluster


@click.command()
@click.argument("model", required=False)
@click.option("--data", metavar="DATA")
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of a flat folder, or of dumps.")
@click.option("--from-dumps", metavar="DIR", help="Score what a vendor tool dumped, instead of a MODEL.")
@click.option("--output-index", type=click.IntRange(min=0), metavar="K", help="Which dumped output holds the scores.")
@click.option("--engine", "engine_name", help="Default: the one the file is for.")
@opening_options
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="Only N samples, drawn from all of them by --seed.")
@click.option(
    "--preprocess",
    metavar="FILE.py:fn|fast",
    help="Your own transform; or torch's antialiased resize, with the accuracy it costs here.",
)
@click.option("--fuse-preprocess", is_flag=True, help="Bytes go in: normalising becomes part of the (ONNX) graph.")
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="DIR|FILE", help="Predictions of the same data to pair with."
)
@click.option("--margin", metavar="1%", help="Which drop against them still counts as not worse.")
@click.option("--sequential", is_flag=True, help="Stop once it is clear whether the drop is below the margin.")
@click.option(
    "-o",
    "--out",
    "out",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="A folder for predictions and rates, resumed if it exists; or a FILE.jsonl.gz for the predictions alone.",
)
@click.option("--dumps", type=click.Path(path_type=Path), metavar="DIR", help="Also write every output as a .bin file.")
@click.option(
    "--max-failures",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Samples that may fail (be unreadable, not fit) before it stops.",
)
@ray_options
@model_options
@common
def command(**values: Any) -> int:
    """Evaluate MODEL on DATA: top-1…top-5 and error@1/@5 with intervals."""
    output = output_of("evaluate", values)
    if values["from_dumps"] is not None:
        return _from_dumps(output, values)
    if values["model"] is None or values["data"] is None:
        raise BadInput("evaluate needs a MODEL and --data, or --from-dumps", remedy="assay evaluate MODEL --data DIR")
    from assay.cli.progress import progress_for
    from assay.job.evaluate.one import Evaluation, evaluate_one
    from assay.present.figures import format_figure

    precision = asked_precision(values["precision"], "evaluate")
    cluster = asked_cluster(values)
    if cluster is not None and values["dumps"] is not None:
        raise BadInput("--dumps writes on the machine that infers", remedy="leave out --ray, or --dumps")
    asked = Evaluation(
        model=values["model"],
        data=values["data"],
        labels=values["labels"],
        engine=engine_for(values, cluster),
        precision=precision,
        device=values["device"],
        batch=values["batch"],
        limit=values["limit"],
        preprocess=values["preprocess"],
        out=values["out"],
        max_failures=values["max_failures"],
        dumps=values["dumps"],
        fuse=values["fuse_preprocess"],
        against=_against(values),
        seed=values["seed"],
    )
    found = evaluate_one(asked, SourceArguments(values).source(Path()), progress_for(output), _runner(cluster))
    record = found.record
    for name, figure in record.figures.items():
        output.say(f"{name:<16} {format_figure(figure)}")
    counts = record.details["counts"]
    output.say(", ".join(f"{name} {count}" for name, count in counts.items()))
    for failure in record.details["failures"]:
        output.warn(f"{failure['id']}: {failure['reason']}")
    if found.comparison is not None:
        output.say(f"against {values['against']}: {found.comparison.text}")
    for text in found.notes:
        output.note(f"note: {text}")
    _show_pipeline(output, found)
    output.result(records=[record])
    return 0


def _against(values: dict[str, Any]) -> Against | None:
    from assay.job.evaluate.against import Against

    margin = values["margin"]
    if values["against"] is not None:
        return Against(values["against"], fraction(margin, "--margin", "1%"), values["sequential"])
    if values["sequential"] or margin is not None:
        raise BadInput(
            "a drop needs something to drop from",
            remedy="--against DIR, the -o DIR of an earlier evaluation of the same data",
        )
    return None


def _runner(cluster: Cluster | None) -> Runner | None:
    if cluster is None:
        return None
    from assay.scale.ray_data import evaluate_on

    return evaluate_on(cluster)


def _show_pipeline(output: Output, found: Evaluated) -> None:
    """Stage rates as the vendor's tool prints them, how busy each was, and what holds the rest back."""
    from assay.pipeline import vendor_lines

    if found.rates is None:
        output.say("all samples were finished before; nothing was timed")
        return
    for line in vendor_lines(found.rates):
        output.say(line)
    if not found.rates.stages:
        return  # elsewhere: what each stage did is not known here
    busy = ", ".join(f"{name} {stage.utilisation:.0%}" for name, stage in found.rates.stages.items())
    output.say(f"busy: {busy}; waiting for data {found.rates.starved:.0%}")
    held = found.bottleneck
    if held is not None:
        halved = f"; twice as fast would give {format_rate(held.if_halved)} samples/s" if held.if_halved else ""
        most = f", never more than {format_rate(held.at_most)}" if held.at_most else ""
        output.say(f"bottleneck: {held.stage} ({held.why}{halved}{most})")


def _from_dumps(output: Output, values: dict[str, Any]) -> int:
    """``-o`` receives the seeds' result.json."""
    from assay.job.evaluate.dumps import Dumps, evaluate_dumps
    from assay.present.figures import format_figure

    if values["labels"] is None or values["model"] is not None or values["data"] is not None:
        raise BadInput(
            "--from-dumps takes --labels, and no MODEL or --data",
            remedy=f"assay evaluate --from-dumps {values['from_dumps']} --labels val_label.txt",
        )
    out = values["out"]
    if out is not None and out.suffix != ".json":
        out = out / "result.json"
    record = evaluate_dumps(Dumps(values["from_dumps"], values["labels"], values["output_index"], out))
    for name, figure in record.figures.items():
        output.say(f"{name:<16} {format_figure(figure)}")
    output.say(", ".join(f"{name} {count}" for name, count in record.details["counts"].items()))
    for text in record.warnings:
        output.warn(text)
    output.result(records=[record])
    return 0
