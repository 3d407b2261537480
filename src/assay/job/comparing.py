"""Runs side by side: their speeds as cases, and their accuracies paired sample by sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from assay.core.dataset import Scored
from assay.core.errors import BadInput
from assay.core.record import Figure, Record, withheld
from assay.core.verdict import Verdict
from assay.job.loaded import LoadedRun, load_folder, run_folders
from assay.job.raw_series import series_of
from assay.job.report_evidence import diagnoses_beside, evidence_of
from assay.job.reporting import fronts_of
from assay.judge.cases import Case, case_of
from assay.judge.evidence import case_of as scenario_and_batch
from assay.measure.predictions import compare_predictions, read_predictions
from assay.measure.raw import path_of
from assay.present.columns import accuracy_text
from assay.present.evidence import Evidence
from assay.present.rows import Report, accuracy_of, numeric_of, table_rows
from assay.present.series import Series

SPEEDS = ("measure", "confirm")
_SAME_DATA = ("data", "samples", "task", "transform")
OTHER_FILES = "the data's files are not the same on disk, but every sample has the same id and target"


@dataclass(frozen=True)
class PairedAccuracy:
    """One configuration's accuracy in a run against the same configuration's in the base run, on the same
    samples.  ``drop`` is positive when this run is worse; withheld, with the reason, where it cannot be paired.
    ``note`` is what must be said of the pairing."""

    title: str
    run: str
    accuracy: Figure | None
    base: Figure | None
    drop: Figure
    mcnemar_p: float | None = None
    record: str | None = None
    note: str | None = None


def load_runs(paths: Sequence[Path]) -> list[LoadedRun]:
    """Every run named, or below a folder named.  Raises BadInput for a path without runs, and for a run
    given twice."""
    found: list[LoadedRun] = []
    for path in paths:
        folders = list(run_folders(path))
        if not folders:
            raise BadInput(f"there is no run in {path}", remedy="give folders that assay run or assay import wrote")
        found += [load_folder(folder) for folder in folders]
    places = [run.path.resolve() for run in found]
    if len(set(places)) < len(places):
        raise BadInput("a run is named twice: it would be compared with itself")
    return found


def contradictions(runs: Sequence[LoadedRun]) -> list[str]:
    """What an import found that cannot be true as written, or should not be relied on; notes are left out."""
    found = []
    for run in runs:
        for finding in run.about.get("findings") or ():
            if finding.get("severity") != "note":
                found.append(f"{finding.get('severity')}: {finding.get('text')} ({finding.get('where')})")
    return found


def names_of(runs: Sequence[LoadedRun]) -> list[str]:
    """Short names that tell the runs apart."""
    places = [run.path.resolve().parts for run in runs]
    names = [run.name for run in runs]
    for depth in range(2, max(map(len, places), default=0) + 1):
        if len(set(names)) == len(names):
            break
        names = ["/".join(parts[-depth:]) for parts in places]
    return names


def joint_report(runs: Sequence[LoadedRun], verdict: Verdict | None) -> Report:
    """One report of several runs: every row says which run it is of, and runs do not mix."""
    records: list[Record] = []
    series: dict[str, Series] = {}
    findings: list[Any] = []
    evidence = Evidence()
    names = names_of(runs)
    for name, run in zip(names, runs, strict=True):
        own = [
            replace(r, id=f"{name}/{r.id}", subject=_tagged(r, name))
            for r in (*run.records, *diagnoses_beside(run.path))
        ]
        series |= series_of(run.path, own)
        evidence = evidence.joined(evidence_of(run.path, own))
        records += own
        findings += run.about.get("findings") or ()
    report = Report(" against ".join(names), tuple(records), verdict, about={"findings": findings}, series=series)
    return replace(report, evidence=evidence, fronts=fronts_of(table_rows(report)))


def _tagged(record: Record, run: str) -> dict[str, Any]:
    subject = {**record.subject, "run": run}
    if subject.get("candidate"):
        subject["candidate"] = f"{run}/{subject['candidate']}"
    return subject


def cases_of(runs: Sequence[LoadedRun], figure: str) -> list[Case]:
    """The speeds that count, each with its accuracy state; one that was never compared with the reference
    is withheld, as in every report."""
    return [case for name, run in zip(names_of(runs), runs, strict=True) for case in _cases(name, run, figure)]


def _cases(name: str, run: LoadedRun, figure: str) -> list[Case]:
    cases = []
    for record in _counting(run.records, figure):
        candidate = record.subject.get("candidate")
        numeric = numeric_of(candidate, run.records)
        accuracy = accuracy_of(candidate, _at_batch(run.records, record))
        state = accuracy_text(accuracy, interval=False) if accuracy.state == "checked" else accuracy.state
        shown = record
        if not numeric.checked and not record.conditions.get("imported"):
            withheld_figure = withheld("samples/s", "speed withheld: numerics not checked")
            shown = Record(**{**vars(record), "figures": {**record.figures, figure: withheld_figure}})
        if figure in shown.figures or shown.status != "ok":
            cases.append(case_of(name, shown, figure, state))
    return cases


def _at_batch(records: Sequence[Record], record: Record) -> list[Record]:
    """An accuracy that was measured at one batch size says nothing of another."""
    batch = record.conditions.get("batch")
    return [r for r in records if r.kind == "evaluate" and r.conditions.get("batch") in (None, batch)]


def _counting(records: Sequence[Record], figure: str) -> list[Record]:
    """Imported Records all stand for themselves.  Of a run's own, a confirming run replaces the first one,
    and a rate is read with every stream busy, a latency from one caller, where both were measured."""
    own: dict[tuple[object, ...], dict[str, Record]] = {}
    found = [r for r in records if r.kind in SPEEDS and r.conditions.get("imported")]
    for kind in SPEEDS:
        for record in records:
            if record.kind == kind and not record.conditions.get("imported"):
                scenario, batch = scenario_and_batch(record)
                plain = scenario in ("latency", "offline")
                place = (record.subject.get("candidate") or record.id, batch, None if plain else scenario)
                own.setdefault(place, {})[scenario] = record
    order = ("offline", "latency") if figure == "throughput" else ("latency", "offline")
    for scenarios in own.values():
        wanted = next((scenarios[s] for s in order if s in scenarios), None)
        found.append(wanted or next(iter(scenarios.values())))
    return found


def paired_accuracies(runs: Sequence[LoadedRun]) -> list[PairedAccuracy]:
    """Every evaluated configuration of each later run against the first run's, from stored predictions."""
    if len(runs) < 2:
        return []
    names = names_of(runs)
    ground = {_configuration(r): r for r in _evaluations(runs[0])}
    found = []
    for name, run in zip(names[1:], runs[1:], strict=True):
        for record in _evaluations(run):
            if (base := ground.get(_configuration(record))) is not None:
                found.append(_pair(name, run, record, runs[0], base))
    return found


