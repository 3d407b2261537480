"""``assay engines``: the engines and what each can do on this machine."""

from __future__ import annotations

from typing import Any

import click

from assay.cli.options import common, output_of


@click.command()
@click.option("--device", default="cpu", show_default=True)
@common
def command(**values: Any) -> int:
    """Every engine × precision on DEVICE: works here, or the reason and the remedy."""
    output = output_of("engines", values)
    from assay.engines import ENGINES
    from assay.job.opening import engine, hardware_status

    rows = []
    for name in ENGINES:
        found = engine(name)
        for precision in found.precisions:
            why = found.unavailable(values["device"], precision)
            row = {"engine": name, "precision": precision, "device": values["device"], "unavailable": why}
            rows.append({**row, "status": hardware_status(found, values["device"])})
            output.say(f"{name:<13} {precision:<5} {'works here' if why is None else why}")
        status = hardware_status(found, values["device"])
        if status:
            output.say(f"{name:<13} {status}")
    output.result(extra={"engines": rows})
    return 0
