"""``assay tune``: the fastest configuration that holds its limits, within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.cli.options import (
    SourceArguments,
    command_line,
    common,
    export_options,
    fraction,
    model_options,
    output_of,
    precisions,
    sizes,
    words,
)
from assay.core.errors import BadInput

if TYPE_CHECKING:
    from assay.cli.output import Output
    from assay.job.request import RunRequest
    from assay.job.tune.one import TuneResult
    from assay.job.tune.request import Tuning


@click.command()
@click.argument("model")
@click.option("--data", metavar="DATA", help="Real samples make accuracy count; synthetic: speed and numerics only.")
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of a flat folder.")
@click.option(
    "--objective",
    default="throughput",
    show_default=True,
    metavar="WORDS",
    help='Such as latency, or "throughput where p99 < 15ms and drop < 0.5%".',
)
@click.option(
    "--budget", default="5m", show_default=True, metavar="TIME", help="From start to end; the best so far counts."
)
@click.option("--engine", metavar="E,…", help="Default: all that work here.")
@click.option("--precision", metavar="P,…", help="fp32,bf16,fp16,int8; default: all that work here.")
@click.option("--batch", "--batches", "batch", metavar="N,…", help="Default: 1 to 32 for throughput, 1 for a latency.")
@click.option("--threads", metavar="N,…", help="Threads of one call; default: as the cores divide up.")
@click.option(
    "--streams",
    "--instances",
    "streams",
    metavar="N,…",
    help="Calls side by side: streams, or instances on engines without streams.",
)
@click.option("--no-graph-options", is_flag=True, help="Keep to each engine's usual form of the graph.")
@click.option(
    "--max-drop", metavar="0.5%", help="At most this drop in accuracy; int8 puts its worst layers back for it."
)
@click.option("--calibration", metavar="DATA|synthetic", help="Calibrate int8 on these instead of a part of --data.")
@click.option("--control", metavar="DATA", help="Control int8's accuracy on these instead of a part of --data.")
@click.option("--int8-method", metavar="nncf|ort", help="Who makes int8; default: nncf.")
@click.option("--no-compile", is_flag=True, help="Leave out the baseline torch.compile, which compiles for minutes.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--policy", type=click.Path(path_type=Path), metavar="FILE.toml", help="Further limits.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; trials that are there are used again.")
@click.option("--preprocess", metavar="FILE.py:fn", help="Your own transform.")
@model_options
@export_options
@common
def command(**values: Any) -> int:
    """Search engine × precision × batch × threads × streams × graph options of MODEL for the best configuration.

    \b
    assay tune timm:resnet50 --data synthetic --objective throughput --budget 3m
    assay tune net.onnx --objective "throughput where p99 < 15ms and drop < 0.5%" --data imagenet/val
    assay tune net.onnx --max-drop 0.5% --data imagenet/val
    assay tune timm:resnet18 --objective "latency where memory < 1GiB" --engine openvino,onnxruntime
    """
    output = output_of("tune", values)
    tuning = tuning_of(values)
    from assay.cli.progress import progress_for
    from assay.job.request import Objects
    from assay.job.tune.one import tune
    from assay.job.tune.request import TuneRequest
    from assay.job.user_code import user_transform

    objects = Objects(preprocess=user_transform(values["preprocess"]) if values["preprocess"] else None)
    result = tune(TuneRequest(_run_request(values), tuning), objects, progress_for(output))
    _show(output, result)
    return result.exit_code


def tuning_of(values: dict[str, Any]) -> Tuning:
    """Objective, budget and axes, all checked before any model is opened."""
    from assay.job.tune.request import Tuning
    from assay.job.tune.space import Axes
    from assay.search.objective import parse_objective

    objective = parse_objective(values["objective"])
    lists = {name: numbers(name, values.get(name)) for name in ("batch", "threads", "streams")}
    axes = Axes(lists["batch"], lists["threads"], lists["streams"], forms=not values.get("no_graph_options"))
    return Tuning(objective, budget_of(values["budget"]), axes)


def numbers(option: str, text: str | None) -> tuple[int, ...]:
    """``"1,2"`` -> (1, 2); None -> ().  Raises BadInput that names the option."""
    if text is None:
        return ()
    try:
        return sizes(text)
    except BadInput:
        raise BadInput(f"--{option} {text}: these are no whole numbers above zero", remedy=f"--{option} 1,2") from None


def budget_of(text: str, option: str = "--budget") -> float:
    """``"3m"`` -> 180.  Raises BadInput for what is no time, or too short to measure anything in."""
    from assay.core.units import format_seconds, parse_seconds
    from assay.job.tune.request import LEAST_BUDGET_S

    try:
        value = parse_seconds(text)
    except ValueError as error:
        raise BadInput(f"{option} {text}: {error}", remedy=f"{option} 3m") from None
    if value < LEAST_BUDGET_S:
        least = format_seconds(LEAST_BUDGET_S)
        raise BadInput(f"{option} {text}: nothing can be searched in less than {least}", remedy=f"{option} 3m")
    return value


def _run_request(values: dict[str, Any]) -> RunRequest:
    from assay.cli.run import short_name
    from assay.job.folder import default_folder
    from assay.job.request import Int8, RunRequest
    from assay.judge.policy import DEFAULT_POLICY, Policy

    arguments = SourceArguments(values)
    out = values["out"] or default_folder(f"{short_name(values['model'])}-tune")
    return RunRequest(
        model=values["model"],
        out=out,
        data=values["data"],
        engines=words(values["engine"]) or None,
        precisions=precisions(values["precision"]),
        device=values["device"],
        seed=values["seed"],
        source=arguments.source(out),
        export=arguments.export(),
        policy=Policy.load(values["policy"]) if values["policy"] else DEFAULT_POLICY,
        labels=values["labels"],
        command=command_line("tune"),
        int8=Int8(
            values["calibration"],
            values["control"],
            max_drop=fraction(values["max_drop"]),
            method=values["int8_method"],
        ),
        compiled=not values["no_compile"],
    )


def _show(output: Output, result: TuneResult) -> None:
    """The front, the verdict, what the winner gains, what was not tried and why, and where everything is."""
    from assay.job.reporting import report_content
    from assay.present.terminal import candidate_table, verdict_panel

    output.show(candidate_table(report_content(_front_records(result), result.verdict, result.about)))
    output.show(verdict_panel(result.verdict))
    for line in lines(result.tuned, result.best):
        output.say(line)
    for text in result.missing:
        output.say(f"not available here: {text}")
    output.say(f"report:  {result.folder / 'report.html'}   (and report.md, report.csv)")
    output.warnings += list(result.warnings)
    output.result(
        records=result.records,
        verdict=result.verdict,
        best=result.best,
        extra={"folder": str(result.folder), "missing": list(result.missing), "tuned": result.tuned},
    )


def _front_records(result: TuneResult) -> Sequence[Any]:
    """Records of the configurations on the front, of the winner and of the baselines; the report has all."""
    shown = {(member["candidate"], member["batch"]) for member in result.tuned["front"]}
    if result.best is not None:
        shown.add((result.best["candidate"], result.best["batch"]))
    based = [r for r in result.records if r.conditions.get("effort") == "baseline"]
    shown |= {(r.subject.get("candidate"), r.conditions.get("batch")) for r in based}
    digests = {digest for digest, _ in shown}
    # A failed build has no candidate; one that was built and not tried is told of in the lines below the table.
    left_out = [r for r in result.records if r.subject.get("candidate") is None and r.status != "ok"]

    def wanted(record: Any) -> bool:
        digest = record.subject.get("candidate")
        if record.kind in ("measure", "confirm"):
            return (digest, record.conditions.get("batch")) in shown
        return digest in digests or record in left_out

    return [r for r in result.records if wanted(r)]


def lines(tuned: dict[str, Any], best: dict[str, Any] | None) -> list[str]:
    """What the search came to, in words."""
    from assay.core.units import format_seconds

    spent = f"{format_seconds(tuned['spent_s'])} of {format_seconds(tuned['budget_s'])}"
    tried = f"{tuned['tried']} of {tuned['configurations']} configurations tried in {tuned['trials']} trials, {spent}"
    found = [tried + ("" if tuned["complete"] else "; the search was cut short by the budget")]
    if best is not None:
        options = best["options"]
        settings = [f"{options[n]} {n}" for n in ("threads", "streams") if options[n] is not None]
        settings += [f"{options['instances']} instances"] if options["instances"] > 1 else []
        settings += ["static shapes" if options["buckets"] else "free batch"]
        settings += [f"{k}={v}" for k, v in options["provider_options"].items()]
        name = f"{best['engine']} {best['precision']}, batch {best['batch']}"
        found.append(f"chosen:  {name}, {', '.join(settings)}")
        found += [f"  gain over {name.replace('_', '.')}: {_gain(figure)}" for name, figure in tuned["gains"].items()]
    elif tuned.get("so_far") and not tuned["refused"]:
        found.append(f"best so far, not proved: {tuned['so_far']}")
    found += [f"not tried: {item['points']} of {item['family']}: {item['reason']}" for item in tuned["left"]]
    found += [f"may not win: {text}" for text in tuned["refused"]]
    return found


def _gain(figure: dict[str, Any] | None) -> str:
    from assay.core.record import Figure
    from assay.present.figures import format_figure

    if figure is None:
        return "not measured (the warnings say why)"
    return format_figure(Figure.from_json(figure))
