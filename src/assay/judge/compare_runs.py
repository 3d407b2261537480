"""Speeds side by side: one line a configuration, one column a run, device or engine.  Pure.

Nothing unlike is ranked.  Figures under different conditions stand on different lines; where two on one
line were still not measured alike, their ratio is withheld with the differences named.  What is allowed
to differ is allowed by category, and then named beside the ratio.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from assay.core.errors import BadInput, UnknownName
from assay.core.record import Figure, withheld
from assay.judge.cases import CATEGORIES, DIE, Case, differences, one_sided_environment
from assay.judge.derive import disturbed, speedup

AXES = ("run", "device", "engine")
CONTRADICTED = 0.005
_SOFT = ("model", "precision", "scenario", "basis", "engine")


@dataclass(frozen=True)
class Asked:
    """``columns`` None: chosen by what varies.  ``base`` is the label of a column; None: the first."""

    figure: str = "throughput"
    columns: tuple[str, ...] | None = None
    allow: frozenset[str] = frozenset()
    base: str | None = None


@dataclass(frozen=True)
class Cell:
    """``ratio`` is against the base column's cell on the line: None in the base column and where there is
    nothing to divide by; withheld, with the reason, where the two were not measured alike."""

    case: Case
    ratio: Figure | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Line:
    """``title`` is what sets the configuration apart.  ``best`` is True for the line of every column's best
    batch size, ``claimed`` besides where that is the best of the tables, since some column has no log.
    ``cells`` are as many as there are columns; ``fastest`` is the place of the one whose interval no other's
    reaches, where all are alike and all have intervals."""

    title: str
    batch: int | None
    cells: tuple[Cell | None, ...]
    best: bool = False
    fastest: int | None = None
    claimed: bool = False


@dataclass(frozen=True)
class Comparison:
    """``common`` is what all lines share; ``refused`` names what was not ranked and why; ``ranked`` counts
    the ratios that are shown."""

    figure: str
    common: str
    columns: tuple[str, ...]
    base: int
    lines: tuple[Line, ...]
    refused: tuple[str, ...] = ()
    ranked: int = 0


@dataclass
class _Row:
    batch: int | None
    key: dict[str, Any]
    cases: dict[str, list[Case]] = field(default_factory=dict)
    best: bool = False
    claimed: bool = False


def compare(cases: Sequence[Case], asked: Asked) -> Comparison:
    """Lay the cases out.  Raises BadInput for nothing to compare or an unknown category, UnknownName for a
    base that is no column."""
    if wrong := sorted(asked.allow - set(CATEGORIES)):
        raise UnknownName("condition", wrong[0], CATEGORIES)
    if not cases:
        raise BadInput(f"no {asked.figure} was measured: there is nothing to compare")
    layout = _Layout.of(cases, asked)
    base = layout.place(asked.base)
    rows = _rows(cases, layout, asked.allow)
    free = "batch" in asked.allow
    best = _best_rows(_configurations(rows), 1 if free else 2)
    kept = ([] if free else rows) + best
    common = _common(kept)
    lines = [_line(row, layout, base, asked, common) for row in kept]
    wide = {line.title for line in lines if sum(c is not None for c in line.cells) > 1}
    lines.sort(key=lambda line: (line.title not in wide, line.title, line.best, line.claimed, line.batch or 0))
    refused = tuple(dict.fromkeys([*_withheld(lines, layout), *_apart(cases, lines, layout, base)]))
    ranked = sum(c is not None and c.ratio is not None and c.ratio.value is not None for x in lines for c in x.cells)
    shared = _words({n: v for n, v in common.items() if v is not None})
    return Comparison(asked.figure, shared, tuple(layout.labels), base, tuple(lines), refused, ranked)


@dataclass(frozen=True)
class _Layout:
    """Which axes make the columns, and every column's label in order."""

    axes: tuple[str, ...]
    labels: tuple[str, ...]
    engine_in_rows: bool
    names: dict[tuple[Any, ...], str]

    @classmethod
    def of(cls, cases: Sequence[Case], asked: Asked) -> _Layout:
        axes = _axes(cases, asked.columns)
        keys = list(dict.fromkeys(_column(c, axes) for c in cases))
        keys.sort(key=lambda key: key[-1] == DIE)
        engines = {key: {c.engine for c in cases if _column(c, axes) == key} - {None} for key in keys}
        in_rows = "engine" not in axes and _several_engines(cases, axes)
        alike = "engine" in axes or len({frozenset(found) for found in engines.values()}) <= 1
        names = {key: _label(key, set() if in_rows or alike else engines[key]) for key in keys}
        return cls(axes, tuple(dict.fromkeys(names.values())), in_rows, names)

    def column(self, case: Case) -> str:
        return self.names[_column(case, self.axes)]

    def place(self, label: str | None) -> int:
        """Of the column of this name, or the first whose name goes on after it (``T4 (one die)``); None: the first."""
        if label is None:
            return 0
        if label in self.labels:
            return self.labels.index(label)
        starting = [i for i, known in enumerate(self.labels) if known.startswith(f"{label} ")]
        if not starting:
            raise UnknownName("column", label, self.labels)
        return starting[0]


