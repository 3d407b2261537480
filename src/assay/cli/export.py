"""``assay export``: PyTorch to ONNX, checked and compared."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from assay.cli.options import SourceArguments, common, export_options, model_options, output_of, sizes
from assay.core.errors import BadInput


@click.command()
@click.argument("model")
@click.option("-o", "--out", "out", type=click.Path(path_type=Path), required=True, metavar="FILE.onnx")
@click.option("--batch", metavar="N|dynamic", help="Default: dynamic, unless --shape fixes it.")
@model_options
@export_options
@common
def command(**values: Any) -> int:
    """Export MODEL to ONNX; check it, simplify it, compare it with PyTorch, prove its free dims."""
    output = output_of("export", values)
    from assay.cli.progress import progress_for
    from assay.core.units import format_bytes
    from assay.export.export import export_model
    from assay.job.opening import OnnxRunner
    from assay.sources import resolve_model

    arguments = SourceArguments(values)
    progress = progress_for(output)
    runner = OnnxRunner()
    with tempfile.TemporaryDirectory(prefix="assay-export-") as folder:
        progress.stage("open", values["model"])
        model = resolve_model(values["model"], arguments.source(Path(folder)))
        progress.done(model.weights)
        for text in model.warnings:
            output.warn(text)
        progress.stage("export")
        try:
            made = export_model(model, arguments.export(_batch(values["batch"])), values["out"], runner)
        finally:
            runner.close()
        progress.done(f"by the {made.exporter} exporter{f' ({made.why})' if made.why else ''}")
    for text in made.warnings:
        output.warn(text)
    for text in made.notes:
        output.note(f"note: {text}")
    opset = f"opset {made.opset_obtained}"
    if made.opset_asked is not None:
        opset += f" (asked: {made.opset_asked})"
    output.say(f"{values['out']}: {opset}, {format_bytes(made.artifact.size_bytes)}, sha256:{made.artifact.short}…")
    output.say(f"  {made.signature}")
    for step in made.passes:
        output.say(f"  pass {step.name}: {step.status}{' — ' + step.reason if step.reason else ''}")
    for name, measures in made.comparison.items():
        output.say(f"  {name} against PyTorch: max abs error {measures.max_abs:.3g}, cosine {measures.cosine:.9f}")
    output.result(extra={"export": made.to_json()})
    return 0


def _batch(text: str | None) -> int | str | None:
    if text is None or text == "dynamic":
        return text
    try:
        (size,) = sizes(text)
    except (BadInput, ValueError):
        raise BadInput(f"{text!r} is neither a batch size nor the word dynamic", remedy="--batch 8") from None
    return size
