"""``assay replay``: is what a bundle's evidence says still so, after an upgrade?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from assay.cli.options import common, duration, fraction, output_of

if TYPE_CHECKING:
    from assay.cli.output import Output
    from assay.job.replay.one import Replayed


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--digest", metavar="sha256:HEX", help="The manifest's digest, from somewhere you trust.")
@click.option("--trust", is_flag=True, help="Open an engine file that runs code.")
@click.option("--duration", default="3s", show_default=True, metavar="TIME", help="Most that each measurement takes.")
@click.option("--margin", default="5%", show_default=True, help="A ratio nearer to 1 than this is no move.")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="FILE.onnx",
    help="Replay with this file in the place of the one the bundle was made from: exported anew, another opset.",
)
@click.option(
    "--with",
    "versions",
    multiple=True,
    metavar="PACKAGE==VERSION",
    help="Replay with this version, installed into a folder of its own; your environment stays as it is.",
)
@common
def command(**values: Any) -> int:
    """Take BUNDLE's evidence again here: its golden outputs, and the speeds its Records hold.

    \b
    assay replay runs/demo/run/bundle
    assay replay runs/demo/run/bundle --with onnxruntime==1.22.0
    assay replay runs/demo/run/bundle --model opset-20.onnx

    Exit code 1 when an output differs or a speed is worse beyond noise.
    """
    from assay.job.replay.one import Replay, replay

    seconds = duration(values["duration"]) or 3.0
    request = Replay(
        values["bundle"],
        values["digest"],
        values["trust"],
        seconds,
        fraction(values["margin"], "--margin", "5%") or 0.0,
        values["model"],
    )
    if values["versions"]:
        return _with_versions(values)
    output = output_of("replay", values)
    found = replay(request)
    _show(output, found)
    return found.exit_code


def _with_versions(values: dict[str, Any]) -> int:
    from assay.bundle.contents import read_bundle
    from assay.job.replay.other_file import read_other
    from assay.job.replay.overlay import check_imports, check_requirement, install, run_with

    wanted = [check_requirement(text) for text in values["versions"]]
    read_bundle(values["bundle"])  # what is no bundle is told before anything is downloaded
    if values["model"] is not None:
        read_other(values["model"])
    with tempfile.TemporaryDirectory(prefix="assay-replay-") as folder:
        install(wanted, Path(folder))
        check_imports(wanted, Path(folder), os.environ)
        return run_with(Path(folder), _without_versions(values), os.environ)


def _without_versions(values: dict[str, Any]) -> list[str]:
    arguments = [str(values["bundle"].resolve()), "--duration", values["duration"], "--margin", values["margin"]]
    for name in ("trust", "quiet", "debug"):
        arguments += [f"--{name}"] if values.get(name) else []
    if values["digest"]:
        arguments += ["--digest", values["digest"]]
    if values["model"] is not None:
        arguments += ["--model", str(values["model"].resolve())]
    if values.get("json_to"):
        arguments += ["--json"] if values["json_to"] == "-" else [f"--json={values['json_to']}"]
    return arguments


def _show(output: Output, found: Replayed) -> None:
    for step in found.check.steps:
        output.say(f"{step.state.replace('_', ' '):<13} {step.name}: {step.text}")
    for change in found.changes:
        output.say(f"{'changed':<13} {change}")
    for move in found.moves:
        output.say(f"{move.state:<13} {move.figure}, {move.scenario}, batch {move.batch}: {move.text}")
    for text in found.failed:
        output.say(f"{'failed':<13} {text}")
    for text in found.not_checked:
        output.say(f"{'not checked':<13} {text}")
    if found.check.error is not None:
        output.warn_of(found.check.error)
    output.say(_conclusion(found))
    output.result(records=found.records, extra={"replay": found.to_json()})


def _conclusion(found: Replayed) -> str:
    if found.exit_code:
        return "FAILED: see above"
    open_ones = sum(move.state == "not shown" for move in found.moves)
    if not found.moves or open_ones == len(found.moves):
        return "the outputs hold; whether a speed moved could not be shown"
    return "nothing got worse beyond noise" + (f"; {open_ones} figures could not be shown" if open_ones else "")


if __name__ == "__main__":  # with other versions before the installed ones on the path: see job/replay/overlay.py
    import sys

    from assay.cli.main import main
    from assay.core.child import end_with_parent

    end_with_parent()
    main(["replay", *sys.argv[1:]])
