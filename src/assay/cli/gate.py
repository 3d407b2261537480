"""``assay gate``: a run judged by a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from assay.cli.options import common, output_of
from assay.core.errors import BadInput


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--policy", type=click.Path(path_type=Path), required=True, metavar="FILE.toml")
@common
def command(**values: Any) -> int:
    """Judge the chosen configuration of RUN by another policy.  Exit code 0: passed, 1: not."""
    output = output_of("gate", values)
    from assay.judge.gate import judge
    from assay.judge.policy import Policy
    from assay.present.terminal import verdict_panel
    from assay.run.folder import load_run

    records, about = load_run(values["run"])
    best = about.get("best")
    if not best:
        raise BadInput(f"no configuration was chosen in {values['run']}: there is nothing to judge")
    verdict = judge(best["candidate"], records, Policy.load(values["policy"]))
    output.say(f"{best['label']}, batch {best['batch']}")
    output.show(verdict_panel(verdict))
    output.result(records=records, verdict=verdict, best=best)
    return verdict.exit_code
