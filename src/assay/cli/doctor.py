"""``assay doctor``: what works here, what is missing, and the command that installs it."""

from __future__ import annotations

from typing import Any

import click

from assay.cli.options import common, output_of

_MARKS = {"ok": "ok     ", "missing": "missing", "trap": "TRAP   ", "note": "note   "}


@click.command()
@common
def command(**values: Any) -> int:
    """Check this machine and environment; every missing part comes with its install command."""
    output = output_of("doctor", values)
    from assay.job.doctor import examine

    findings = examine()
    for finding in findings:
        output.say(f"{_MARKS[finding.state]}  {finding.part}: {finding.text}")
        if finding.remedy:
            output.say(f"           {finding.remedy}")
    output.result(extra={"findings": [f.to_json() for f in findings]})
    return 1 if any(f.state == "trap" for f in findings) else 0
