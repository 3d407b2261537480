"""What changed between two runs, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay.job.loaded import LoadedRun
from assay.present.figures import format_figure
from assay.present.markdown import flatten
from assay.present.rows import Report, Row, table_rows

_ABOUT = ("model", "spec", "weights", "randomised", "device", "assay", "command")
_FIGURES = ("throughput", "latency.p50", "latency.p99")
_TOLD = ("verify", "evaluate", "measure", "confirm", "build")


@dataclass(frozen=True)
class Difference:
    """``group`` is ``run``, ``verdict``, ``environment`` or a configuration; None: it is not there at all."""

    group: str
    name: str
    first: str | None
    second: str | None


def differences(first: LoadedRun, second: LoadedRun) -> list[Difference]:
    """Everything in which two runs differ; figures are shown with their intervals, not judged."""
    found = _of("run", _facts(first.about), _facts(second.about))
    found += _of("verdict", _verdict(first), _verdict(second))
    found += _of("environment", _environment(first), _environment(second))
    one, two = _configurations(first), _configurations(second)
    for name in dict.fromkeys((*one, *two)):
        found += _of(name, one.get(name, {}), two.get(name, {}))
    return found


def _of(group: str, one: Mapping[str, str], two: Mapping[str, str]) -> list[Difference]:
    names = dict.fromkeys((*one, *two))
    return [Difference(group, n, one.get(n), two.get(n)) for n in names if one.get(n) != two.get(n)]


def _facts(about: Mapping[str, Any]) -> dict[str, str]:
    return {n: str(about[n]) for n in _ABOUT if about.get(n) is not None}


def _verdict(run: LoadedRun) -> dict[str, str]:
    found = {"state": run.verdict.state.replace("_", " ")} if run.verdict else {}
    if best := run.about.get("best"):
        found["chosen"] = f"{best.get('label')}, batch {best.get('batch')}"
    for reason in run.verdict.reasons if run.verdict else ():
        found[reason.limit] = f"{reason.state.replace('_', ' ')}: {reason.text}"
    return found


def _environment(run: LoadedRun) -> dict[str, str]:
    """What every Record agrees on; passing states such as the load are no property of the machine."""
    known: dict[str, set[str]] = {}
    for record in run.records:
        for name, value in flatten(record.environment):
            known.setdefault(name, set()).add(value)
    return {n: values.pop() for n, values in sorted(known.items()) if len(values) == 1 and n != "load_average"}


def _configurations(run: LoadedRun) -> dict[str, dict[str, str]]:
    """By title; where several settings of one engine were tried (``assay tune``), their titles name the settings."""
    rows = table_rows(Report(run.name, tuple(r for r in run.records if r.kind in _TOLD)))
    often = Counter(map(_title, rows))
    return {_title(row, settings=often[_title(row)] > 1): _shown(row) for row in rows}


def _title(row: Row, settings: bool = False) -> str:
    subject = row.subject
    parts = [str(subject[n]) for n in ("engine", "precision") if subject.get(n)]
    parts += [f"batch {row.batch}"] if row.batch is not None else []
    parts += [row.scenario] if row.scenario else []
    if settings:
        parts += [f"{subject[n]} {n}" for n in ("threads", "streams", "instances") if subject.get(n) is not None]
    return " ".join(parts)


def _shown(row: Row) -> dict[str, str]:
    found = {n: format_figure(row.speeds[n]) for n in _FIGURES if n in row.speeds}
    found["accuracy"] = format_figure(row.accuracy.figure) if row.accuracy.figure else row.accuracy.state
    found["numerics"] = row.numeric.name or "not checked"
    found["trust"] = row.label or "none"
    found["status"] = row.status
    return found
