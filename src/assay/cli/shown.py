"""How a run's result looks on the terminal."""

from __future__ import annotations

from assay.cli.output import Output
from assay.job.pipeline import RunResult
from assay.job.reporting import report_content
from assay.present.terminal import candidate_table, verdict_panel


def show_result(output: Output, result: RunResult) -> None:
    """The verdict, the table of candidates, where everything is."""
    content = report_content(result.records, result.verdict, result.about)
    output.show(candidate_table(content))
    output.show(verdict_panel(result.verdict))
    for text in result.missing:
        output.say(f"not available here: {text}")
    output.say(f"report:  {result.folder / 'report.html'}   (and report.md, report.csv)")
    if result.bundle:
        output.say(f"bundle:  {result.bundle}   (assay check {result.bundle})")
    output.warnings += list(result.warnings)
    output.result(
        records=result.records,
        verdict=result.verdict,
        best=result.best,
        extra={"folder": str(result.folder), "missing": list(result.missing)},
    )
