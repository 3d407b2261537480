"""``assay run``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import (
    SourceArguments,
    command_line,
    common,
    export_options,
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
@click.option("--precision", metavar="P,…", help="fp32,bf16,fp16; default: all that work here.")
@click.option("--batch", "--batches", "batch", default="1,8", show_default=True, metavar="N,…")
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
    from assay.job.folder import default_folder
    from assay.job.pipeline import run
    from assay.job.plan import plan
    from assay.job.request import QUICK, Effort, Objects, RunRequest
    from assay.job.user_code import user_transform

    arguments = SourceArguments(values)
    out = values["out"] or default_folder(_short(values["model"]))
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
        policy=_policy(values["policy"]),
        effort=QUICK if values["quick"] else Effort(),
        labels=values["labels"],
        command=command_line("run"),
    )
    objects = Objects(preprocess=user_transform(values["preprocess"]) if values["preprocess"] else None)
    if values["dry_run"]:
        steps = plan(request)
        for line in steps.lines():
            output.say(line)
        output.result(extra={"plan": steps.to_json()})
        return 0
    result = run(request, objects, progress_for(output))
    show_result(output, result)
    return result.exit_code


def _policy(path: Path | None) -> Any:
    from assay.judge.policy import DEFAULT_POLICY, Policy

    return Policy.load(path) if path else DEFAULT_POLICY


def _short(model: str) -> str:
    """A name for the run folder: what stands after the last colon, or the file's stem."""
    name = model.partition("?")[0].rstrip("/").rpartition(":")[2]
    return Path(name).stem if "/" in name or name.endswith((".onnx", ".pt", ".pth", ".xml")) else name
