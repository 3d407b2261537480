"""``assay pack``: a run's bundle, laid out where it is wanted and checked there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.bench_load import seconds
from assay.cli.options import common, output_of
from assay.core.errors import BadInput


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", "out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--layout", default="assay", show_default=True, metavar="assay|triton")
@click.option("--backend", default="native", show_default=True, metavar="native|python", help="Triton's backend.")
@click.option("--pictures", is_flag=True, help="Take encoded pictures (Python backend only).")
@click.option("--name", metavar="NAME", help="The model's name in the repository.")
@click.option("--max-batch", type=click.IntRange(min=1), metavar="N", help="Most rows that Triton merges.")
@click.option("--delay", metavar="TIME", help="How long Triton may wait for more rows, such as 2ms.")
@click.option("--instances", type=click.IntRange(min=1), metavar="N", help="How many of it run side by side.")
@click.option("--digest", metavar="sha256:HEX", help="The manifest's digest, from somewhere you trust.")
@click.option("--trust", is_flag=True, help="Pack what runs code when it is opened.")
@common
def command(**values: Any) -> int:
    """Lay RUN's bundle (or a bundle folder) out in DIR.

    \b
    assay pack runs/resnet18 -o shipped            a copy, its digests recomputed; DIR must not exist
    assay pack runs/resnet18 -o repository --layout triton --backend python
                                                   DIR/NAME for Triton; DIR is its model repository
    """
    output = output_of("pack", values)
    from assay.bundle.layouts import LAYOUTS, LayoutOptions, Trust
    from assay.bundle.manifest import manifest_digest, parse_digest, verify_manifest
    from assay.core.table import resolve
    from assay.job.opening import harmless_options

    lay = resolve(LAYOUTS, values["layout"], "layout")
    source = _bundle(values["run"])
    problems = verify_manifest(source)
    if problems:
        raise BadInput(f"the bundle {source} is not whole: {problems[0]}", remedy=f"assay check {source}")
    digest, pinned = manifest_digest(source), values["digest"]
    if pinned is not None and parse_digest(pinned) != digest:
        raise BadInput(f"{source} is not the bundle that was pinned: its manifest is {digest}")
    options = LayoutOptions(
        backend=values["backend"],
        name=values["name"],
        max_batch=values["max_batch"],
        delay_us=round(1e6 * seconds(values["delay"], "--delay 2ms")) if values["delay"] else 0,
        instances=values["instances"],
        pictures=values["pictures"],
    )
    laid = lay(source, values["out"], options, Trust(values["trust"] or pinned is not None, harmless_options))
    output.say(f"{laid.folder}  {digest}")
    for note in laid.notes:
        output.note(note)
    output.result(extra={"bundle": str(laid.folder), "digest": digest, "notes": list(laid.notes)})
    return 0


def _bundle(run: Path) -> Path:
    """The bundle of a run folder, or the folder itself where it is a bundle."""
    for folder in (run / "bundle", run):
        if (folder / "bundle.json").is_file() and (folder / "manifest.json").is_file():
            return folder
    if not run.exists():
        raise BadInput(f"there is no folder {run}")
    raise BadInput(f"{run} has no bundle: no configuration was chosen, or the run did not finish")
