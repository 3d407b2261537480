"""``assay run``: the main job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

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


@click.command()
@click.argument("model")
@click.option(
    "--data", metavar="DATA", help="digits, imagefolder:DIR, npz:FILE, synthetic, …; without: speed and numerics only."
)
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of a flat folder.")
@click.option("--engine", metavar="E,…", help="Default: all that work here.")
@click.option("--precision", metavar="P,…", help="fp32,bf16,fp16,int8; default: all that work here.")
@click.option("--batch", "--batches", "batch", default="1,8", show_default=True, metavar="N,…")
@click.option("--buckets", metavar="N,…", help="Static batch sizes; a partial batch is padded to the next one.")
@click.option(
    "--max-drop", metavar="0.5%", help="At most this drop in accuracy; int8 puts its worst layers back for it."
)
@click.option("--calibration", metavar="DATA|synthetic", help="Calibrate int8 on these instead of a part of --data.")
@click.option("--control", metavar="DATA", help="Control int8's accuracy on these instead of a part of --data.")
@click.option("--int8-method", metavar="nncf|ort", help="Who makes int8; default: nncf.")
@click.option("--tune", metavar="TIME", help="Search threads, streams, batch and graph options for this long first.")
@click.option("--no-compile", is_flag=True, help="Leave out the baseline torch.compile, which compiles for minutes.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="Threads per engine; default: the engine's own choice.")
@click.option(
    "--policy", type=click.Path(path_type=Path), metavar="FILE.toml", help="Limits; default: policies/default.toml."
)
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; an existing run there is resumed.")
@click.option("--preprocess", metavar="FILE.py:fn", help="Your own transform.")
@click.option("--quick", is_flag=True, help="A verdict within 2 minutes.")
@click.option("--dry-run", is_flag=True, help="Print the plan and its minutes; run nothing.")
@model_options
@export_options
@common
def command(**values: Any) -> int:
    """Export, verify, build, evaluate, measure, choose, judge, report and pack MODEL."""
    output = output_of("run", values)
    from assay.cli.progress import progress_for
    from assay.cli.shown import show_result
    from assay.cli.tune import budget_of
    from assay.job.folder import default_folder
    from assay.job.pipeline import run
    from assay.job.plan import plan
    from assay.job.request import QUICK, Effort, Int8, Objects, RunRequest
    from assay.job.user_code import user_transform
    from assay.sources import check_spec

    arguments = SourceArguments(values)
    out = values["out"] or default_folder(short_name(values["model"]))
    max_drop = fraction(values["max_drop"])
    request = RunRequest(
        model=values["model"],
        out=out,
        data=values["data"],
        engines=words(values["engine"]) or None,
        precisions=precisions(values["precision"]),
        batches=sizes(values["batch"]),
        device=values["device"],
        seed=values["seed"],
        threads=values["threads"],
        source=arguments.source(out),
        export=arguments.export(),
        policy=_policy(values["policy"], max_drop),
        effort=QUICK if values["quick"] else Effort(),
        labels=values["labels"],
        command=command_line("run"),
        int8=Int8(values["calibration"], values["control"], max_drop=max_drop, method=values["int8_method"]),
        buckets=_buckets(values["buckets"]),
        compiled=not (values["no_compile"] or values["quick"]),
        tune_s=None if values["tune"] is None else budget_of(values["tune"], "--tune"),
    )
    objects = Objects(preprocess=user_transform(values["preprocess"]) if values["preprocess"] else None)
    if values["dry_run"]:
        check_spec(request.model)
        steps = plan(request)
        for line in steps.lines():
            output.say(line)
        output.result(extra={"plan": steps.to_json()})
        return 0
    result = run(request, objects, progress_for(output))
    show_result(output, result)
    return result.exit_code


def _policy(path: Path | None, max_drop: float | None) -> Any:
    """The policy's own limit on the accuracy gives way to one that was typed, which then has to be shown."""
    from assay.judge.policy import DEFAULT_POLICY, Policy

    policy = Policy.load(path) if path else DEFAULT_POLICY
    if max_drop is None:
        return policy
    return replace(policy, accuracy=replace(policy.accuracy, max_drop=max_drop, required=True))


def _buckets(text: str | None) -> tuple[int, ...]:
    return tuple(sorted(sizes(text, "--buckets 1,2,4,8"))) if text else ()


def short_name(model: str) -> str:
    """A name for the run folder: what stands after the last colon, or the file's stem."""
    name = model.partition("?")[0].rstrip("/").rpartition(":")[2]
    return Path(name).stem if "/" in name or name.endswith((".onnx", ".pt", ".pth", ".xml")) else name
