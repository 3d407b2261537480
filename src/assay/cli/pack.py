"""``assay pack``: a run's bundle, copied to where it is wanted and checked there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of
from assay.core.errors import BadInput


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--out", "out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@common
def command(**values: Any) -> int:
    """Copy RUN's bundle to DIR (which must not exist) and recompute its digests there."""
    output = output_of("pack", values)
    from assay.bundle.manifest import manifest_digest, verify_manifest

    source, target = values["run"] / "bundle", values["out"]
    if not (source / "manifest.json").is_file():
        raise BadInput(f"{values['run']} has no bundle: no configuration was chosen, or the run did not finish")
    if target.exists():
        raise BadInput(f"{target} exists already", remedy="give a folder that does not exist yet")
    temporary = target.with_name(target.name + ".part")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source, temporary)
        problems = verify_manifest(temporary)
        if problems:
            raise BadInput(f"the bundle of {values['run']} is not whole: {problems[0]}")
        temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    output.say(f"{target}  {manifest_digest(target)}")
    output.result(extra={"bundle": str(target), "digest": manifest_digest(target)})
    return 0
