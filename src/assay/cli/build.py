"""``assay build``: one engine file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, one_precision, output_of
from assay.core.errors import BadInput, NotAvailable


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="FILE.onnx")
@click.option("--engine", "engine_name", required=True)
@click.option("--precision", default="fp32", show_default=True)
@click.option("--device", default=None, metavar="cpu|cuda[:N]|npu[:N]", help="Default: what the engine runs on.")
@click.option("--batch", type=click.IntRange(min=1), help="Fix the batch; default: as the file has it.")
@click.option("--option", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the engine's own.")
@click.option("-o", "--out", "out", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--print-command", is_flag=True, help="Print the vendor tool's line that does the same, and stop.")
@click.option("--tool-version", metavar="8|10|11", help="For which version to print it.")
@common
def command(**values: Any) -> int:
    """Build an engine file in DIR, with its digest; the build runs in a process of its own."""
    output = output_of("build", values)
    from assay.core.engine import BuildOptions
    from assay.job.opening import check_device, engine
    from assay.job.single import file_model

    precision = one_precision(values["precision"], "build")
    found = engine(values["engine_name"])
    artifact = file_model(values["model"])
    if artifact.format not in found.reads:
        raise BadInput(f"{found.name} builds from {', '.join(found.reads)}; {values['model']} is {artifact.format}")
    device = values["device"] or _usual_device(found)
    options = BuildOptions(precision, device, values["batch"], _pairs(values["settings"]))
    if values["print_command"]:
        line = _command_line(found, artifact, options, values)
        output.say(line)
        output.result(extra={"command": line})
        return 0
    if values["out"] is None:
        raise BadInput("build needs a folder to build in", remedy="-o DIR")
    # A precision that lives in the file is the build's to refuse: it says which file it wants.
    check_device((found.name,), device)
    why = found.unavailable(device, precision if precision not in _IN_FILE else "fp32")
    if why:
        raise NotAvailable(f"{found.name} {precision} on {device}: {why}")
    return _build(found.name, artifact, options, values["out"], output)


_IN_FILE = ("int8",)


def _build(name: str, artifact: Any, options: Any, out: Path, output: Any) -> int:
    from assay.core.units import format_bytes
    from assay.job.building import build_in_folder

    found = build_in_folder(name, artifact, options, out)
    made = found.artifact
    again = " (unchanged: built before from the same file and options, by this version, for this device)"
    size = format_bytes(made.size_bytes)
    output.say(f"{made.path}: {made.format}, {size}, sha256:{made.sha256}{again if found.unchanged else ''}")
    output.say(f"  log: {found.log}")
    output.result(extra={"artifact": made.to_json(), "unchanged": found.unchanged})
    return 0


def _usual_device(found: Any) -> str:
    """The first device the engine does not refuse for what it is."""
    return str(getattr(found, "usual_device", "cpu"))


def _command_line(found: Any, artifact: Any, options: Any, values: dict[str, Any]) -> str:
    make = getattr(found, "build_command", None)
    if make is None:
        raise NotAvailable(f"{found.name} has no command-line tool that builds its files", remedy="leave it out")
    version = values["tool_version"]
    if version is None and found.unavailable(options.device, options.precision) is None:
        version = found.version()
    line: str = make(artifact, options, values["out"] or Path(), version)
    return line


def _pairs(texts: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """``NAME=VALUE`` texts.  Raises BadInput."""
    pairs = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise BadInput(f"{text!r} is not NAME=VALUE", remedy="--option workspace=4GiB")
        pairs.append((name, value))
    return tuple(sorted(pairs))