def _axes(cases: Sequence[Case], asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is not None:
        if wrong := [name for name in asked if name not in AXES]:
            raise UnknownName("column", wrong[0], AXES)
        return tuple(asked)
    several = [name for name in ("run", "device") if len({getattr(c, name) for c in cases} - {None}) > 1]
    if several == ["run", "device"] and _one_each(cases):
        return ("run",)
    return tuple(several) or ("engine",)


def _one_each(cases: Sequence[Case]) -> bool:
    """Whether every run was made on one device, so that naming the run names the device."""
    devices: dict[str, set[str | None]] = {}
    for case in cases:
        devices.setdefault(case.run, set()).add(case.device)
    return all(len(found - {None}) <= 1 for found in devices.values())


def _several_engines(cases: Sequence[Case], axes: Sequence[str]) -> bool:
    """Whether some column has one model on two engines: then the engine is part of the configuration."""
    found: dict[tuple[Any, ...], set[str]] = {}
    for case in cases:
        if case.engine is not None:
            found.setdefault((_column(case, axes), case.model), set()).add(case.engine)
    return any(len(engines) > 1 for engines in found.values())


def _column(case: Case, axes: Sequence[str]) -> tuple[Any, ...]:
    return (*(getattr(case, axis) for axis in axes), case.scope)


def _label(key: tuple[Any, ...], engines: Collection[str | None]) -> str:
    words = [str(part) if part is not None else "not stated" for part in key[:-1]]
    words += [str(e) for e in engines] if len(engines) == 1 else []
    return " ".join([*words, *(["(one die)"] if key[-1] == DIE else [])])


def _rows(cases: Sequence[Case], layout: _Layout, allow: Collection[str]) -> list[_Row]:
    """Group what may stand on one line.  A case that leaves something unstated joins the line it fits that
    has most columns; one that fits none makes its own."""
    soft = [n for n in _SOFT if n not in allow and (n != "engine" or layout.engine_in_rows)]
    ordered = sorted(cases, key=lambda c: (sum(getattr(c, n) is None for n in soft), c.standing))
    rows: list[_Row] = []
    for case in ordered:
        key = {n: getattr(case, n) for n in soft}
        strict = {"threads": case.threads, "streams": case.streams}
        fits = [r for r in rows if r.batch == case.batch and _fits(r.key, key | strict)]
        exact = [r for r in fits if all(r.key[n] == key[n] for n in soft)]
        row = next(iter(exact), None) or max(fits, key=lambda r: len(r.cases), default=None)
        if row is None:
            row = _Row(case.batch, key | strict)
            rows.append(row)
        row.key.update({n: value for n, value in key.items() if row.key[n] is None})
        row.cases.setdefault(layout.column(case), []).append(case)
    return rows


def _fits(row: dict[str, Any], case: dict[str, Any]) -> bool:
    """Alike in everything both state.  A setting (threads, streams) that is not set is its default."""
    for name, value in case.items():
        if row[name] != value and (name in ("threads", "streams") or None not in (row[name], value)):
            return False
    return True


def _configurations(rows: Sequence[_Row]) -> list[list[_Row]]:
    """Lines of one configuration at all its batch sizes.  Where some lines leave something unstated, they
    belong to the configuration they fit that has most columns, and take its name."""
    groups: dict[tuple[Any, ...], list[_Row]] = {}
    for row in rows:
        if row.batch is not None:
            groups.setdefault(tuple(sorted(row.key.items(), key=lambda kv: kv[0])), []).append(row)
    merged: list[list[_Row]] = []
    for group in sorted(groups.values(), key=lambda g: sum(v is None for v in g[0].key.values())):
        homes = [m for m in merged if _fits(m[0].key, group[0].key) and not _batches(m) & _batches(group)]
        home = max(homes, key=lambda m: len({c for row in m for c in row.cases}), default=None)
        if home is None:
            merged.append(list(group))
            continue
        home.extend(group)
        for row in group:
            row.key = dict(home[0].key)
    return merged


def _batches(rows: Sequence[_Row]) -> set[int | None]:
    return {row.batch for row in rows}


def _best_rows(configurations: Sequence[Sequence[_Row]], least: int) -> list[_Row]:
    """For each configuration, the best batch size of every column that was measured at ``least`` of them.

    A best of the tables is not set against a best of the logs: where the logs cover batch 1 alone, the difference
    would be that of the batch sizes.  A column that has tables alone makes a second line, of the tables' best.
    """
    made = []
    for group in configurations:
        best = _Row(None, group[0].key, best=True)
        for row in group:
            for column, found in row.cases.items():
                best.cases.setdefault(column, []).extend(found)
        best.cases = {
            column: found for column, found in best.cases.items() if len({case.batch for case in found}) >= least
        }
        made += _by_evidence(best)
    return made


def _by_evidence(best: _Row) -> list[_Row]:
    """The line of what has logs, and that of the tables where some column has those alone."""
    counted = {label: [c for c in found if c.value is not None] for label, found in best.cases.items()}
    alone = {label for label, found in counted.items() if found and all(c.claimed for c in found)}
    if not alone or len(alone) == len(best.cases):
        return [best] if best.cases else []
    logs = {label: found for label, found in best.cases.items() if label not in alone}
    tables = {label: [c for c in counted[label] if c.claimed] or found for label, found in best.cases.items()}
    return [replace(best, cases=logs), replace(best, cases=tables, claimed=True)]


def _line(row: _Row, layout: _Layout, base: int, asked: Asked, common: Mapping[str, Any]) -> Line:
    best = row.best
    chosen = [_chosen(row.cases.get(label, []), asked.figure, best) for label in layout.labels]
    ground = chosen[base]
    cells: list[Cell | None] = []
    for place, case in enumerate(chosen):
        if case is None:
            cells.append(None)
            continue
        notes = _alternatives(case, row.cases[layout.labels[place]], best)
        cell = Cell(case, notes=(*case.marks, *notes))
        cells.append(cell if place == base or ground is None else _against(cell, ground, asked, best))
    title = _words({n: v for n, v in row.key.items() if n not in common}) or "all"
    line = Line(title, None if best else row.batch, tuple(cells), best, claimed=row.claimed)
    return replace(line, fastest=_fastest(line, base))


def _chosen(cases: Sequence[Case], figure: str, best: bool) -> Case | None:
    """The case that stands for a cell: of the best standing, and there the latest; for a best batch, the
    best value among those that are more than a table's claim, where there are any."""
    found = [c for c in cases if c.value is not None] or list(cases)
    if not found:
        return None
    if best and found[0].value is not None:
        claimed = min(c.claimed for c in found)
        per_batch: dict[int | None, Case] = {}
        for case in sorted((c for c in found if c.claimed == claimed), key=lambda c: c.standing, reverse=True):
            per_batch[case.batch] = case
        return (max if figure == "throughput" else min)(per_batch.values(), key=lambda c: c.value or 0.0)
    standing = min(c.standing for c in found)
    return [c for c in found if c.standing == standing][-1]


def _alternatives(case: Case, others: Sequence[Case], best: bool) -> tuple[str, ...]:
    """What other evidence says of the same cell, where it says something else."""
    if case.value is None:
        return ()
    notes = []
    for other in others:
        same = best or other.batch == case.batch
        weaker = other.standing[0] > case.standing[0]
        if other is case or not same or other.value is None or not weaker:
            continue
        if best and (other.claimed == case.claimed or not _better(other, case)):
            continue
        if abs(other.value - case.value) > CONTRADICTED * abs(case.value):
            where = f" (batch {other.batch})" if best else ""
            word = "the table" if other.evidence == "table" else "the text"
            notes.append(f"{word} says {other.value:,.5g}{where}")
    return tuple(dict.fromkeys(notes))


def _better(other: Case, case: Case) -> bool:
    """A larger rate or a shorter time, by more than a contradiction would be."""
    assert other.value is not None and case.value is not None
    if case.figure.unit == "s":
        return other.value < case.value * (1 - CONTRADICTED)
    return other.value > case.value * (1 + CONTRADICTED)


def _against(cell: Cell, ground: Case, asked: Asked, best: bool) -> Cell:
    differing = differences(cell.case, ground)
    if best:
        differing.pop("batch", None)
    refused = [text for name, text in differing.items() if name not in asked.allow]
    if refused:
        return replace(cell, ratio=withheld("ratio", f"not measured alike: {'; '.join(refused)}"))
    figure = speedup(
        replace(cell.case.record, figures={asked.figure: cell.case.figure}),
        replace(ground.record, figures={asked.figure: ground.figure}),
        asked.figure,
        allow_unlike=True,
    )
    silent = ("no environment recorded for one of the two",) if one_sided_environment(cell.case, ground) else ()
    noise = disturbed(cell.case.record, ground.record) if figure.value is not None else ()
    notes = (*cell.notes, *(f"allowed: {text}" for text in differing.values()), *silent, *noise)
    return replace(cell, ratio=replace(figure, reason=None) if figure.value is not None else figure, notes=notes)


def _fastest(line: Line, base: int) -> int | None:
    """The one column that beats every other beyond doubt; None where something is missing, unlike or tied."""
    cells = [c for c in line.cells if c is not None]
    if len(cells) < 2 or line.cells[base] is None:
        return None
    if any(c.ratio is None or c.ratio.value is None for i, c in enumerate(line.cells) if c is not None and i != base):
        return None
    larger = cells[0].case.figure.unit != "s"

    spans = [(c.case.figure.low, c.case.figure.high) if c is not None else None for c in line.cells]
    for place, mine in enumerate(spans):
        others = [span for i, span in enumerate(spans) if i != place and span is not None]
        if mine is not None and all(_beyond(mine, other, larger) for other in others):
            return place
    return None


def _beyond(mine: tuple[float | None, float | None], other: tuple[float | None, float | None], larger: bool) -> bool:
    """Whether one interval lies wholly on the better side of another; never without both ends."""
    (low, high), (other_low, other_high) = mine, other
    if low is None or high is None or other_low is None or other_high is None:
        return False
    return low > other_high if larger else high < other_low


def _common(rows: Sequence[_Row]) -> dict[str, Any]:
    """What every line's configuration shares, which its title need not repeat."""
    first = rows[0].key if rows else {}
    return {n: v for n, v in first.items() if all(row.key[n] == v for row in rows)}


def _words(key: Mapping[str, Any]) -> str:
    parts = [str(key[n]) for n in ("model", "engine", "precision", "scenario", "basis") if key.get(n)]
    parts += [f"{key[n]} {n}" for n in ("threads", "streams") if key.get(n)]
    return " · ".join(parts)


def _withheld(lines: Sequence[Line], layout: _Layout) -> list[str]:
    found = []
    for line in lines:
        for label, cell in zip(layout.labels, line.cells, strict=True):
            if cell is not None and cell.ratio is not None and cell.ratio.value is None:
                found.append(f"{label}: {cell.ratio.reason}")
    return found


def _apart(cases: Sequence[Case], lines: Sequence[Line], layout: _Layout, base: int) -> list[str]:
    """Columns that never share a line with the base: the least in which they differ from it."""
    ground = [c for c in cases if layout.column(c) == layout.labels[base] and c.value is not None]
    found = []
    for place, label in enumerate(layout.labels):
        if place == base or any(line.cells[place] and line.cells[base] for line in lines):
            continue
        mine = [c for c in cases if layout.column(c) == label and c.value is not None]
        pairs = [differences(c, g) for c in mine for g in ground]
        if pairs:
            least = min(pairs, key=len)
            words = "; ".join(least.values()) or "no batch size, thread or stream setting in common"
            found.append(f"{label} and {layout.labels[base]} have nothing in common to rank: {words}")
    return found
