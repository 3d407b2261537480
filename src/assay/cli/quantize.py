"""``assay quantize``: an ONNX file or an IR in a lower precision, with accuracy control."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import SourceArguments, common, fraction, model_options, one_precision, output_of
from assay.core.units import format_bytes


@click.command()
@click.argument("model", metavar="FILE.onnx|FILE.xml")
@click.option("-o", "--out", "out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--precision", default="int8", show_default=True, metavar="fp16|bf16|int8")
@click.option("--method", metavar="nncf|ort", help="Who makes int8; default: nncf.")
@click.option("--data", metavar="DATA", help="Real samples; divided into calibration, control and evaluation.")
@click.option("--calibration", metavar="DATA|synthetic", help="Calibrate on these instead of a part of --data.")
@click.option("--control", metavar="DATA", help="Control the accuracy on these instead of a part of --data.")
@click.option("--calibration-samples", type=click.IntRange(min=1), default=300, show_default=True)
@click.option("--control-samples", type=click.IntRange(min=1), help="Default: half of what calibration left.")
@click.option("--max-drop", metavar="0.5%", help="Put the worst layers back until the drop is at most this.")
@click.option("--engine", "engine_name", help="Score on this engine; default: the one the file is for.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--labels", type=click.Path(path_type=Path), help="Labels of a flat folder.")
@click.option("--preprocess", metavar="FILE.py:fn", help="Your own transform.")
@model_options
@common
def command(**values: Any) -> int:
    """Convert a model to a lower precision in DIR and say what it cost."""
    output = output_of("quantize", values)
    from assay.cli.progress import progress_for
    from assay.job.quantize.one import quantize_one
    from assay.precision.control import describe
    from assay.present.figures import format_figure

    found = quantize_one(_asked(values), SourceArguments(values).source(Path()), progress_for(output))
    made = found.artifact
    output.say(f"{made.path}: {format_bytes(made.size_bytes)}, opens as {found.opens_as}, sha256:{made.sha256}")
    if found.controlled is not None:
        plain, chosen = found.controlled.plain, found.controlled.chosen
        output.say(f"  without control: drop {plain.drop:.2%}; with: {chosen.drop:.2%} (accuracy-control samples)")
        output.say(f"  put back: {len(found.controlled.reverted)} of {found.controlled.layers} layers")
        for line in describe(found.controlled.reverted):
            output.say(f"    {line}")
    for name, figure in found.record.figures.items():
        if name.startswith(("accuracy.", "metric")):
            output.say(f"  {name:<16} {format_figure(figure)}")
    for text in found.warnings:
        output.warn(text)
    for reason in found.verdict.reasons if found.verdict else ():
        output.say(f"{reason.state}: {reason.text}")
    output.result(
        records=[found.record], verdict=found.verdict, extra={"artifact": made.to_json(), "opens_as": found.opens_as}
    )
    return found.verdict.exit_code if found.verdict else 0


def _asked(values: dict[str, Any]) -> Any:
    from assay.job.quantize.calibrating import Sets
    from assay.job.quantize.one import Quantize

    precision = one_precision(values["precision"], "quantize")
    sets = Sets(
        data=values["data"],
        calibration=values["calibration"],
        control=values["control"],
        calibration_count=values["calibration_samples"],
        control_count=values["control_samples"],
        seed=values["seed"],
        labels=values["labels"],
    )
    return Quantize(
        model=values["model"],
        out=values["out"],
        precision=precision,
        method=values["method"],
        max_drop=fraction(values["max_drop"]),
        engine=values["engine_name"],
        device=values["device"],
        preprocess=values["preprocess"],
        sets=sets,
    )
