"""``assay diagnose``: CANDIDATE differs from REF; who is to blame?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import (
    SourceArguments,
    common,
    model_options,
    one_precision,
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
@click.option("--mapping", is_flag=True, help="Also print which ATen operators became which ONNX operators.")
@model_options
@common
def command(**values: Any) -> int:
    """Name the stage, the operator and the line of Python where CANDIDATE begins to differ from REF."""
    output = output_of("diagnose", values)
    from assay.cli.progress import progress_for
    from assay.job.compare_two import Pair
    from assay.job.diagnose_two import Asked, diagnose_two

    precision = one_precision(values["precision"], "diagnose")
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
    if values["fix"] and values["out"] is None:
        raise BadInput("--fix writes a file and needs a folder for it", remedy="--fix --out DIR")
    asked = Asked(pair, values["out"], words(values["passes"]), values["fix"], arguments.export())
    found = diagnose_two(asked, arguments.source(Path()), progress_for(output))
    _show(output, found, values["mapping"])
    output.result(records=[found.record], verdict=found.verdict)
    return found.verdict.exit_code


def _show(output: Output, found: Any, mapping: bool) -> None:
    from rich.table import Table

    table = Table(title="error by stage (relative rms of the worst output)")
    for header in ("stage", "added", "its due", "in all", ""):
        table.add_column(header)
    for row in found.rows:
        table.add_row(row.name, _figure(row.added), f"{row.due:.2g}", _figure(row.total), f"{row.state} {row.text}")
    output.show(table)
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