def _evaluations(run: LoadedRun) -> list[Record]:
    return [r for r in run.records if r.kind == "evaluate" and r.status == "ok"]


def _configuration(record: Record) -> tuple[object, ...]:
    return tuple(record.subject.get(n) for n in ("model", "engine", "precision", "threads", "streams"))


def _pair(name: str, run: LoadedRun, record: Record, base_run: LoadedRun, base: Record) -> PairedAccuracy:
    title = " ".join(str(record.subject[n]) for n in ("engine", "precision") if record.subject.get(n))
    figures = [r.figures.get(r.primary() or "") for r in (record, base)]
    differing = [n for n in _SAME_DATA if record.conditions.get(n) != base.conditions.get(n)]
    if differing:
        drop = withheld("fraction", f"not evaluated alike: {', '.join(differing)} differ")
        return PairedAccuracy(title, name, figures[0], figures[1], drop, record=record.id)
    if record.raw is None or base.raw is None:
        drop = withheld("fraction", "there are no stored predictions to pair")
        return PairedAccuracy(title, name, figures[0], figures[1], drop, record=record.id)
    try:
        first = read_predictions(path_of(base_run.path, base.raw), base.raw.sha256)
        second = read_predictions(path_of(run.path, record.raw), record.raw.sha256)
        paired = compare_predictions(first, second)
        note = _other_files(record, base, first, second)
    except BadInput as error:
        drop = withheld("fraction", error.message)
        return PairedAccuracy(title, name, figures[0], figures[1], drop, record=record.id)
    return PairedAccuracy(title, name, figures[0], figures[1], paired.drop, paired.mcnemar_p, record.id, note)


def _other_files(record: Record, base: Record, first: Sequence[Scored], second: Sequence[Scored]) -> str | None:
    """None when both were scored on the very same files.  A copy of them has other times: then ids and
    targets must agree, and that is said.  Raises BadInput when they do not."""
    if record.conditions.get("identity") == base.conditions.get("identity"):
        return None
    targets = {s.id: s.row.get("target") for s in first}
    if any(s.row.get("target") is None or s.row["target"] != targets[s.id] for s in second):
        raise BadInput("not evaluated alike: the data's identity differs, and the targets are not known to be the same")
    return OTHER_FILES
