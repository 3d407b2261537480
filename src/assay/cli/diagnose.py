"""``assay diagnose``: CANDIDATE differs from REF; who is to blame?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import (
    SourceArguments,
    asked_precision,
    common,
    model_options,
    output_of,
    pair_options,
    sizes,
    words,
)
from assay.cli.output import Output
from assay.core.errors import BadInput


@click.command()
@pair_options
@click.option("--data", metavar="DATA", help="Look at these samples; without: seeded inputs from the signature.")
@click.option("--batch", default="4", show_default=True, metavar="N")
@click.option("--samples", type=click.IntRange(min=1), default=8, show_default=True)
@click.option(
    "--simplify", "passes", default="", metavar="PASS,…", help="Passes to look at one by one, on an export of REF."
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a minimal reproduction of every fault found here.")
@click.option("--fix", is_flag=True, help="Put the guilty stage right where that is possible (needs --out).")
@click.option(
    "--preprocess", metavar="FILE.py:fn", help="Compare this deployed transform with the training one, on --data."
)
@click.option("--training", metavar="FILE.py:fn", help="The training transform; default: the model's own.")
@click.option(
    "--scored",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Samples on which --preprocess counts what it costs.",
)
@click.option(
    "--limit", type=float, metavar="X", help="What --precision may add (relative rms), in place of its own cost."
)
@click.option(
    "--run", "run_folder", type=click.Path(path_type=Path), metavar="RUN", help="Keep the findings with this run, too."
)
@click.option("--mapping", is_flag=True, help="Also print which ATen operators became which ONNX operators.")
@model_options
@common
def command(**values: Any) -> int:
    """Name the stage, the operator and the line of Python where CANDIDATE begins to differ from REF."""
    output = output_of("diagnose", values)
    from assay.cli.progress import progress_for
    from assay.job.compare_two import Pair
    from assay.job.diagnose.into_run import append_to_run, check_run
    from assay.job.diagnose.two import Asked, diagnose_two

    precision = asked_precision(values["precision"], "diagnose")
    pair = Pair(
        reference=values["ref"],
        candidate=values["candidate"],
        engine=values["engine_name"],
        precision=precision,
        device=values["device"],
        data=values["data"],
        batches=sizes(values["batch"]),
        samples=values["samples"],
    )
    arguments = SourceArguments(values)
    if values["preprocess"] is not None:
        return _preprocess(output, pair, values)
    if values["training"] is not None:
        raise BadInput("--training is compared with --preprocess", remedy="--preprocess FILE.py:fn --data DIR")
    if values["limit"] is not None and not values["limit"] > 0:
        raise BadInput(f"a limit is a positive number, not {values['limit']:g}", remedy="--limit 1e-3")
    if values["fix"] and values["out"] is None:
        raise BadInput("--fix writes a file and needs a folder for it", remedy="--fix --out DIR")
    if values["run_folder"] is not None:
        check_run(values["run_folder"])
    asked = Asked(pair, values["out"], words(values["passes"]), values["fix"], values["limit"], arguments.export())
    found = diagnose_two(asked, arguments.source(Path()), progress_for(output))
    _show(output, found, values["mapping"])
    if values["run_folder"] is not None:
        append_to_run(values["run_folder"], found.record)
        output.say(f"kept in {values['run_folder']}")
    output.result(records=[found.record], verdict=found.verdict)
    return found.verdict.exit_code


def _preprocess(output: Output, pair: Any, values: dict[str, Any]) -> int:
    from assay.cli.progress import progress_for
    from assay.job.diagnose.preprocess import Transforms, compare_transforms
    from assay.present.figures import format_figure
    from assay.present.terminal import listing

    asked = Transforms(pair, values["preprocess"], values["training"], values["samples"], values["scored"])
    compared = compare_transforms(asked, SourceArguments(values).source(Path()), progress_for(output))
    found = compared.found
    if found.steps:
        headers = ("step", "training", "deployed", "mean", "largest")
        rows = [(s.words, s.training, s.deployed, f"{s.mean:.3g}", f"{s.largest:.3g}") for s in found.steps]
        output.show(listing("steps that differ (levels of 0-255, each step alone)", headers, rows))
    output.say(f"all together: {found.mean:.3g} levels on average, {found.largest:.3g} at most, {found.files} files")
    if found.layout is not None:
        output.say(f"layout: {found.layout}")
    for cost in compared.costs:
        lost = f", lost {format_figure(cost.drop)}" if cost.drop is not None else ""
        output.say(f"{compared.primary} {cost.what}: {format_figure(cost.figure)}{lost}")
    for text in compared.verdict.not_checked:
        output.say(f"not checked: {text}")
    output.say(compared.verdict.reasons[0].text)
    output.result(records=[compared.record], verdict=compared.verdict)
    return compared.verdict.exit_code


def _show(output: Output, found: Any, mapping: bool) -> None:
    from assay.present.terminal import listing

    headers = ("stage", "added", "its due", "in all", "")
    rows = [(r.name, _figure(r.added), f"{r.due:.2g}", _figure(r.total), f"{r.state} {r.text}") for r in found.rows]
    output.show(listing("error by stage (relative rms of the worst output)", headers, rows))
    for guilty in found.guilty:
        piece = guilty.piece
        output.say(
            f"guilty: tensor {piece.tensor!r}: alone {_figure(piece.local)} (due {piece.due:.2g}), "
            f"accumulated {_figure(piece.accumulated)}"
        )
        for name, op in piece.nodes[:8]:
            output.say(f"  {op} {name}: {guilty.origins.get(name, 'of unknown origin')}")
        for r in piece.ranges:
            output.say(f"  {r.tensor}: {r.low:.4g} … {r.high:.4g}, rms {r.rms:.3g}")
        for text in guilty.advice:
            output.say(f"  {text}")
        if guilty.reproduction:
            output.say(f"  reproduction: python {guilty.reproduction / 'reproduce.py'}")
    if mapping:
        for row in found.mapping:
            output.say(f"{row.aten} -> {', '.join(row.onnx)}  ({row.kind}, {row.calls} calls)")
    if found.fix is not None:
        fix = found.fix
        output.say(
            f"fix: {fix.what}: adds {fix.after:.2g} (was {fix.before:.2g}, due {fix.due:.2g}), "
            f"{'it works' if fix.works else 'not enough'}; {fix.slowdown:.2f}x the time of a call; {fix.path}"
        )
    for text in found.notes:
        output.say(f"note: {text}")
    output.say(found.verdict.reasons[0].text)


def _figure(value: float | None) -> str:
    return "—" if value is None else f"{value:.2g}"
