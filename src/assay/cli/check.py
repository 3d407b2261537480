"""``assay check``: is a bundle whole, and does it still give its golden outputs here?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--digest", metavar="sha256:HEX", help="The manifest's digest, from somewhere you trust.")
@click.option("--trust", is_flag=True, help="Open an engine file that runs code.")
@common
def command(**values: Any) -> int:
    """Recompute every digest of BUNDLE, then re-run its golden outputs here.

    This proves integrity, not origin; --digest pins the manifest.
    """
    output = output_of("check", values)
    from assay.bundle.check import check
    from assay.job.opening import harmless_options, here, open_packed

    found = check(
        values["bundle"], open_packed, values["digest"], trust=values["trust"], here=here, harmless=harmless_options
    )
    for step in found.steps:
        output.say(f"{step.state.replace('_', ' '):<9} {step.name}: {step.text}")
    if found.error is not None:
        output.warn_of(found.error)
    output.say(f"{'passed' if found.ok else 'FAILED'}  sha256:{found.digest.removeprefix('sha256:')}")
    if found.ok and values["digest"] is None:
        output.note("--digest sha256:… pins the bundle to a digest that came another way")
    output.result(extra={"check": found.to_json()})
    return found.exit_code
