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
@click.option("--model", metavar="NAME", help="Rules on every Record: this model alone.")
@common
def command(**values: Any) -> int:
    """Judge the chosen configuration of RUN by another policy; rules between devices and on published accuracies
    judge every Record at or below RUN.  Exit code 0: passed, 1: not."""
    output = output_of("gate", values)
    from assay.core.verdict import combine
    from assay.judge.policy import Policy
    from assay.present.terminal import verdict_panel

    policy = Policy.load(values["policy"])
    said: list[str] = []
    parts = _across(values, policy, said) if policy.speed_ratio or policy.accuracy_drop else []
    best: dict[str, Any] | None = None
    records: list[Any] = [r for part in parts for r in part[1]]
    if not parts or (values["run"] / "run.json").is_file():
        verdict, records, best = _chosen(values["run"], policy, alone=not parts)
        parts += [(verdict, records)] if verdict is not None else []
    if best:
        output.say(f"{best['label']}, batch {best['batch']}")
    reasons = [reason for verdict, _ in parts for reason in verdict.reasons]
    not_checked = [text for verdict, _ in parts for text in verdict.not_checked]
    verdict = combine(reasons, list(dict.fromkeys(not_checked)), best["candidate"] if best else None)
    output.show(verdict_panel(verdict))
    for text in said:
        output.say(text)
    output.result(records=records, verdict=verdict, best=best)
    return verdict.exit_code


def _across(values: dict[str, Any], policy: Any, said: list[str]) -> list[tuple[Any, list[Any]]]:
    """The verdicts on the rules about every Record; ``said`` gets what the import found wrong with the figures."""
    from assay.job.comparing import cases_of, contradictions, load_runs
    from assay.judge.accuracy_rules import judge_accuracies
    from assay.judge.device_rules import judge_devices

    runs = load_runs([values["run"]])
    said += contradictions(runs)
    wanted = values["model"]
    records = [r for run in runs for r in run.records]
    parts: list[tuple[Any, list[Any]]] = []
    if policy.speed_ratio:
        cases = [c for c in cases_of(runs, "throughput") if wanted in (None, c.model)]
        if wanted and not cases:
            raise BadInput(f"no speed of a model named {wanted!r} was measured in {values['run']}")
        parts.append((judge_devices(cases, policy.speed_ratio), records))
    if policy.accuracy_drop:
        named = [r for r in records if wanted in (None, r.subject.get("model")) or r.conditions.get("published")]
        parts.append((judge_accuracies(named, policy.accuracy_drop), [] if parts else records))
    return parts


def _chosen(run: Path, policy: Any, alone: bool) -> tuple[Any, list[Any], dict[str, Any] | None]:
    """The verdict on the run's chosen configuration; None where there is none and other rules were judged."""
    from assay.job.folder import load_run
    from assay.judge.gate import judge

    records, about = load_run(run)
    best = about.get("best")
    if not best and alone:
        raise BadInput(f"no configuration was chosen in {run}: there is nothing to judge")
    return (judge(best["candidate"], records, policy) if best else None), records, best
