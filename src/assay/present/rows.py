"""The candidate table: one row per candidate × batch size (× scenario), joined from Records.

The rule of this file: **no speed without the accuracy state of that very candidate**.  Rows
join on ``subject["candidate"]``, the digest over artifact, engine, options and device; a
measurement whose candidate was never verified has its speeds withheld.  Imported figures are shown as
what they are, with "not checked" beside them: nobody here could have verified them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from assay.core.record import Figure, Record, withheld
from assay.core.verdict import Verdict
from assay.present.evidence import Evidence
from assay.present.series import Series

NOT_CHECKED_SPEED = "speed withheld: numerics not checked"
CLASSES = (
    "reference",
    "equal",
    "within tolerance",
    "within format cost",
    "suspicious",
    "outside tolerance",
    "wrong",
)
"""Numeric classes from best to worst; one that is not listed here counts as worst."""

ONE_CALLER, ALL_BUSY = "latency", "offline"
"""The two scenarios of a plain run: one caller, and every stream of the session busy.  They share a row:
throughput is the second's, latencies are the first's.  Any other scenario has rows of its own."""

_SPEEDS = {
    "throughput": ("samples/s", (ALL_BUSY, ONE_CALLER)),
    "speedup.eager": ("ratio", (ALL_BUSY, ONE_CALLER)),
    "speedup.torch_compile": ("ratio", (ALL_BUSY, ONE_CALLER)),
    "latency.p50": ("s", (ONE_CALLER, ALL_BUSY)),
    "latency.p90": ("s", (ONE_CALLER, ALL_BUSY)),
    "latency.p99": ("s", (ONE_CALLER, ALL_BUSY)),
    "latency.mean": ("s", (ONE_CALLER, ALL_BUSY)),
}
_SLOT = ("run", "engine", "precision", "device", "batch", "threads", "streams")
_ALWAYS = ("throughput", "latency.p50", "latency.p90", "latency.p99")


@dataclass(frozen=True)
class Report:
    """Everything a report is written from.

    ``chosen`` is the digest of the chosen candidate and ``chosen_batch`` its batch size (None: the
    one whose figures were confirmed, else all its rows).  ``about`` is the run's own description:
    ``command`` is what to type to do it again, ``weights`` where they come from, ``runs_code`` the
    files that ran code when opened, ``warnings`` and ``missing`` further sentences.

    What takes computing is computed by the caller: ``series`` holds, by record id, the raw timings made
    small enough to draw; ``fronts`` the places (in ``table_rows``) of the rows that no other row beats, by
    the name of the front: ``latency`` (throughput against p50) and ``accuracy`` (throughput against accuracy).
    ``evidence`` is what is shown besides the table; ``drops``, by the id of an evaluation, the drop that the verdict
    judges where the Record itself has none.
    """

    title: str
    records: tuple[Record, ...]
    verdict: Verdict | None = None
    chosen: str | None = None
    chosen_batch: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    series: Mapping[str, Series] = field(default_factory=dict)
    fronts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    evidence: Evidence = field(default_factory=Evidence)
    drops: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Accuracy:
    """``state`` is ``checked``, ``not checked`` or ``failed``; ``name`` the figure's, ``reason`` why there is none.
    ``lost`` is what ``drop`` is: a ``drop``, or a ``change`` where nobody said which way the figure is good."""

    state: str
    name: str | None = None
    figure: Figure | None = None
    drop: Figure | None = None
    reason: str | None = None
    record: str | None = None
    lost: str = "drop"


@dataclass(frozen=True)
class Numeric:
    """The worst class any verification of this candidate found, and its figures; ``name`` None: not checked.
    ``reference`` is the run's reference, which speed-ups are over, such as ``torch fp32``."""

    name: str | None = None
    relative_rms: Figure | None = None
    reason: str | None = None
    reference: str | None = None
    records: tuple[str, ...] = ()

    @property
    def checked(self) -> bool:
        return self.name is not None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``speeds`` has all names of ``_SPEEDS`` that were measured, withheld ones included; ``sources`` is the
    scenario each comes from and ``origins`` the id of its record; ``status`` is ``ok``,
    ``skipped``, ``failed`` or ``not measured``.
    """

    subject: dict[str, Any]
    batch: int | None
    scenario: str | None
    speeds: dict[str, Figure]
    sources: dict[str, str]
    memory: Figure | None
    accuracy: Accuracy
    numeric: Numeric
    status: str = "ok"
    reason: str | None = None
    label: str | None = None
    warnings: tuple[str, ...] = ()
    confirmed: bool = False
    chosen: bool = False
    record_ids: tuple[str, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def candidate(self) -> str | None:
        return self.subject.get("candidate")


def table_rows(report: Report) -> tuple[Row, ...]:
    """Rows in the order in which candidates first appear, batch sizes ascending; skipped and failed ones last."""
    records = report.records
    rows = [_measured_row(group, records) for group in _measurements(records)]
    seen = {row.candidate for row in rows}
    rows += [_unmeasured_row(r, records) for r in _first_of_each(records) if r.subject["candidate"] not in seen]
    order = _order_of_candidates(records)
    rows.sort(key=lambda row: (order.get(row.candidate, len(order)), row.batch or 0, row.scenario or ""))
    rows += _left_out(records, {row.subject["artifact"] for row in rows if row.subject.get("artifact")})
    return _mark_chosen([_with_judged_drop(row, report.drops) for row in rows], report)


def _with_judged_drop(row: Row, drops: Mapping[str, Figure]) -> Row:
    judged = drops.get(row.accuracy.record or "")
    return row if judged is None else replace(row, accuracy=replace(row.accuracy, drop=judged))


def _measurements(records: Sequence[Record]) -> list[list[Record]]:
    """The records whose speeds are published, one group a row: a fresh run made after the choice goes
    before any other (and stands alone), a later measurement before an earlier one."""
    groups: dict[tuple[Any, ...], dict[str, dict[str, Record]]] = {}
    for record in records:
        if record.kind in ("measure", "confirm"):
            scenario = _scenario(record)
            own = None if scenario in (ONE_CALLER, ALL_BUSY) else scenario
            # A measurement that names no candidate stands alone: nothing can be joined to it.
            place = (record.subject.get("candidate") or record.id, _batch(record), own)
            groups.setdefault(place, {}).setdefault(record.kind, {})[scenario] = record
    return [list(kinds.get("confirm", kinds.get("measure", {})).values()) for kinds in groups.values()]


def _scenario(record: Record) -> str:
    """How the speed was taken.  An imported one tells besides what its rate counts and what it rests on."""
    conditions = record.conditions
    parts = [conditions.get("scenario")]
    if conditions.get("imported"):
        parts += [conditions.get("basis"), conditions.get("scope"), conditions.get("how"), conditions.get("evidence")]
        plain = ("device", "measured", "log", "not stated", None)
        return ", ".join(str(part) for part in parts if part not in plain) or "imported"
    return str(parts[0] or ONE_CALLER)


def _of_batch(records: Sequence[Record], batch: int | None) -> list[Record]:
    """Without the accuracies that were found at another batch size alone, as logs tell them."""
    return [r for r in records if not (r.conditions.get("imported") and r.conditions.get("batch") not in (None, batch))]


def _batch(record: Record) -> int | None:
    batch = record.conditions.get("batch", record.subject.get("batch"))
    return batch if isinstance(batch, int) else None


def _measured_row(group: Sequence[Record], records: Sequence[Record]) -> Row:
    first = group[0]
    digest, batch = first.subject.get("candidate"), _batch(first)
    numeric, accuracy = numeric_of(digest, records, batch), accuracy_of(digest, _of_batch(records, batch))
    sources = {name: record for name in _SPEEDS if (record := _source(name, group)) is not None}
    speeds = {name: _speed(name, record) for name, record in sources.items()}
    if not numeric.checked and not first.conditions.get("imported"):
        speeds = _withhold(speeds, NOT_CHECKED_SPEED)
    bad = [r for r in group if r.status != "ok"]
    which = {r.id: "" if len(bad) == len(group) else f"{r.conditions.get('scenario')}: " for r in bad}
    reasons = dict.fromkeys(f"{which[r.id]}{r.reason}" for r in bad)
    memory = [r.figures["memory.peak"] for r in group if "memory.peak" in r.figures]
    evidence = (*(r.id for r in group), *numeric.records, *((accuracy.record,) if accuracy.record else ()))
    own = _scenario(first)
    imported = "imported" if first.conditions.get("imported") else None
    return Row(
        subject=dict(first.subject),
        batch=batch,
        scenario=None if own in (ONE_CALLER, ALL_BUSY) else own,
        speeds=speeds,
        sources={n: str(r.conditions["scenario"]) for n, r in sources.items() if r.conditions.get("scenario")},
        memory=memory[0] if memory else None,
        accuracy=accuracy,
        numeric=numeric,
        status=bad[0].status if bad else "ok",
        reason="; ".join(reasons) or None,
        label=", ".join(dict.fromkeys(r.label or "" for r in group)).strip(", ") or imported,
        warnings=tuple(dict.fromkeys(text for r in group for text in r.warnings)),
        confirmed=first.kind == "confirm",
        record_ids=evidence,
        origins={name: record.id for name, record in sources.items()},
    )


def _source(name: str, group: Sequence[Record]) -> Record | None:
    """The record a speed is taken from: the scenario it belongs to where that was run, else what there is.
    None for a figure that nobody measured and the table does not always show."""
    by_scenario = {r.conditions.get("scenario"): r for r in group}
    wanted = next((by_scenario[s] for s in _SPEEDS[name][1] if s in by_scenario), group[0])
    return wanted if name in _ALWAYS or name in wanted.figures else None


def _speed(name: str, record: Record) -> Figure:
    unit = _SPEEDS[name][0]
    if record.status != "ok":
        return withheld(unit, f"{record.status}: {record.reason}")
    absent = "not in the log" if record.conditions.get("imported") else "not measured in this scenario"
    return record.figures.get(name) or withheld(unit, absent)


def _withhold(speeds: Mapping[str, Figure], reason: str) -> dict[str, Figure]:
    """Every speed as a withheld figure; those a table always shows are there even if nothing was measured."""
    return {n: withheld(unit, reason) for n, (unit, _) in _SPEEDS.items() if n in speeds or n in _ALWAYS}


def _first_of_each(records: Sequence[Record]) -> Iterable[Record]:
    """The first record of each candidate that was verified or evaluated, for those never measured."""
    found: dict[str, Record] = {}
    for record in records:
        if record.kind in ("verify", "evaluate") and record.subject.get("candidate"):
            found.setdefault(record.subject["candidate"], record)
    return found.values()


def _unmeasured_row(record: Record, records: Sequence[Record]) -> Row:
    digest = record.subject["candidate"]
    numeric, accuracy = numeric_of(digest, records), accuracy_of(digest, records)
    return Row(
        subject=dict(record.subject),
        batch=None,
        scenario=None,
        speeds=_withhold({}, "not measured"),
        sources={},
        memory=None,
        accuracy=accuracy,
        numeric=numeric,
        status="not measured",
        record_ids=(*numeric.records, *((accuracy.record,) if accuracy.record else ())),
    )


def _left_out(records: Sequence[Record], shown: set[Any]) -> list[Row]:
    """What never became a candidate: exports and builds that were skipped or failed, each with its reason,
    and builds that nothing followed."""
    latest: dict[tuple[Any, ...], Record] = {}
    for record in records:
        if record.kind in ("export", "build"):
            subject = record.subject
            parts = (subject.get(name) for name in _SLOT)
            latest[(record.kind, *parts)] = record
    rows = []
    for record in latest.values():
        if record.status == "ok" and (record.kind == "export" or record.subject.get("artifact") in shown):
            continue
        status = "not measured" if record.status == "ok" else record.status
        row = Row(
            subject={"engine": record.kind, **record.subject},
            batch=_batch(record),
            scenario=None,
            speeds=_withhold({}, record.reason or "not measured"),
            sources={},
            memory=None,
            accuracy=Accuracy("not checked"),
            numeric=Numeric(),
            status=status,
            reason=record.reason,
            warnings=tuple(record.warnings),
            record_ids=(record.id,),
        )
        rows.append(row)
    return rows


def numeric_of(candidate: str | None, records: Sequence[Record], batch: int | None = None) -> Numeric:
    """The worst numeric class found for ``candidate``.

    Not checked when a verification failed to run, when all were skipped, or when the one at ``batch`` was.
    """
    mine = [r for r in records if r.kind == "verify" and candidate and r.subject.get("candidate") == candidate]
    latest = list({_verified_what(r): r for r in mine}.values())
    ids = tuple(r.id for r in latest)
    done = [r for r in latest if r.status == "ok"]
    blocking = [r for r in latest if r.status == "failed" or (r.status == "skipped" and _batch(r) == batch)]
    blocking += [] if done else latest
    if not latest:
        return Numeric(reason="no verification was run")
    if blocking:
        return Numeric(reason=f"verification {blocking[0].status}: {blocking[0].reason}", records=ids)
    if not all(isinstance(r.details.get("class"), str) for r in done):
        return Numeric(reason="the verification gives no class", records=ids)
    worst = max(done, key=lambda r: (_badness(r.details["class"]), r.value("numeric.relative_rms") or 0.0))
    reference = worst.conditions.get("run_reference") or worst.conditions.get("reference")
    return Numeric(worst.details["class"], worst.figures.get("numeric.relative_rms"), reference=reference, records=ids)


def _verified_what(record: Record) -> tuple[Any, ...]:
    batch = record.conditions.get("batch", record.conditions.get("batches"))
    return (repr(batch), record.conditions.get("data"))


def _badness(name: str) -> int:
    return CLASSES.index(name) if name in CLASSES else len(CLASSES)


def accuracy_of(candidate: str | None, records: Sequence[Record]) -> Accuracy:
    """What is known of ``candidate``'s accuracy on data, from its latest evaluation."""
    found = [r for r in records if r.kind == "evaluate" and candidate and r.subject.get("candidate") == candidate]
    if not found:
        return Accuracy("not checked", reason="no evaluation was run")
    record = found[-1]
    if record.status == "skipped":
        return Accuracy("not checked", reason=record.reason, record=record.id)
    if record.status == "failed":
        return Accuracy("failed", reason=record.reason, record=record.id)
    name = record.primary()
    if name is None:
        return Accuracy("not checked", reason="the evaluation gives no figure", record=record.id)
    figure = record.figures[name]
    if figure.value is None:
        return Accuracy("not checked", name, figure, reason=figure.reason, record=record.id)
    lost = "change" if record.details.get("higher_is_better", True) is None else "drop"
    return Accuracy("checked", name, figure, record.figures.get("accuracy.drop"), record=record.id, lost=lost)


def _order_of_candidates(records: Sequence[Record]) -> dict[str | None, int]:
    digests = [r.subject["candidate"] for r in records if r.subject.get("candidate")]
    return {digest: place for place, digest in enumerate(dict.fromkeys(digests))}


def _mark_chosen(rows: Sequence[Row], report: Report) -> tuple[Row, ...]:
    mine = [row for row in rows if report.chosen is not None and row.candidate == report.chosen]
    if report.chosen_batch is not None:
        mine = [row for row in mine if row.batch == report.chosen_batch]
    mine = [row for row in mine if row.confirmed] or mine
    return tuple(replace(row, chosen=any(row is m for m in mine)) for row in rows)
