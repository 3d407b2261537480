"""``assay inspect``: what is in a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--nodes", is_flag=True, help="List every node with its attributes.")
@click.option("--trust", is_flag=True, help="Open a bundle that runs code; a file that is named is opened without.")
@common
def command(**values: Any) -> int:
    """Signature, IR version, opsets, operators, parameters and MACs of FILE, or of a bundle's.

    A TorchScript file's graph and code are printed; an ONNX file's nodes with --nodes.
    """
    output = output_of("inspect", values)
    from assay.job.inspection import inspect_model

    found = inspect_model(values["file"], nodes=values["nodes"], trust=values["trust"])
    for line in found.lines:
        output.say(line)
    for text in found.warnings:
        output.warn(text)
    output.result(extra={"inspect": found.data})
    return 0
